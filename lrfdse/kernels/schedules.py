"""Which register tilings to try for a kernel: enumerated, estimated, and thinned to a few that differ."""

from __future__ import annotations

from collections.abc import Iterator

from lrfdse.design import KernelSpec, Schedule, Step, StepSchedule, Target
from lrfdse.kernels.estimate import cycles, fits
from lrfdse.kernels.layout import Tiling

_MOST_ROWS = 16
_MOST_UNROLLED = 32
"""FMAs in one loop body beyond which code grows and nothing is gained."""

_WORTH = 2.0
"""A variant estimated slower than the best by more than this factor is no alternative."""


def schedules(spec: KernelSpec, target: Target, count: int = 4) -> list[Schedule]:
    """Return up to `count` schedules of a kernel, the best estimate first.

    The estimate weighs padded MACs, loads for each FMA, accumulators against the FMA latency and the stores; a tile's
    accumulators and operands fit the vector registers. The alternatives differ from the best in the vector axis, the
    register group or the shape of the tile; the n-th schedule takes the n-th alternative of every step.
    """
    ranked = {step: _alternatives(step, target, count) for step in set(spec.factorization.steps(spec.rows))}
    steps = [ranked[step] for step in spec.factorization.steps(spec.rows)]
    longest = max(len(choices) for choices in steps)
    made = [Schedule(tuple(choices[min(i, len(choices) - 1)] for choices in steps)) for i in range(longest)]
    return made[:count]


def _alternatives(step: Step, target: Target, count: int) -> list[StepSchedule]:
    ranked = sorted((cycles(Tiling.of(step, s), target), str(s), s) for s in _candidates(step, target))
    best = ranked[0][0]
    worthy = [s for estimate, _, s in ranked if estimate <= _WORTH * best]
    # One of each vector axis and length first, then other tiles of those.
    kinds: dict[tuple[str, int], list[StepSchedule]] = {}
    for s in worthy:
        kinds.setdefault((s.axis, s.lanes), []).append(s)
    chosen = [worthy[0]]
    heads = [variants[0] for variants in kinds.values()]
    others = [s for s in worthy if all(_differ(s, head) for head in heads)]
    for s in [*heads, *others]:
        if len(chosen) < count and s not in chosen:
            chosen.append(s)
    return chosen


def _differ(a: StepSchedule, b: StepSchedule) -> bool:
    """Return whether two tiles are different enough to be worth measuring both."""
    if (a.axis, a.lanes) != (b.axis, b.lanes):
        return True
    return abs(a.out_tile - b.out_tile) + abs(a.column_tile - b.column_tile) >= 2


def _candidates(step: Step, target: Target) -> Iterator[StepSchedule]:
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
                    yield from _unrolled(step, target, axis, lanes, out_tile, column_tile)


def _unrolled(
    step: Step, target: Target, axis: str, lanes: int, out_tile: int, column_tile: int
) -> Iterator[StepSchedule]:
    depth = -(-step.inner // lanes) if axis == "inner" else step.inner
    for unroll in (1, 2, 4, 8):
        if unroll > 1 and (unroll > depth or unroll * out_tile * column_tile > _MOST_UNROLLED):
            continue
        made = StepSchedule(axis, lanes, out_tile, column_tile, unroll)  # type: ignore[arg-type]
        if fits(Tiling.of(step, made), target):
            yield made


def _vector_lengths(axis: str, extent: int, target: Target) -> list[int]:
    """Return the vector lengths for an axis: whole registers and groups, or what a shorter axis fills."""
    whole = [target.lanes * group for group in target.groups]
    fitting = [lanes for lanes in whole if lanes <= extent]
    if extent >= whole[-1]:
        return fitting
    flexible = target.isa == "riscv64" and axis != "inner"
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
