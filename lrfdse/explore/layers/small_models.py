"""Layers that no single kernel stands for: each compiled as a small model of its own, and timed by its operators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lrfdse.base.events import silent
from lrfdse.base.store import Store
from lrfdse.base.temporary import temporary_folder
from lrfdse.errors import InputError, KernelError
from lrfdse.ir.latency import Latency, Measurement

if TYPE_CHECKING:
    import onnx

    from lrfdse.targets.target import Target


def measured_model(
    model: onnx.ModelProto, target: Target, meter: str, only_products: bool = False
) -> tuple[str, Measurement]:
    """Compile a small model as a library, check its outputs, and add up its operators.

    Parameters
    ----------
    model
        The model.
    target
        The machine.
    meter
        Name of the meter.
    only_products
        Whether operators without multiply-accumulates are left out.

    Returns
    -------
    The schedules of the operators that multiply, and what all take together.

    Raises
    ------
    KernelError
        The operators cannot be compiled, crash, or compute wrong outputs.
    ToolError
        A tool is missing or failed.
    """
    from lrfdse.library.build import LibraryOptions, library_of

    with temporary_folder() as here:
        path = here / "layer.onnx"
        path.write_bytes(model.SerializeToString())
        try:
            made = library_of(path, target, LibraryOptions(meter=meter), Store(here / "cache"), silent)
        except InputError as error:
            raise KernelError(str(error).removeprefix(f"{path}: ")) from error
    facts = made.facts
    parts = [each for each in facts.operators if each.macs or not only_products]
    warm, cold = [each.warm for each in parts], [each.cold for each in parts]
    if facts.meter is None or None in warm or None in cold or facts.max_error is None:
        raise KernelError(f"meter {meter} gives no latency of whole models")
    schedule = "|".join(each.schedule for each in parts if each.macs)
    return schedule, Measurement(facts.meter.name, _sum(warm), _sum(cold), facts.max_error, facts.meter.details)


def _sum(parts: list[Latency | None]) -> Latency:
    known = [part for part in parts if part is not None]
    return Latency(sum(p.us for p in known), sum(p.low_us for p in known), sum(p.high_us for p in known))
