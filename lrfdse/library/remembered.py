"""What a meter said of a library, kept for later runs: the same library on the same target is metered once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from lrfdse.base.codec import from_plain, to_plain
from lrfdse.base.keys import code_key, result_key
from lrfdse.ir.latency import ProgramMeasurement
from lrfdse.library.make import make_library
from lrfdse.meters.meter import METERS, auto_meter, open_meter
from lrfdse.targets import isa
from lrfdse.targets.catalog import noun_digest

if TYPE_CHECKING:
    from lrfdse.base.store import Store
    from lrfdse.library.layout import Layout
    from lrfdse.library.make import Origin
    from lrfdse.targets.target import Target


def measurement_key(
    layout: Layout,
    origin: Origin,
    target: Target,
    name: str,
    shape: Mapping[str, tuple[int, ...]],
    meter: str,
    *,
    weights_file: bool,
) -> str:
    """Return the key of everything that a library's latency depends on.

    Parameters
    ----------
    layout
        Its functions, in the order of execution, and where its arrays lie.
    origin
        The model.
    target
        The machine.
    name
        What symbols begin with.
    shape
        Sizes of inputs that the model leaves dynamic.
    meter
        Name of the meter; "auto" lets the target decide.
    weights_file
        Whether the weights lie in a file beside the library.
    """
    meter = auto_meter(target) if meter == "auto" else meter
    functions = [hashlib.sha256(step.compiled.object_code).hexdigest() for step in layout.steps]
    return result_key(
        "libraries",
        code=code_key(make_library),
        model=origin.sha256,
        shape=sorted((key, tuple(sizes)) for key, sizes in shape.items()),
        name=name,
        functions=functions,
        places=[[repr(place) for place in step.places] for step in layout.steps],
        weights=(weights_file, hashlib.sha256(layout.weights).hexdigest()),
        target=noun_digest(target),
        isa=isa.REGISTRY.identity(target.isa),
        meter=(METERS.identity(meter), open_meter(meter, target).key()),
    )


def known_measurement(cache: Store, key: str, parts: int) -> ProgramMeasurement | None:
    """Return what was kept, or None; of another number of parts it counts as damaged."""

    def read(value: object) -> ProgramMeasurement:
        found = from_plain(ProgramMeasurement, value)
        if len(found.parts) != parts:
            raise ValueError("another number of parts")
        return found

    return cache.get("libraries", key, read)


def remember(cache: Store, key: str, measured: ProgramMeasurement) -> None:
    """Keep what a meter said."""
    cache.put("libraries", key, to_plain(measured))
