"""An analytic estimate of a scheduled step, in cycles: good enough to order schedules, not to report.

The machine is the target's table: one FMA unit of `fma_per_cycle`, one port for loads, and a fixed FMA latency that
enough independent accumulators must hide; an in-order core stops for what lies beyond its first cache level. The
constants of the vector extension of RISC-V are a least-squares fit to scheduled steps that were each compiled and
counted by the model meter's core of target `riscv64`: ``python -m benchmarks.estimate`` repeats the fit, and says how
well the estimate orders the schedules of every step (results/estimate.md).
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass

from lrfdse.ir.factorization import Step
from lrfdse.ir.storage import FLOAT32
from lrfdse.kernels.blocks import DENSE, Blocks, Runs
from lrfdse.kernels.conversions import CONVERTED, conversion, raised_fit
from lrfdse.kernels.layout import Span, Tiling, cover, register_group
from lrfdse.kernels.lines import stops
from lrfdse.kernels.registers import LOAD, RegisterFile, operands
from lrfdse.targets.target import Target

_FMA_LATENCY = 5.0
"""Cycles from an FMA to a dependent one: 4 to 5 in LLVM's models of the cores that ship as targets."""

_MOST_ROWS = 13
"""Single registers of the out axis that may meet one place: with 14 LLVM 22 spills 2 registers on the P670, with 15 it
spills 12."""

_SHORT = 8
"""Inner iterations up to which LLVM 22 makes a loop over them straight code."""

_WIDENED_HALVES = 2.0
"""FMAs of one register that making a register of floats of float16 takes on the vector extension of RISC-V: on the X60
four cycles for two registers. Of other machines half of it: one instruction."""

_MET_VECTORS = 5.0
"""Cycles for each register of data where vectors of int8 weights meet them, on the X60 by the model meter: tiles of 2,
4 and 8 times two registers take 20, 36 and 58 cycles an iteration, of which the weights of 4 and 8 take 25 and 50."""

_SPARE_CONVERTING = 4
"""Groups of registers that hold int8 weights on their way to floats: with 3 sums of four registers LLVM 22 spills none
on the X60, with 4 it spills 26."""

_CONVERTING = {"int8": _SPARE_CONVERTING, "float16": 2}
"""Registers for weights on their way to floats on machines without groups: with 13 sums and AVX2's 16 registers LLVM 22
spills 22 times for float16, with 7 it spills none."""

_NOT_AHEAD = 0.7
"""Share of the loads that is not hidden behind FMAs where weights lie on the lanes and no register is left to load them
ahead, on the X60 by the model meter: tiles of 2 x 15 and 4 x 7 registers take 41 and 40 cycles an iteration, of which
30 and 28 are FMAs, with 19 and 15 of loads."""

_SECTION = 23.0
"""FMAs of one register that another section of the inner axis takes besides its products: 23 in tiles of 2 x 9 and of
2 x 11 on the X60 by the model meter (windows of 7x3)."""

_PUT_OUT = 1.5
"""Lines that are waited for where a part of a row begins: itself, and now and then one of the weights that it put out
of the first level. On the X60 by the model meter, 1.3 to 1.9 with inputs of 150 to 300 KiB."""

_EXPOSED = 0.25
"""Share of loads or arithmetic, whichever is shorter, that is not hidden behind the other. Chosen, not measured."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What a step takes besides its FMAs or its loads, on the vector extension of RISC-V.

    In units of the time that an FMA of one register takes. The numbers are rounded from a fit to 420 schedules of the
    steps of results/estimate.md and of seven products at 12 to 32 rows, of 5 % (RMS).
    """

    exposed: float = 0.07
    """Share of the loads that is not hidden behind FMAs, by single registers."""
    exposed_by_groups: float = 0.21
    """Share of the loads that is not hidden behind FMAs, by groups of registers."""
    exposed_arithmetic: float = 0.03
    """Share of the FMAs that is not hidden behind loads."""
    reload: float = 0.30
    """One iteration, for each register of a group, where operands are loaded anew after they were used."""
    exposed_sums: float = 0.12
    """Share of FMAs and loads, whichever are fewer, that is not hidden where vectors meet vectors."""
    latency: float = 7.7
    """From a body to the next through the same accumulators."""
    tile: float = 6.5
    """Beginning and end of a register tile."""
    store: float = 2.8
    """Storing a register of sums."""
    scattered: float = 1.1
    """Storing an element where they lie apart."""
    single: float = 44.0
    """Storing an element of a vector that is not full."""
    summing: float = 8.4
    """Adding up a vector across its lanes, and storing it."""
    issue: float = 0.51
    """One instruction."""


FITTED = Costs()
"""The costs that schedules are ordered by on cores that LLVM knows."""

_UNKNOWN = Costs(
    exposed=0.25,
    exposed_by_groups=0.42,
    exposed_arithmetic=0.09,
    reload=0.35,
    exposed_sums=0.35,
    latency=7.2,
    tile=22.0,
    store=0.8,
    scattered=1.0,
    single=15.0,
    summing=12.6,
    issue=0.44,
)
"""Those on cores whose instructions LLVM does not order: fitted to code of the X60 that was not ordered once more when
registers were given. By `FITTED` the schedules that come first on the C908 take 18 % longer, by the model meter."""


def fits(tiling: Tiling, target: Target) -> bool:
    """Return whether the accumulators of a tile and the operands that are live with them fit the vector registers.

    The margins are what LLVM 22 needs to compile such tiles without a spill.
    """
    s, step = tiling.schedule, tiling.step
    size, available = register_group(s.lanes, target.lanes), target.vector_registers
    rows, columns = s.out_tile, s.column_tile
    sums = rows * columns * tiling.chains
    if target.instruction_set.holds_bodies:
        # The operands of a whole loop body are in flight, or of two iterations where these take turns.
        body = RegisterFile.of(target).body(s, rows, columns, tiling.storage)
        turns = min(s.unroll, 2) if body.rotates else s.unroll
        vectors, scalars = (turns * number for number in operands(s, rows, columns))
        if tiling.storage.scaled and target.lanes > 1:
            if conversion(s, target).once_a_body:
                return raised_fit(tiling, body.sets, size, target)
            others = vectors // turns - (0 if s.axis == "columns" else rows)
            # Data are loaded ahead as early as weights, and live longer: of a group of four there is no room for them.
            held = rows * columns * body.sets + (3 * others if s.axis == "inner" else others) + _SPARE_CONVERTING
            return held * size <= available - size and scalars <= 28
        if target.lanes == 1:
            return sums + vectors + scalars <= available - 2
        if s.axis == "out" and size == 1 and columns == 1 and rows > _MOST_ROWS:
            return False
        # Folding a group, and moving one, takes another; v0 is of no use in a group.
        spare = 6 if s.axis == "inner" else (0, 0, 0, 4)[size - 1]
        # LLVM has the float16 of a body and the floats that they become at the same time.
        read = vectors * max(1, size // 2) if tiling.storage.element == "float16" else 0
        return (sums + vectors) * size + read <= available - spare and scalars <= 28
    scattered = s.axis == "out" and step.columns > 1 and s.lanes > 1
    if s.axis == "inner" or scattered or tiling.depth <= _SHORT:
        # Horizontal sums and scattered stores hold parts of several accumulators. LLVM makes short loops straight and
        # loads far ahead, unless it folds the loads into the arithmetic.
        ahead = tiling.depth <= _SHORT and not target.instruction_set.folds_loads
        return sums * size <= available // (4 if ahead else 2)
    if target.lanes == 1:
        return sums <= available // 2 and sums + (rows + columns) * min(s.unroll, 4) <= available - 5
    spare = (4 if available == 32 else 0) + _CONVERTING.get(tiling.storage.element, 0)
    return sums + min(rows, columns) + 1 < available - spare


def cycles(
    tiling: Tiling, target: Target, costs: Costs | None = None, runs: Runs = DENSE, distance: int | None = None
) -> float:
    """Return the estimated cycles of one execution of a step with its weights in the last-level cache.

    Parameters
    ----------
    tiling
        The scheduled step.
    target
        The machine.
    costs
        Those of the vector extension of RISC-V, None for the ones of the target; other machines have constants of their
        own.
    runs
        Where positions and inputs lie, which counts where the schedule has blocks.
    distance
        Elements from one position along the batch axis to the next, as they are read; None where they lie side by side.
    """
    if costs is None:
        costs = FITTED if target.is_scheduled else _UNKNOWN
    if tiling.schedule.inner_block:
        return _blocked(tiling, target, costs, runs)
    t = tiling
    computing = _computing(t, target, costs)
    if target.vectors.grouped:
        computing += _between_sections(t, target, runs.sections, _SECTION)
    return computing + (stops(t, target, distance, runs) if target.in_order else 0.0)


def _computing(t: Tiling, target: Target, costs: Costs) -> float:
    """Return the estimated cycles of all tiles with all operands in the first cache level."""
    tiles = [
        (o.count * p.count * q.count, _tile(t, target, costs, o, len(p.offsets) * len(q.offsets)))
        for o, p, q in itertools.product(t.out, t.batch, t.columns)
    ]
    return sum(count * one for count, one in tiles)


def _between_sections(t: Tiling, target: Target, sections: tuple[int, ...], one: float) -> float:
    """Return the estimated cycles of all tiles where each section of the inner axis but one takes so many FMAs."""
    tiles = sum(span.count for span in t.out) * sum(span.count for span in t.batch)
    return tiles * (math.prod(sections) - 1) * one * target.lanes / target.fma_per_cycle


def _blocked(t: Tiling, target: Target, costs: Costs, runs: Runs) -> float:
    """Return the estimated cycles of one line of a step in blocks."""
    step, lanes, blocks = t.step, target.lanes, Blocks.of(t, runs)
    slot = lanes / target.fma_per_cycle
    part = dataclasses.replace(step, inner=blocks.inner)
    computing = _computing(dataclasses.replace(t, step=part, inner=cover(blocks.inner, 1, 1)), target, costs)
    computing *= step.inner / blocks.inner
    width = sum(span.count * t.panel_width(span) for span in t.out)
    waiting = (blocks.parts - 1) * width * step.batch
    computing += waiting / lanes * LOAD * slot
    if target.vectors.grouped:
        computing += blocks.parts * _between_sections(t, target, blocks.sections, _SECTION)
    copied = step.input_size if blocks.copy else runs.copied / max(1, runs.lines)
    computing += copied * ((LOAD * slot / lanes + 1) if target.vectors.strided else 2)
    if not target.in_order:
        return computing
    panels = math.ceil(sum(span.count for span in t.out) / t.schedule.out_block)
    computing += step.batch * blocks.parts * panels * _unseen(step, target) if t.schedule.in_place else 0.0
    met = runs.covered or step.input_size
    near = blocks.inner * t.schedule.out_block * t.schedule.out_tile * t.schedule.lanes
    if FLOAT32.bytes_of(near + runs.alive * blocks.inner // step.inner) <= 1024 * target.l1.kib:
        # What a line meets is still there when the next one does.
        met = runs.fresh or step.input_size
    moved = t.weight_size * blocks.groups_of_a_line + met * panels + copied + waiting
    return computing + FLOAT32.bytes_of(1) * moved / target.last_level_bytes_per_cycle


def _unseen(step: Step, target: Target) -> float:
    """Return the cycles that a core in order waits for the beginning of a part of a row, which no prefetcher sees.

    Inputs that take more than half of the last level are partly in DRAM, those of one and a half times its size are.
    """
    share = FLOAT32.bytes_of(step.input_size) / target.last_level.bytes
    return _PUT_OUT * target.last_level_latency + min(1.0, max(0.0, share - 0.5)) * target.dram_latency


def _tile(t: Tiling, target: Target, costs: Costs, out: Span, places: int) -> float:
    if target.vectors.grouped:
        return _grouped_tile(t, target, costs, out, places)
    if target.halves:
        return _halved_tile(t, target, out, places)
    s, rows = t.schedule, len(out.offsets)
    slot = target.lanes / target.fma_per_cycle
    fma = register_group(s.lanes, target.lanes) * slot
    weights, data = (0 if s.axis == "columns" else rows), (0 if s.axis == "out" else places)
    scalars = operands(s, rows, places)[1]
    arithmetic = rows * places * fma
    if t.storage.scaled:
        arithmetic += (CONVERTED.widened + 1) * (weights * fma or rows * slot)
    elif t.storage != FLOAT32:
        arithmetic += _WIDENED_HALVES / 2 * (weights * fma or rows * slot)
    sets = min(t.chains, s.unroll)
    near = register_group(s.lanes, target.lanes) * slot
    streams = t.weight_bytes > 1024 * target.l1.kib
    # An in-order core stops for what it reads from there, which `stops` counts.
    refill = t.storage.bytes_of(target.lanes) / target.last_level_bytes_per_cycle
    refill = refill if streams and not target.in_order else 0
    traffic = weights * max(near, refill * register_group(s.lanes, target.lanes)) + data * near + scalars * slot
    longest = max(arithmetic, traffic, (_FMA_LATENCY + fma - slot) / sets)
    body = longest + _EXPOSED * max(0.0, arithmetic + traffic - longest) + 2 * slot / s.unroll
    return t.depth * body + _finish(t, target, rows * places, out.valid) * slot


def _halved_tile(t: Tiling, target: Target, out: Span, places: int) -> float:
    """Return the cycles of a tile where arithmetic waits for the loads of whole registers, not for those of halves."""
    s, rows = t.schedule, len(out.offsets)
    slot = target.lanes / target.fma_per_cycle
    sums, (vectors, scalars) = rows * places, operands(s, rows, places)
    is_half = 2 * s.lanes <= target.lanes
    arithmetic = sums * slot * (0.5 if is_half else 1.0)
    loads = (vectors if is_half else 0) + scalars
    waited = 0.0 if is_half else LOAD * vectors * slot
    issued = (sums + loads) * slot / 2
    sets = min(t.chains, s.unroll)
    longest = max(arithmetic, loads * slot, issued, (_FMA_LATENCY - waited) / sets)
    # Halves that have no registers to be loaded ahead into are used, by several FMAs, before they are there.
    late = is_half and scalars > 1 and RegisterFile.of(target).body(s, rows, places).carried == 0
    body = waited + longest + (min(arithmetic, loads * slot) if late else 0.0) + 2 * slot / s.unroll
    return t.depth * body + _finish(t, target, sums, out.valid) * slot


def _grouped_tile(t: Tiling, target: Target, costs: Costs, out: Span, places: int) -> float:
    s, rows = t.schedule, len(out.offsets)
    slot = target.lanes / target.fma_per_cycle
    group = register_group(s.lanes, target.lanes)
    sums, (vectors, scalars) = rows * places, operands(s, rows, places)
    shape = RegisterFile.of(target).body(s, rows, places, t.storage)
    sets = min(shape.sets, t.depth)
    arithmetic, loads = float(group * sums), LOAD * group * vectors + scalars / slot
    # A vector load takes another instruction to form its address, a loop a few at its end.
    issue = costs.issue * min(1.0, 1 / slot) * (sums + 1.6 * vectors + scalars + 8 / shape.unroll)
    before = 0.0
    if t.storage.scaled:
        converted = 0 if s.axis == "columns" else rows
        made = conversion(s, target)
        arithmetic += group * made.arithmetic(converted, sums, shape.unroll)
        loads -= LOAD * group * converted * (1 - t.storage.bytes_of(1) / FLOAT32.bytes_of(1))
        # Where weights are scalars, each takes two instructions more.
        issue += costs.issue * min(1.0, 1 / slot) * 2 * (rows - converted)
        loads = max(loads, converted * max(made.widened * group, made.least))
        before = made.before / shape.unroll
        if rows == 1 or places > 1:
            before += made.exposed * min(arithmetic, loads)
        before += _MET_VECTORS * group * places if s.axis == "inner" else 0.0
    elif t.storage != FLOAT32:
        converted = 0 if s.axis == "columns" else rows
        arithmetic += _WIDENED_HALVES * group * converted
        loads -= LOAD * group * converted * (1 - t.storage.bytes_of(1) / FLOAT32.bytes_of(1))
        issue += costs.issue * min(1.0, 1 / slot) * (rows - converted)
    longest = max(arithmetic, loads, issue, (costs.latency + group - 1) / sets)
    if t.storage.scaled:
        exposed = before
    elif s.axis == "inner":
        exposed = costs.exposed_sums * min(arithmetic, loads)
    elif arithmetic >= loads and shape.carried == 0 and s.axis == "out" and target.in_order:
        exposed = _NOT_AHEAD * loads
    elif arithmetic >= loads:
        exposed = (costs.exposed if group == 1 else costs.exposed_by_groups) * loads
    else:
        exposed = costs.exposed_arithmetic * arithmetic
    reloaded = 0.0 if shape.rotates or t.storage.scaled else costs.reload * group
    body = longest + exposed + reloaded
    if s.axis == "inner":
        stored = costs.summing + group
    elif s.axis == "out" and t.step.columns > 1:
        stored = costs.scattered * out.valid
    elif s.axis == "out" and out.valid != s.lanes:
        stored = costs.single * out.valid
    else:
        stored = costs.store * group
    return (t.depth * body + costs.tile + sums * ((sets - 1) * group + stored)) * slot


def _finish(t: Tiling, target: Target, sums: int, valid: int) -> float:
    """Return the instructions that zero, fold and store the accumulators."""
    s = t.schedule
    vector = register_group(s.lanes, target.lanes)
    fold = (t.chains - 1) * vector * sums
    if s.axis == "inner":
        return 10 + fold + sums * (2 * vector + 2 * math.log2(max(s.lanes, 2)) + 2)
    scattered = s.axis == "out" and t.step.columns > 1 and s.lanes > 1
    # Lanes leave a vector one by one.
    stores = 3 * vector * valid if scattered else (2 if valid == s.lanes else 4) * vector
    return 10 + fold + sums * (vector + stores)
