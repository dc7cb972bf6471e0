"""What bounds kernels: the core's arithmetic, its last-level cache, or DRAM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lrfdse.ir.latency import Bound, Measurement, Regime
    from lrfdse.targets.target import Target


def bound_of(kernels: Sequence[Measurement], regime: Regime, weight_bytes: int, target: Target) -> Bound | None:
    """Return what most of the kernels' cycles are spent on; None where the meter does not tell.

    Parameters
    ----------
    kernels
        The kernels of a layer's uses, metered.
    regime
        Whether weights are in the last-level cache before.
    weight_bytes
        Bytes of the weights that they read: where the last-level cache cannot hold them, memory is DRAM when warm, too.
    target
        The machine.
    """
    names = ("compute_cycles", f"{regime}_stream_cycles", f"{regime}_latency_cycles")
    told = [[kernel.details.get(name) for name in names] for kernel in kernels]
    known = [[float(value) for value in each if isinstance(value, (int, float))] for each in told]
    if not known or any(len(each) < len(names) for each in known):
        return None
    compute, stream, waiting = (sum(column) for column in zip(*known, strict=True))
    if compute >= stream + waiting:
        return "compute"
    return "cache" if regime == "warm" and weight_bytes <= target.last_level.kib * 1024 else "dram"
