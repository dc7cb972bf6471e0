"""Layers that no single kernel stands for: each compiled as a small model of its own, and timed by its operators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lrfdse.base.folders import cache_folder
from lrfdse.base.store import Store
from lrfdse.base.temporary import temporary_folder
from lrfdse.errors import InputError, KernelError
from lrfdse.ir.latency import Latency, Measurement

if TYPE_CHECKING:
    import onnx

    from lrfdse.meters.whole import WholeMeter
    from lrfdse.targets.target import Target


def measured_model(
    model: onnx.ModelProto, target: Target, meter: WholeMeter, only_products: bool = False
) -> tuple[str, Measurement]:
    """Compile a small model as the program of a library, check its outputs, and add up its operators.

    Parameters
    ----------
    model
        The model.
    target
        The machine.
    meter
        What takes the latencies.
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
    from lrfdse.library.build import LibraryOptions, operators_of

    with temporary_folder() as here:
        path = here / "layer.onnx"
        path.write_bytes(model.SerializeToString())
        try:
            # Candidates of a layer have operators in common, and the whole model of a design takes some again.
            measured, operators = operators_of(path, target, LibraryOptions(), meter, Store(cache_folder()))
        except InputError as error:
            raise KernelError(str(error).removeprefix(f"{path}: ")) from error
    parts = [each for each in operators if each.macs or not only_products]
    warm, cold = [each.warm for each in parts], [each.cold for each in parts]
    if None in warm or None in cold:
        raise KernelError(f"meter {meter.name} gives no latency of single operators")
    schedule = "|".join(each.schedule for each in parts if each.macs)
    return schedule, Measurement(measured.meter, _sum(warm), _sum(cold), measured.max_error, measured.details)


def _sum(parts: list[Latency | None]) -> Latency:
    known = [part for part in parts if part is not None]
    return Latency(sum(p.us for p in known), sum(p.low_us for p in known), sum(p.high_us for p in known))
