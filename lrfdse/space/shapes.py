"""The shapes of a layer's designs and the rules that they are counted by, as arrays."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lrfdse.ir.space import SearchSpace
from lrfdse.space.lattice import Floats, Ints, divisors

NEVER = 2.0**60
"""The cost of a direction that is not allowed: above any cost, and exact in double precision."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A filter: which ranks, how many parameters at most, MACs below how many, which orders, which neighbours."""

    ranks: Ints
    params: int
    dense: int
    aligned: bool = False
    consistent: bool = False

    table: Ints = field(init=False)
    """Rank to the number of the rule's ranks that are at most as large."""

    def __post_init__(self) -> None:
        largest = int(self.ranks[-1]) if len(self.ranks) else 0
        object.__setattr__(self, "table", np.searchsorted(self.ranks, np.arange(largest + 1), side="right"))

    def upto(self, rank: Floats) -> Ints:
        """Return how many ranks of the rule are at most `rank`."""
        whole = np.minimum(np.maximum(rank, 0), len(self.table) - 1).astype(np.int64)
        if len(self.table) == len(self.ranks) + 1:
            return whole
        found: Ints = self.table[whole]
        return found


def splits(size: int, parts: int, least: int) -> list[tuple[int, ...]]:
    """Return the ordered factorizations of `size` into so many factors of at least `least`.

    >>> splits(6, 2, 2)
    [(2, 3), (3, 2)]
    """
    if parts == 1:
        return [(size,)] if size >= least else []
    return [(x, *rest) for x in divisors(size) if x >= least for rest in splits(size // x, parts - 1, least)]


@dataclass(frozen=True, slots=True)
class Shapes:
    """Shapes of one number of cores d; the three rows of a cost are params, MACs right to left and left to right."""

    costs: Floats
    """Coefficients of ``r_{k-1} r_k`` for the cores, shape (3, d, shapes)."""
    bounds: Floats
    """Rank bounds, shape (d - 1, shapes)."""
    weight: Ints
    """How many shapes each stands for: itself, and its reverse where both directions are allowed."""

    def take(self, where: NDArray[np.int64] | NDArray[np.bool_] | slice) -> Shapes:
        """Return the shapes selected by an index array, a mask or a slice."""
        return Shapes(self.costs[:, :, where], self.bounds[:, where], self.weight[where])

    @classmethod
    def of(cls, outputs: int, inputs: int, cores: int, space: SearchSpace, rule: Rule) -> Shapes:
        """Return the shapes of `cores` cores, with the directions that the space and the rule's alignment allow.

        Parameters
        ----------
        outputs, inputs
            Sizes (M, N) of the layer.
        cores
            The number of cores.
        space
            What the exploration may try.
        rule
            What a design must meet.
        """
        least = 1 if space.unit_modes else 2
        out, into = splits(outputs, cores, least), splits(inputs, cores, least)
        i, j = (x.ravel() for x in np.meshgrid(np.arange(len(out)), np.arange(len(into)), indexing="ij"))
        m = np.array(out, dtype=np.float64).reshape(-1, cores).T[:, i]
        n = np.array(into, dtype=np.float64).reshape(-1, cores).T[:, j]
        weight = np.ones(len(i), dtype=np.int64)
        if len(space.directions) == 2:
            # Reversing a chain exchanges its two directions, so half of the shapes tell the count of all.
            i_back, j_back = _reversed_at(out)[i], _reversed_at(into)[j]
            here, there = i * len(into) + j, i_back * len(into) + j_back
            weight = np.where(here < there, 2, np.where(here == there, 1, 0))
        down, up = (np.diff(m, axis=0) <= 0).all(axis=0), (np.diff(m, axis=0) >= 0).all(axis=0)
        n_down, n_up = (np.diff(n, axis=0) <= 0).all(axis=0), (np.diff(n, axis=0) >= 0).all(axis=0)
        ordered = {"rl": down & n_up, "lr": up & n_down}
        left = np.cumprod(m, axis=0) * np.cumprod(n, axis=0)
        costs = np.stack(
            [
                m * n,
                np.cumprod(n, axis=0) * np.cumprod(m[::-1], axis=0)[::-1],
                np.cumprod(m, axis=0) * np.cumprod(n[::-1], axis=0)[::-1],
            ]
        )
        kept: NDArray[np.bool_] = (weight > 0) & np.all(m * n > 1, axis=0)
        usable = np.zeros(len(kept), dtype=bool)
        for row, direction in ((1, "rl"), (2, "lr")):
            allowed = ordered[direction] if rule.aligned else np.ones(len(kept), dtype=bool)
            allowed = allowed & (direction in space.directions)
            costs[row][:, ~allowed] = NEVER
            usable |= allowed
        kept &= usable
        return cls(costs, np.minimum(left, outputs * inputs / left)[:-1], weight).take(kept)


def _reversed_at(splits: list[tuple[int, ...]]) -> Ints:
    at = {split: index for index, split in enumerate(splits)}
    return np.array([at[split[::-1]] for split in splits], dtype=np.int64)


def largest(rule: Rule, fixed: Floats, slope: Floats) -> Floats:
    """Return the largest whole x with ``fixed + slope x`` within the rule's limits; rows as in `Shapes`."""
    limits = np.array([rule.params, rule.dense - 1, rule.dense - 1], dtype=np.float64)[:, None]
    most = np.floor((limits - fixed) / slope)
    found: Floats = np.minimum(most[0], np.maximum(most[1], most[2]))
    return found


def passing_ranks(shapes: Shapes, rule: Rule) -> tuple[Shapes, Floats]:
    """Return the shapes that pass at all, and how many ranks of each bond pass when the others are least.

    A chain is read from its other end where that puts the bond of fewer ranks first; no cost or count changes by that.
    """
    first = float(rule.ranks[0])
    cores = shapes.costs.shape[1]
    ends = np.full(cores + 1, first)
    ends[[0, -1]] = 1.0
    least = shapes.costs * (ends[:-1] * ends[1:])[None, :, None]
    ranges = []
    for k in range(cores - 1):
        beside = shapes.costs[:, k] * ends[k] + shapes.costs[:, k + 1] * ends[k + 2]
        fixed = least.sum(axis=1) - least[:, k] - least[:, k + 1]
        ranges.append(rule.upto(np.minimum(shapes.bounds[k], largest(rule, fixed, beside))))
    found = np.array(ranges, dtype=np.float64)
    some: NDArray[np.bool_] = np.all(found > 0, axis=0)
    shapes, found = shapes.take(some), found[:, some]
    turned = found[0] > found[-1]
    costs, bounds = shapes.costs.copy(), shapes.bounds.copy()
    costs[:, :, turned] = costs[:, ::-1, turned]
    bounds[:, turned], found[:, turned] = bounds[::-1, turned], found[::-1, turned]
    return Shapes(costs, bounds, shapes.weight), found
