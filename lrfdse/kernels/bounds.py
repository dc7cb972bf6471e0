"""The least time that a kernel can take."""

from __future__ import annotations

from lrfdse.ir.kernel import KernelSpec
from lrfdse.ir.latency import Regime
from lrfdse.ir.storage import FLOAT32
from lrfdse.targets.target import Target


def lower_bound_cycles(spec: KernelSpec, target: Target, regime: Regime) -> float:
    """Return the cycles below which no kernel of `spec` can run: FMAs at the peak rate, or weights through the memory.

    Warm weights come from the last-level cache, or from DRAM where they exceed it: all of them where it keeps what was
    used last, else those that it cannot hold. Warm weights that fit in the first level are free. Cold weights come from
    DRAM.
    """
    size = FLOAT32.bytes_of(spec.factorization.params)
    level = target.last_level
    if regime == "cold" or (size > level.bytes and level.replacement == "lru"):
        memory = size / target.dram_bytes_per_cycle
    elif size > level.bytes:
        memory = max((size - level.bytes) / target.dram_bytes_per_cycle, size / target.last_level_bytes_per_cycle)
    elif size > 1024 * target.l1.kib:
        memory = size / target.last_level_bytes_per_cycle
    else:
        memory = 0.0
    return max(spec.factorization.macs(spec.rows) / target.fma_per_cycle, memory)
