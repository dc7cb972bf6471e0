"""An analytic estimate of a scheduled step, in cycles: good enough to order schedules, not to report.

The machine is the target's table: one FMA unit of `fma_per_cycle`, registers filled at the same rate from the first
cache level, and a fixed FMA latency that enough independent accumulators must hide.
"""

from __future__ import annotations

import itertools
import math

from lrfdse.design import Target
from lrfdse.kernels.layout import Span, Tiling

_FMA_LATENCY = 5.0
"""Cycles from an FMA to a dependent one: 4 to 5 on the cores that ship as targets."""

_SHORT = 8
"""Inner iterations up to which a loop over them is straight code in the end."""

_OVERLAP = 0.25
"""Share of the shorter activities of a loop body that an in-order core fails to hide behind the longest."""


def group(lanes: int, target: Target) -> int:
    """Return the registers that a vector of `lanes` elements occupies; RVV groups are powers of two."""
    registers = -(-lanes // target.lanes)
    return 1 << (registers - 1).bit_length() if target.isa == "riscv64" else registers


def fits(tiling: Tiling, target: Target) -> bool:
    """Return whether the accumulators of a tile and the operands that are live with them fit the vector registers.

    The margins are what LLVM 22 needs to compile such tiles without a spill.
    """
    s, step = tiling.schedule, tiling.step
    size, available = group(s.lanes, target), target.vector_registers
    rows, columns = s.out_tile, s.column_tile
    sums = rows * columns * tiling.chains
    scattered = s.axis == "out" and step.columns > 1 and s.lanes > 1
    if s.axis == "inner" or scattered or tiling.depth <= _SHORT:
        # Horizontal sums and scattered stores hold parts of several accumulators. LLVM makes short loops straight and
        # loads far ahead, but for x86 it folds the loads into the arithmetic.
        ahead = tiling.depth <= _SHORT and target.isa != "x86_64"
        return sums * size <= available // (4 if ahead else 2)
    if target.lanes == 1:
        return sums <= available // 2 and sums + (rows + columns) * min(s.unroll, 4) <= available - 5
    if target.isa == "riscv64":
        # Scalars live in the float registers. LLVM keeps the next vectors in flight, more of them on the longer side.
        along, across = (columns, rows) if s.axis == "columns" else (rows, columns)
        flying = min(along, 2) + (along > across)
        return (sums + flying) * size <= available - (2 if size == 1 else 8)
    return sums + min(rows, columns) + 1 < available - (4 if available == 32 else 0)


def cycles(tiling: Tiling, target: Target) -> float:
    """Return the estimated cycles of one execution of a step with its weights in the last-level cache."""
    t = tiling
    tiles = [
        (o.count * p.count * q.count, _tile(t, target, o, len(p.offsets) * len(q.offsets)))
        for o, p, q in itertools.product(t.out, t.batch, t.columns)
    ]
    return sum(count * one for count, one in tiles)


def _tile(t: Tiling, target: Target, out: Span, places: int) -> float:
    s, rows = t.schedule, len(out.offsets)
    vector = group(s.lanes, target)
    slot = target.lanes / target.fma_per_cycle
    fma = vector * slot
    refill = 4 * target.lanes / target.last_level_bytes_per_cycle
    streamed = vector * max(slot, refill if 4 * t.weight_size > 1024 * target.l1.kib else 0.0)
    # RVV cores load a register group no faster than the next cache level delivers it, after a start-up.
    near = vector * max(slot, refill) + 1 if target.isa == "riscv64" and target.lanes > 1 else vector * slot
    weights = rows * (slot if s.axis == "columns" else max(near, streamed))
    data = places * (slot if s.axis == "out" else near)
    arithmetic = rows * places * fma
    waiting = (_FMA_LATENCY + fma - slot) / min(t.chains, s.unroll)
    traffic = weights + data
    longest = max(arithmetic, traffic, waiting)
    hidden_badly = _OVERLAP * max(0.0, arithmetic + traffic - longest)
    body = longest + hidden_badly + 2 * slot / s.unroll
    return t.depth * body + _finish(t, target, rows * places, out.valid) * slot


def _finish(t: Tiling, target: Target, sums: int, valid: int) -> float:
    """Return the instructions that zero, fold and store the accumulators."""
    s = t.schedule
    vector = group(s.lanes, target)
    fold = (t.chains - 1) * vector * sums
    if s.axis == "inner":
        return 10 + fold + sums * (vector + 2 * math.log2(max(s.lanes, 2)) + 2)
    scattered = s.axis == "out" and t.step.columns > 1 and s.lanes > 1
    if scattered:
        # Lanes leave a vector one by one, on RVV through a slide each.
        stores = (5 if target.isa == "riscv64" else 3) * vector * valid
    else:
        stores = (2 if valid == s.lanes else 4) * vector
    return 10 + fold + sums * (vector + stores)
