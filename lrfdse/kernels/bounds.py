"""The least time that a kernel can take."""

from __future__ import annotations

from lrfdse.ir.kernel import KernelSpec
from lrfdse.ir.latency import Regime
from lrfdse.targets.target import Target


def lower_bound_cycles(spec: KernelSpec, target: Target, regime: Regime) -> float:
    """Return the cycles below which no kernel of `spec` can run: FMAs at the peak rate, and weights through the memory.

    Warm weights come from the last-level cache, or from DRAM where they exceed it: all of them where it keeps what was
    used last, else those that it cannot hold. Warm weights that fit in the first level are free. Cold weights come from
    DRAM. What comes from DRAM does so while the core computes; what then passes from the last level to the first does
    on an out-of-order core, and an in-order core stops for it (docs/meter.md).
    """
    size = spec.choice.bytes
    level = target.last_level
    computing = spec.factorization.macs(spec.rows) / target.fma_per_cycle
    if regime == "cold" or (size > level.bytes and level.replacement == "lru"):
        through = float(size)
    else:
        through = max(0.0, size - level.bytes)
    dram = through / target.dram_bytes_per_cycle
    passing = size / target.last_level_bytes_per_cycle if through or size > 1024 * target.l1.kib else 0.0
    return max(computing, dram) + passing if target.in_order else max(computing, dram, passing)


def operator_bound_cycles(macs: int, read: int, written: int, target: Target) -> float:
    """Return the cycles below which no operator of a whole model can run: FMAs at the peak rate, and bytes moved once.

    Parameters
    ----------
    macs
        Its multiply-accumulates.
    read
        Bytes of its inputs and weights. Where they exceed the first cache level they come from the last one, each once,
        and what exceeds that one from DRAM.
    written
        Bytes of its outputs, which are stored to the last cache level where they exceed the first; what exceeds that
        one goes to DRAM.
    target
        The machine. Stores and DRAM overlap with computing; what an in-order core reads from the last level does not
        (docs/meter.md).
    """
    near, far = 1024 * target.l1.kib, target.last_level.bytes
    computing = macs / target.fma_per_cycle
    passing = read / target.last_level_bytes_per_cycle if read > near else 0.0
    filling = target.last_level_fill_bytes_per_cycle or target.last_level_bytes_per_cycle
    storing = written / filling if written > near else 0.0
    dram = max(0.0, read - far) / target.dram_bytes_per_cycle
    dram += max(0.0, written - far) / (target.dram_fill_bytes_per_cycle or target.dram_bytes_per_cycle / 2)
    if target.in_order:
        return max(computing, storing + dram) + passing
    return max(computing, passing + storing, dram)
