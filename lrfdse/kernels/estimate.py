"""An analytic estimate of a scheduled step, in cycles: good enough to order schedules, not to report.

The machine is the target's table: one FMA unit of `fma_per_cycle`, registers filled at the same rate from the first
cache level, and a fixed FMA latency that enough independent accumulators must hide. The constants of the vector
extension of RISC-V are rounded from a least-squares fit to 157 scheduled steps without spills, each compiled and
measured by the modelled core of target `riscv64`; good schedules weighed more, and so weighed the error is 5 % (RMS).
No program repeats that fit; what the estimate leads to is measured by ``python -m benchmarks.kernels``
(results/kernels.md).
"""

from __future__ import annotations

import itertools
import math

from lrfdse.ir.storage import FLOAT32
from lrfdse.kernels.layout import Span, Tiling, register_group
from lrfdse.targets.target import Target

_FMA_LATENCY = 5.0
"""Cycles from an FMA to a dependent one: 4 to 5 in LLVM's models of the cores that ship as targets."""

_SHORT = 8
"""Inner iterations up to which LLVM 22 makes a loop over them straight code."""

_EXPOSED = 0.25
"""Share of loads or arithmetic, whichever is shorter, that is not hidden behind the other. Chosen, not measured."""

_EXPOSED_AHEAD = 0.13
"""Share of loads or arithmetic that is not hidden where operands are loaded ahead: from the fit."""

_AHEAD_LATENCY = 10.0
"""Cycles from one loop body to the next that nothing shortens, where operands are loaded ahead: from the fit."""


def fits(tiling: Tiling, target: Target) -> bool:
    """Return whether the accumulators of a tile and the operands that are live with them fit the vector registers.

    The margins are what LLVM 22 needs to compile such tiles without a spill.
    """
    s, step = tiling.schedule, tiling.step
    size, available = register_group(s.lanes, target.lanes), target.vector_registers
    rows, columns = s.out_tile, s.column_tile
    sums = rows * columns * tiling.chains
    if target.instruction_set.holds_bodies:
        # The operands of a whole loop body are in flight.
        vectors = s.unroll * {"out": rows, "columns": columns, "inner": rows + columns}[s.axis]
        scalars = s.unroll * {"out": columns, "columns": rows, "inner": 0}[s.axis]
        if target.lanes == 1:
            return sums + vectors + scalars <= available - 2
        # Folding a group, and moving one, takes another; v0 is of no use in a group.
        spare = 6 if s.axis == "inner" else (0, 0, 0, 4)[size - 1]
        return (sums + vectors) * size <= available - spare and scalars <= 28
    scattered = s.axis == "out" and step.columns > 1 and s.lanes > 1
    if s.axis == "inner" or scattered or tiling.depth <= _SHORT:
        # Horizontal sums and scattered stores hold parts of several accumulators. LLVM makes short loops straight and
        # loads far ahead, unless it folds the loads into the arithmetic.
        ahead = tiling.depth <= _SHORT and not target.instruction_set.folds_loads
        return sums * size <= available // (4 if ahead else 2)
    if target.lanes == 1:
        return sums <= available // 2 and sums + (rows + columns) * min(s.unroll, 4) <= available - 5
    return sums + min(rows, columns) + 1 < available - (4 if available == 32 else 0)


def crowds(tiling: Tiling, target: Target, distance: int) -> bool:
    """Return whether rows of a tile, read side by side, drive each other out of the first cache level.

    Rows whose distance is a multiple of a way's size share one set, which holds as many lines as there are ways; one of
    them is left to the weights that stream by.

    Parameters
    ----------
    tiling
        Tiles of a step.
    target
        The machine.
    distance
        Elements from one position along the batch axis to the next, as they are read.
    """
    way = 1024 * target.l1.kib // target.l1.ways
    rows = max(len(span.offsets) for span in tiling.batch)
    places = [FLOAT32.bytes_of(distance) * row % way // target.line for row in range(rows)]
    return max(places.count(place) for place in set(places)) > max(1, target.l1.ways - 1)


def gap(tiling: Tiling, target: Target, distance: int) -> int:
    """Return the elements that a copy of the input has behind each run of it: a cache line's where rows crowd."""
    return target.line // FLOAT32.bytes_of(1) if crowds(tiling, target, distance) else 0


def copy_cycles(tiling: Tiling, target: Target) -> float:
    """Return the estimated cycles of such a copy: every element is read from and written to the last cache level."""
    return 2 * FLOAT32.bytes_of(tiling.step.input_size) / target.last_level_bytes_per_cycle


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
    slot = target.lanes / target.fma_per_cycle
    fma = register_group(s.lanes, target.lanes) * slot
    weights, data = (0 if s.axis == "columns" else rows), (0 if s.axis == "out" else places)
    scalars = {"out": places, "columns": rows, "inner": 0}[s.axis]
    arithmetic = rows * places * fma
    sets = min(t.chains, s.unroll)
    if target.vectors.grouped:
        traffic = (weights + data) * _group_load(t, target)
        # Two instructions a cycle at best; a vector load takes another to form its address.
        issue = 0.65 * min(1.0, slot) * (rows * places + scalars + 1.6 * (weights + data) + 8 / s.unroll)
        longest = max(arithmetic, traffic, issue, (_AHEAD_LATENCY + fma - slot) / sets)
        body = longest + _EXPOSED_AHEAD * min(arithmetic, traffic)
    else:
        near = register_group(s.lanes, target.lanes) * slot
        streams = FLOAT32.bytes_of(t.weight_size) > 1024 * target.l1.kib
        refill = FLOAT32.bytes_of(target.lanes) / target.last_level_bytes_per_cycle if streams else 0
        traffic = weights * max(near, refill * register_group(s.lanes, target.lanes)) + data * near + scalars * slot
        longest = max(arithmetic, traffic, (_FMA_LATENCY + fma - slot) / sets)
        body = longest + _EXPOSED * max(0.0, arithmetic + traffic - longest) + 2 * slot / s.unroll
    return t.depth * body + _finish(t, target, rows * places, out.valid) * slot


def _group_load(t: Tiling, target: Target) -> float:
    """Return the cycles of a vector load: a group no faster than the next cache level delivers, one register slower."""
    slot = target.lanes / target.fma_per_cycle
    refill = FLOAT32.bytes_of(target.lanes) / target.last_level_bytes_per_cycle
    return max(1.5, register_group(t.schedule.lanes, target.lanes)) * max(slot, refill)


def _finish(t: Tiling, target: Target, sums: int, valid: int) -> float:
    """Return the instructions that zero, fold and store the accumulators."""
    s = t.schedule
    vector = register_group(s.lanes, target.lanes)
    fold = (t.chains - 1) * vector * sums
    vectors = target.vectors
    if s.axis == "inner":
        halving = 9 * vector + math.log2(s.lanes) if vectors.reducing else vector + 2 * math.log2(max(s.lanes, 2)) + 2
        return 10 + fold + sums * (vector + halving)
    scattered = s.axis == "out" and t.step.columns > 1 and s.lanes > 1
    if scattered:
        # One a cycle; without an instruction for it, lanes leave a vector one by one.
        stores = valid if vectors.strided else 3 * vector * valid
    elif vectors.grouped:
        stores = 4 * vector
    else:
        stores = (2 if valid == s.lanes else 4) * vector
    return 10 + fold + sums * (vector + stores)
