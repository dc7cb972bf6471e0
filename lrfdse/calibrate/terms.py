"""What the model meter counts of many kernels, each once; what the cache knows costs nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from lrfdse.base.codec import from_plain
from lrfdse.base.events import Event, Listener
from lrfdse.base.keys import code_key, result_key
from lrfdse.targets import isa
from lrfdse.targets.catalog import noun_digest

if TYPE_CHECKING:
    from lrfdse.base.store import Store
    from lrfdse.calibrate.prediction import Terms
    from lrfdse.ir.kernel import KernelSpec
    from lrfdse.targets.target import Target


def counted_terms(
    kernels: Iterable[tuple[KernelSpec, str]], target: Target, meter: str, cache: Store, progress: Listener
) -> dict[tuple[KernelSpec, str], Terms]:
    """Return the terms of every kernel: from the cache where they are known, else counted.

    Parameters
    ----------
    kernels
        Specifications with the texts of their schedules.
    target
        What they are compiled for, and whose caches they move lines through.
    meter
        The key of the model meter on this target.
    cache
        Where terms are kept.
    progress
        Told of every kernel.

    Raises
    ------
    ToolError
        A tool of the model meter is missing or failed, or a kernel cannot be compiled or run.
    """
    from lrfdse.calibrate.prediction import Predictor, Terms

    common = {
        "code": code_key(Predictor),
        "target": noun_digest(target),
        "isa": isa.REGISTRY.identity(target.isa),
        "meter": meter,
    }
    wanted = list(dict.fromkeys(kernels))
    predictor: Predictor | None = None
    found = {}
    for done, (spec, schedule) in enumerate(wanted):
        progress(Event("predict", str(spec), done, len(wanted)))
        key = result_key("terms", spec=str(spec), schedule=schedule, **common)
        if (known := cache.get("terms", key, partial(from_plain, Terms))) is None:
            predictor = predictor or Predictor(target)
            known = predictor.terms(spec, schedule)
            cache.put("terms", key, dataclasses.asdict(known))
        found[spec, schedule] = known
    progress(Event("predict", "", len(wanted), len(wanted)))
    return found
