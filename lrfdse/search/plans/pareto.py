"""Dominance among points with three objectives to minimise."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64] | NDArray[np.float64]
Positions = NDArray[np.intp]


def nondominated(first: Numbers, second: Numbers, third: Numbers) -> Positions:
    """Return the positions of the points that no other point equals or beats in all three objectives.

    Of equal points the first one stays. The answer is sorted by the first, then the second, then the third
    objective. O(n log^2 n): sorted by the first objective, a point is dominated exactly when an earlier one has no
    larger second and third objective; halves are compared level by level, all pairs of halves of a level at once
    (Kung, Luccio and Preparata, "On finding the maxima of a set of vectors", 1975, as a bottom-up merge).

    Parameters
    ----------
    first, second, third
        Shape (n,) each, finite.

    >>> nondominated(np.array([1, 2, 2, 3]), np.array([5., 4., 6., 4.]), np.array([1., 1., 1., 0.])).tolist()
    [0, 1, 3]
    """
    if len(first) == 0:
        return np.zeros(0, np.intp)
    kept = _coarse(first, second, third)
    kept = kept[np.lexsort((third[kept], second[kept], first[kept]))]
    y, z = _ranks(second[kept]), _ranks(third[kept])
    alive = np.arange(len(kept))
    for level in range(max(1, (len(kept) - 1).bit_length())):
        alive = alive[~_beaten_by_left_half(alive, y[alive], z[alive], level)]
    return kept[alive]


def nondominated_by_group(group: Numbers, second: Numbers, third: Numbers) -> Positions:
    """Return the positions of the points that no point with the same `group` equals or beats; sorted as above."""
    if len(group) == 0:
        return np.zeros(0, np.intp)
    order = np.lexsort((third, second, group))
    g, z = _ranks(group[order]), _ranks(third[order])
    before = _running_min(g, z, len(order))
    return order[z < before]


def _ranks(values: Any) -> NDArray[np.int64]:
    """Return dense ranks: equal values have equal ranks."""
    return np.unique(values, return_inverse=True)[1].astype(np.int64).ravel()


def _running_min(segment: NDArray[np.int64], value: NDArray[np.int64], empty: int) -> NDArray[np.int64]:
    """Return the least `value` strictly before each position within its segment, `empty` where there is none.

    Segments are contiguous and ascending, values are in ``[0, empty]``: shifting every segment below the one before
    turns the segmented minimum into a plain one.
    """
    shift = segment * (empty + 1)
    running = np.minimum.accumulate(value - shift)
    before = np.full(len(value), empty, np.int64)
    same = segment[1:] == segment[:-1]
    before[1:][same] = (running[:-1] + shift[1:])[same]
    return before


def _beaten_by_left_half(
    position: Positions, y: NDArray[np.int64], z: NDArray[np.int64], level: int
) -> NDArray[np.bool_]:
    """Return which points have a point with y and z no larger in the left half of their block of 2^(level+1)."""
    block, right = position >> (level + 1), (position >> level) & 1
    empty = int(z.max(initial=0)) + 1
    span = int(y.max(initial=0)) + 1
    order = np.argsort((block * span + y) * 2 + right, kind="stable")
    is_right = right[order] == 1
    before = _running_min(block[order], np.where(is_right, empty, z[order]), empty)
    beaten = np.zeros(len(position), bool)
    beaten[order] = is_right & (before <= z[order])
    return beaten


def _coarse(first: Numbers, second: Numbers, third: Numbers, cells: int = 1024) -> Positions:
    """Drop most dominated points cheaply: those beaten strictly by something in a lower cell of a rank grid."""
    count = len(first)
    if count < 4096:
        return np.arange(count)
    step = max(1, count // cells)
    rows = np.searchsorted(np.sort(first)[::step], first, side="right")
    columns = np.searchsorted(np.sort(second)[::step], second, side="right")
    shape = (int(rows.max()) + 1, int(columns.max()) + 1)
    least = np.full(shape, np.inf)
    np.minimum.at(least, (rows, columns), third)
    least = np.minimum.accumulate(np.minimum.accumulate(least, axis=0), axis=1)
    lower = np.where((rows > 0) & (columns > 0), least[rows - 1, columns - 1], np.inf)
    return np.flatnonzero(third < lower)
