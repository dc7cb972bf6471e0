"""Cache lines that a step reads: rows that drive each other out, and what an in-order core waits for."""

from __future__ import annotations

from collections import Counter

from lrfdse.ir.storage import FLOAT32
from lrfdse.kernels.blocks import DENSE, Runs
from lrfdse.kernels.layout import RESIDENT, Tiling
from lrfdse.targets.target import Target

STREAMS = 16
"""Runs of memory that a prefetcher is taken to follow at once: those of qemu/lrfmeter.c."""


_ROOM = 0.9
"""Share of the first level that a panel and places may take; results, the stack and epilogues need the rest. Chosen:
BERT's 256 to 1024 with panels of 24 KiB and two tiles of 4 KiB reads twice as many lines with a GELU as without."""


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
    if tiling.schedule.inner_block:
        # The inputs of a block are copied in the order of use, or are neighbouring pixels of an image.
        return False
    return rows_crowd(max(len(span.offsets) for span in tiling.batch), distance, target)


def rows_crowd(count: int, distance: int, target: Target) -> bool:
    """Return whether so many rows, a line of each, do not stay in the first cache level beside another stream.

    `distance` is from one row to the next, in elements. Rows that share a line, as neighbouring pixels of few channels
    do, take no more room than one.
    """
    lines = {FLOAT32.bytes_of(distance) * row // target.line for row in range(count)}
    return _most_of_a_set(lines, target) > max(1, target.l1.ways - 1)


def _most_of_a_set(lines: set[int], target: Target) -> int:
    """Return how many of the lines, given by their numbers, share the set of the first cache level that most do."""
    sets = 1024 * target.l1.kib // target.l1.ways // target.line
    return max(Counter(line % sets for line in lines).values())


def crowds_in_place(tiling: Tiling, target: Target, distance: int) -> bool:
    """Return whether the inputs of a block, read as they lie, drive its weights out of the first cache level.

    Each set holds a line of every cache way that the weights fill; what is left is for the rows of a tile. For the
    arguments see `crowds`.
    """
    s = tiling.schedule
    way = 1024 * target.l1.kib // target.l1.ways
    weights = FLOAT32.bytes_of(s.inner_block * s.out_block * s.out_tile * s.lanes)
    rows = max(len(span.offsets) for span in tiling.batch)
    lines = -(-FLOAT32.bytes_of(s.inner_block) // target.line)
    found = {FLOAT32.bytes_of(distance) * row // target.line + line for row in range(rows) for line in range(lines)}
    return _most_of_a_set(found, target) > target.l1.ways - -(-weights // way)


def are_touched(tiling: Tiling, target: Target, size: int) -> bool:
    """Return whether the inputs of a tile are read line by line first, since the core stops for those it does not see.

    So it is where a core is in order, the inputs (`size` elements) exceed its first cache level, and a tile reads
    several positions side by side.
    """
    several = tiling.step.columns == 1 and max(len(span.offsets) for span in tiling.batch) > 1
    return target.in_order and several and FLOAT32.bytes_of(size) > 1024 * target.l1.kib


def gap(tiling: Tiling, target: Target, distance: int) -> int:
    """Return the elements that a copy of the input has behind each run of it: a cache line's where rows crowd."""
    return target.line // FLOAT32.bytes_of(1) if crowds(tiling, target, distance) else 0


def copy_cycles(tiling: Tiling, target: Target) -> float:
    """Return the estimated cycles of such a copy: every element is read from and written to the last cache level."""
    return 2 * FLOAT32.bytes_of(tiling.step.input_size) / target.last_level_bytes_per_cycle


def panels_inside(tiling: Tiling, target: Target, image: int) -> bool:
    """Return whether all weight panels meet one group of positions after the other, or one panel all positions.

    The first where weights stay in the first cache level; or where they stay in the last one and the image (so many
    elements) does not.
    """
    if tiling.weight_size <= RESIDENT:
        return True
    half = 1024 * target.last_level.kib // 2
    return FLOAT32.bytes_of(image) > half >= FLOAT32.bytes_of(tiling.weight_size)


def stops(tiling: Tiling, target: Target, distance: int | None = None, runs: Runs = DENSE) -> float:
    """Return the cycles for which an in-order core stops while lines come from the last-level cache.

    Operands come from there once where they exceed the first level, and again whenever they are read again unless they
    stay in the first level meanwhile. Where a tile reads more rows at once than a prefetcher follows, besides its
    weights, every line is waited for. Of a step that repeats along lines it is what one of them takes: what weights
    take once for all is divided among them. For the arguments see `lrfdse.kernels.estimate.cycles`.
    """
    t, step = tiling, tiling.step
    near, lines = 1024 * target.l1.kib, max(1, runs.lines)
    covered = runs.covered or step.input_size
    weights, data = t.weight_bytes, FLOAT32.bytes_of(covered)
    if weights + data <= near:
        return 0.0
    panels = sum(span.count for span in t.out)
    places = sum(p.count for p in t.batch) * sum(q.count for q in t.columns)
    panel, place = weights / panels, data / places
    passing = data
    if lines > 1:
        passing = FLOAT32.bytes_of(runs.fresh * lines)
        if FLOAT32.bytes_of(runs.alive) + panel <= near:
            # The rows that a window shares with the one above are still there.
            data = FLOAT32.bytes_of(runs.fresh)
    # Places that pass by a panel take the room of two: the oldest lines are those of the one before, not in every set.
    inside = t.by_positions or (lines > 1 and panels_inside(t, target, runs.image))
    weights_again = (weights if inside else panel) + 2 * place > _ROOM * near
    data_again = (place if inside else passing) + panel > near
    moved = weights * (places if weights_again else 1 / lines) + data * (panels if data_again else 1)
    # What exceeds the last level, too, comes again from DRAM.
    is_far = not inside and passing > target.last_level.bytes
    further = (panels - 1) * data if is_far else 0.0
    dram = further * max(0.0, 1 / target.dram_bytes_per_cycle - 1 / target.last_level_bytes_per_cycle)
    rows = max(len(span.offsets) for span in t.batch)
    apart = FLOAT32.bytes_of(distance or step.inner * step.columns) > target.prefetch_lines * target.line
    waits = moved / target.line * target.last_level_latency if apart and rows + 1 > STREAMS else 0.0
    return moved / target.last_level_bytes_per_cycle + dram + waits
