"""Which register tilings to try for a kernel: enumerated, estimated, and thinned to a few that differ."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

from lrfdse.ir.factorization import Step
from lrfdse.ir.kernel import KernelSpec, Schedule, StepSchedule
from lrfdse.ir.storage import FLOAT32, Storage
from lrfdse.kernels.blocks import DENSE, Runs
from lrfdse.kernels.estimate import cycles, fits
from lrfdse.kernels.layout import Tiling
from lrfdse.kernels.lines import copy_cycles, crowds, crowds_in_place
from lrfdse.kernels.registers import RegisterFile
from lrfdse.targets.target import Target

_MOST_ROWS = 16
"""Vectors or scalars of one axis in a register tile at most: half of 32 registers. Chosen, not measured."""

_MOST_UNROLLED = 32
"""FMAs in one loop body beyond which code grows and nothing is gained. Chosen, not measured."""

_MOST_UNROLLED_IN_TURNS = 64
"""The same where sets of operands take turns: on the X60 four iterations of a tile of 16 take 6 % less than two."""

_WORTH = 2.0
"""A variant estimated slower than the best by more than this factor is no alternative. Chosen, not measured."""

_LEAST_POSITIONS = 8
"""Positions along the batch axis from which blocks are tried. Chosen, not measured."""

_BLOCK_UNROLLED = 4
"""Inner iterations in a body of a step in blocks: on the X60 4x3 vectors take 13 % less with four than with two, 4x5
take 2 % less (256 to 1024 at 128 rows, modelled)."""

_NEAR = 0.6
"""Share of the most positions of a group that equal groups have at least. Chosen, not measured."""

_MOST_SUMS_UNROLLED = 12
"""Sums of a tile in blocks with more, where scalars have registers of their own: two iterations a body have a third
less code. On the X60 4x4 and 2x8 take 0 to 3 % less time with two than with four, larger ones 1 % less or more (3x3
windows, 256 to 1024 at 128 rows; modelled)."""

_UNROLLED_NEVERTHELESS = (4, 5)
"""The exception: this tile takes 1 % more in the mean with two, and 6 % at most (NudeNet, MobileNetV2, modelled)."""

_MOST_BLOCKED = 4
"""Registers of weights that meet one place in a step in blocks where registers form groups: 5x4 takes the X60 11 to
13 % longer than 4x4, and the estimate says as long (256x1024 at 128 rows, 512x512 at 64, modelled)."""

_UNSURE = 1.2
"""What estimates of blocks are multiplied by where they are rough: of cores whose costs were not fitted (160x960 at 49
rows on the A53: 0.87 times as long as without blocks by the estimate, 1.01 times by the meter), and of convolutions
where LLVM does not know the core (3x3, 128 channels at 28x28 on the C908: 0.93 and 1.12 times)."""

_DOUBT = 0.3
"""Share of a step's cycles by which its estimate may be wrong: another tile may be faster by that much.

Chosen well above the error of the fit (results/estimate.md); not tuned."""

_WORTHWHILE = 0.01
"""Share of a kernel's cycles that a change must promise to be tried. Chosen, not measured."""


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """Another schedule for one step of a kernel."""

    step: int
    schedule: StepSchedule
    promise: float
    """Cycles that the change may gain at most, if the estimates of the step are as wrong as they get."""


def schedules(spec: KernelSpec, target: Target, count: int = 4) -> list[Schedule]:
    """Return up to `count` schedules of a kernel, the best estimate of every step first.

    The estimate weighs padded MACs, loads for each FMA, accumulators against the FMA latency and the stores; a tile's
    accumulators and operands fit the vector registers. Each of the others changes one step of the first, the change
    that promises most before the others.
    """
    first, rest = changes(spec, target, count)
    return [first, *(changed(first, change) for change in rest)][:count]


def changes(spec: KernelSpec, target: Target, count: int) -> tuple[Schedule, list[Change]]:
    """Return the schedule of the best estimates, and changes of one step each, the most promising first.

    At most `count` alternatives of a step are considered.
    """
    steps = spec.factorization.steps(spec.rows)
    # The input of the first step is copied where its rows crowd, unless it is anyway.
    copies = spec.factorization.inputs == spec.inputs
    kinds = [(step, copies and i == 0) for i, step in enumerate(steps)]
    ranked = {
        kind: alternatives(kind[0], target, count, copies=kind[1], storage=spec.storage)
        for kind in dict.fromkeys(kinds)
    }
    found = [
        Change(i, s, _DOUBT * ranked[kind][0][0] - (estimate - ranked[kind][0][0]))
        for i, kind in enumerate(kinds)
        for estimate, s in ranked[kind][1:]
    ]
    least = _WORTHWHILE * sum(ranked[kind][0][0] for kind in kinds)
    found = [change for change in found if change.promise > least]
    found.sort(key=lambda change: (-change.promise, change.step, str(change.schedule)))
    return Schedule(tuple(ranked[kind][0][1] for kind in kinds)), found


def changed(schedule: Schedule, change: Change) -> Schedule:
    """Return `schedule` with one step changed."""
    steps = list(schedule.steps)
    steps[change.step] = change.schedule
    return Schedule(tuple(steps))


def alternatives(
    step: Step,
    target: Target,
    count: int,
    admitted: Callable[[StepSchedule], bool] = lambda _: True,
    distance: int | None = None,
    copies: bool = False,
    storage: Storage = FLOAT32,
    runs: Runs = DENSE,
) -> list[tuple[float, StepSchedule]]:
    """Return schedules of a step with their estimates: the best tile, and others that differ from those before.

    Parameters
    ----------
    step
        The step.
    target
        The machine.
    count
        Schedules at most.
    admitted
        Says which schedules are considered.
    distance
        Elements from one position along the batch axis to the next, as they are read; None where they lie side by side.
    copies
        Whether inputs whose rows crowd in the cache (`lrfdse.kernels.lines.crowds`) are copied, at a cost; else
        tiles with such rows are not considered.
    storage
        What the weights are stored in.
    runs
        How the step repeats along lines, and its inner axis consists of sections.
    """
    apart = step.inner * step.columns if distance is None else distance
    ranked = []
    for s in filter(admitted, candidates(step, target, storage)):
        tiling = Tiling.of(step, s, storage)
        crowded = crowds(tiling, target, apart)
        if copies or not crowded:
            estimate = cycles(tiling, target, runs=runs, distance=apart) + crowded * copy_cycles(tiling, target)
            ranked.append((estimate, str(s), s))
    ranked.sort()
    for s in filter(admitted, _blocked(step, target, storage, [s for _, _, s in ranked], runs, apart)):
        tiling = Tiling.of(step, s)
        fitted = target.vectors.grouped and (runs == DENSE or target.is_scheduled)
        doubt = 1.0 if fitted else _UNSURE
        ranked.append((doubt * cycles(tiling, target, runs=runs), str(s), s))
    ranked.sort()
    best = ranked[0][0]
    chosen: list[tuple[float, StepSchedule]] = []
    for estimate, _, s in ranked:
        if len(chosen) == count or estimate > _WORTH * best:
            break
        if _is_new(s, [other for _, other in chosen]):
            chosen.append((estimate, s))
    return chosen


def _blocked(
    step: Step, target: Target, storage: Storage, ranked: Sequence[StepSchedule], runs: Runs, distance: int
) -> list[StepSchedule]:
    """Return schedules in blocks of some of the tiles in `ranked`.

    They are for in-order cores, which stop for what comes again from the last cache level: where a weight panel does
    not stay in the first level, half of which a block gets.
    """
    near = 1024 * target.l1.kib // 2 // FLOAT32.bytes_of(1)
    lines = max(1, runs.lines)
    positions = lines * step.batch
    if not target.in_order or storage != FLOAT32 or step.columns > 1 or positions < _LEAST_POSITIONS:
        return []
    registers, found = RegisterFile.of(target), []
    # A single vector of weights meets so few places that FMAs do not hide their loads: no sets of operands take turns.
    single = [s for s in ranked if s.out_tile == 1 and registers.apart]
    unrolled = (dataclasses.replace(s, unroll=_block_unrolled(s, registers)) for s in ranked)
    for s in dict.fromkeys([*unrolled, *single]):
        width = s.out_tile * s.lanes
        if s.axis != "out" or s.lanes > target.lanes or near // width // s.unroll * s.unroll >= step.inner:
            continue
        # A last tile of few pixels comes again in every line and part.
        uneven = runs.lines > 1 and step.batch % s.column_tile
        if uneven or (target.vectors.grouped and s.out_tile > _MOST_BLOCKED):
            continue
        body = registers.body(s, s.out_tile, s.column_tile)
        if not (body.rotates if registers.apart and s.out_tile > 1 else body.carried):
            continue
        batch = min(positions, 1024 * target.last_level.kib // 8 // FLOAT32.bytes_of(width))
        if runs == DENSE:
            inner = _equal_parts(step.inner, near // width, s.unroll)
            batch = _equal_groups(positions, batch, s.column_tile)
        else:
            # Of windows the rows that a part meets are few: its weights may take three quarters of the first level.
            inner = runs.part(step.inner, 3 * near // 2 // width)
            batch = _equal_groups(lines, -(-lines // max(1, -(-positions // batch))), 1) * step.batch
        if inner:
            found.append(dataclasses.replace(s, inner_block=inner, out_block=1, batch_block=batch))
        if runs == DENSE and target.vectors.grouped:
            inner = _equal_parts(step.inner, 3 * near // 2 // width, s.unroll)
            as_it_lies = dataclasses.replace(found[-1], inner_block=inner, in_place=True)
            if not crowds_in_place(Tiling.of(step, as_it_lies), target, distance):
                found.append(as_it_lies)
    return found


def _equal_groups(count: int, most: int, whole: int) -> int:
    """Return the size of groups of so many positions or lines: at most `most` each, equal and whole where that is near.

    Code of a last group of another size takes as much room as that of all others.

    >>> _equal_groups(48, 10, 1), _equal_groups(6400, 512, 5), _equal_groups(47, 10, 1), _equal_groups(508, 512, 8)
    (8, 400, 10, 508)
    """
    if count <= most:
        return count
    equal = (size for size in range(most, int(_NEAR * most), -1) if count % size == 0 and size % whole == 0)
    return next(equal, most)


def _block_unrolled(schedule: StepSchedule, registers: RegisterFile) -> int:
    """Return the inner iterations in a body of a step in blocks with the tile of a schedule."""
    sums = schedule.out_tile * schedule.column_tile
    few = sums > _MOST_SUMS_UNROLLED and (schedule.out_tile, schedule.column_tile) != _UNROLLED_NEVERTHELESS
    return _BLOCK_UNROLLED // 2 if registers.apart and few else _BLOCK_UNROLLED


def _equal_parts(inner: int, most: int, unroll: int) -> int:
    """Return the iterations of equal parts of an inner axis that have at most so many, and of whole bodies.

    >>> _equal_parts(576, 192, 4), _equal_parts(576, 129, 4)
    (192, 116)
    """
    parts = -(-inner // (most // unroll * unroll))
    return -(-inner // parts // unroll) * unroll


def _is_new(s: StepSchedule, chosen: Sequence[StepSchedule]) -> bool:
    """Return whether a schedule is more than another unrolling of one that is chosen."""
    return all(dataclasses.replace(other, unroll=s.unroll) != s for other in chosen)


def candidates(step: Step, target: Target, storage: Storage = FLOAT32) -> Iterator[StepSchedule]:
    """Yield all schedules of a step whose tiles cut its axes evenly and fit the registers."""
    for axis, extent in (("out", step.out), ("columns", step.columns), ("inner", step.inner)):
        if (axis == "columns" and extent == 1) or (axis == "inner" and step.columns > 1):
            continue
        if target.lanes == 1 and axis != "out":
            continue
        for lanes in _vector_lengths(axis, extent, target):
            rows = -(-step.out // lanes) if axis == "out" else step.out
            across = step.columns if axis != "columns" else -(-step.columns // lanes)
            for out_tile in _even_tiles(rows, _MOST_ROWS):
                for column_tile in _even_tiles(step.batch * across, _MOST_ROWS):
                    yield from _unrolled(step, target, storage, axis, lanes, out_tile, column_tile)


def _unrolled(
    step: Step, target: Target, storage: Storage, axis: str, lanes: int, out_tile: int, column_tile: int
) -> Iterator[StepSchedule]:
    depth = -(-step.inner // lanes) if axis == "inner" else step.inner
    most = _MOST_UNROLLED_IN_TURNS if target.vectors.scalars_apart else _MOST_UNROLLED
    for unroll in (1, 2, 4, 8):
        if unroll > 1 and (unroll > depth or unroll * out_tile * column_tile > most):
            continue
        made = StepSchedule(axis, lanes, out_tile, column_tile, unroll)  # type: ignore[arg-type]
        if fits(Tiling.of(step, made, storage), target):
            yield made


def _vector_lengths(axis: str, extent: int, target: Target) -> list[int]:
    """Return the vector lengths for an axis: whole registers and groups, or what a shorter axis fills; halves, too."""
    whole = [target.lanes * group for group in target.groups]
    fitting = [lanes for lanes in whole if lanes <= extent]
    half = target.lanes // 2
    if target.halves and 1 < half <= extent:
        return [half, *_vector_lengths(axis, extent, dataclasses.replace(target, halves=False))]
    if extent >= whole[-1]:
        return fitting
    flexible = target.instruction_set.vectors.any_length and axis != "inner"
    shorter = extent if flexible else 1 << (extent.bit_length() - 1)
    if shorter not in fitting and (flexible or not fitting):
        fitting.append(shorter)
    if axis == "out" and not fitting[0] >= target.lanes:
        fitting.append(target.lanes)
    return fitting


def _even_tiles(size: int, most: int) -> list[int]:
    """Return tile sizes up to `most` that cut `size` into nearly equal parts, smallest first.

    >>> _even_tiles(38, 16)
    [1, 2, 3, 4, 5, 6, 7, 8, 10, 13]
    >>> _even_tiles(3, 16)
    [1, 2, 3]
    """
    return sorted({-(-size // parts) for parts in range(-(-size // most), size + 1)})
