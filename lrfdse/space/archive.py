"""The designs found so far, and the test whether one of them covers a point.

The archive holds complete, feasible designs only. A point (params, padded MACs, error bound) may be a complete design
or a lower bound of all completions of a partial one; either can be dropped when some design of the archive is at most
``1 + tolerance`` times as large in every objective. Since nothing partial is ever merged and a member leaves the
archive only for a member that is nowhere worse, the distance to the exact front stays within the tolerance end to end.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right

import numpy as np
from numpy.typing import NDArray

from lrfdse.space.lattice import Floats, Ints

_CELL = 0.01
"""Width of the lookup table's cells in the logarithm of an objective: 1 %. Chosen; it decides how much is looked up
in vain, not what is found."""

_ROUNDING = 1e-9
"""Slack, in cells, that keeps the lookup on the safe side of rounding."""


class Archive:
    """Pareto set of (params, padded MACs, error bound) with origins, and its lookup table.

    Parameters
    ----------
    params, macs : tuple of float
        Lower and upper limits of the two cost objectives; values above the upper one share its last cell.
    tolerance : float
        Relative distance within which a member covers a point; 0 keeps the front exact.
    width : int
        Integers that describe a design's origin.
    """

    def __init__(self, params: tuple[float, float], macs: tuple[float, float], tolerance: float, width: int) -> None:
        self.tolerance = tolerance
        self._cell = min(_CELL, math.log1p(tolerance) / 3) if tolerance else _CELL
        self._low = (math.log(params[0]), math.log(macs[0]))
        self._cells = tuple(max(int(math.log(high / low) / self._cell), 0) + 3 for low, high in (params, macs))
        self._table = np.full(self._cells, np.inf)
        self._fresh = 0
        self._points: Floats = np.empty((0, 3))
        self._origins: Ints = np.empty((0, width), dtype=np.int64)
        self._pending: list[tuple[Floats, Ints]] = []
        self._waiting = 0

    def covers(self, params: Floats, macs: Floats, error: Floats) -> NDArray[np.bool_]:
        """Return which points a member of the archive covers; some of those covered may be missed, none is claimed."""
        slack = math.log1p(self.tolerance)
        i = self._index(params, 0, slack / self._cell - _ROUNDING)
        j = self._index(macs, 1, slack / self._cell - _ROUNDING)
        found: NDArray[np.bool_] = self._table[i, j] <= error * (1 + self.tolerance)
        return found

    def add(self, params: Floats, macs: Floats, error: Floats, origins: Ints) -> None:
        """Take complete, feasible designs that `covers` did not claim.

        Parameters
        ----------
        params, macs, error
            The three objectives, shape (n,) each.
        origins
            What describes each design to the caller, shape (n, width).
        """
        if not len(params):
            return
        if self.tolerance:
            key = self._index(params, 0, 0.0) * self._cells[1] + self._index(macs, 1, 0.0)
            order = np.lexsort((error, key))
            first = order[np.diff(key[order], prepend=-1) != 0]
            params, macs, error, origins = params[first], macs[first], error[first], origins[first]
        self._pending.append((np.stack([params, macs, error], axis=1), origins))
        i = self._index(params, 0, 1 + _ROUNDING)
        j = self._index(macs, 1, 1 + _ROUNDING)
        np.minimum.at(self._table, (i, j), error)
        self._fresh += len(params)
        self._waiting += len(params)
        if self._waiting > max(50_000, 4 * len(self._points)):
            self._merge()

    def refresh(self, at_least: int = 1) -> None:
        """Spread what was added over the cells that it covers, once `at_least` designs are waiting."""
        if self._fresh >= at_least:
            np.minimum.accumulate(self._table, axis=0, out=self._table)
            np.minimum.accumulate(self._table, axis=1, out=self._table)
            self._fresh = 0

    def front(self) -> tuple[Floats, Ints]:
        """Return the Pareto set: points, shape (n, 3), params ascending, and origins; ties keep the first found."""
        self._merge()
        return self._points, self._origins

    def _index(self, values: Floats, axis: int, shift: float) -> NDArray[np.intp]:
        cells = np.log(values)
        cells -= self._low[axis]
        cells /= self._cell
        cells += shift
        return np.clip(np.floor(cells), 0, self._cells[axis] - 1).astype(np.intp)

    def _merge(self) -> None:
        if not self._pending:
            return
        points = np.concatenate([self._points, *(points for points, _ in self._pending)])
        origins = np.concatenate([self._origins, *(origins for _, origins in self._pending)])
        self._pending, self._waiting = [], 0
        kept = pareto(points)
        self._points, self._origins = points[kept], origins[kept]


def pareto(points: Floats) -> Ints:
    """Return the indices of the rows that no other row equals or betters in all three columns, first column ascending.

    Of equal rows the first is kept. A sweep over the first column keeps the staircase of the other two.

    >>> pareto(np.array([[2.0, 1.0, 5.0], [1.0, 3.0, 4.0], [2.0, 3.0, 4.0], [1.0, 3.0, 4.0]])).tolist()
    [1, 0]
    """
    order = np.lexsort((points[:, 2], points[:, 1], points[:, 0]))
    second: list[float] = []
    third: list[float] = []
    kept = []
    for index, (_, y, z) in zip(order.tolist(), points[order].tolist(), strict=True):
        after = bisect_right(second, y)
        if after and third[after - 1] <= z:
            continue
        start = bisect_left(second, y)
        end = start
        while end < len(second) and third[end] >= z:
            end += 1
        second[start:end] = [y]
        third[start:end] = [z]
        kept.append(index)
    return np.array(kept, dtype=np.int64)
