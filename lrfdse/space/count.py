"""Exact counts of a layer's designs after each filter, without looking at its weight."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lrfdse.ir.space import Funnel, SearchSpace
from lrfdse.space.lattice import Bond, Floats, Ints, inner_bonds, is_edge, padded_size, rank_bound, rank_grid
from lrfdse.space.programme import ragged
from lrfdse.space.shapes import Rule, Shapes, largest, passing_ranks, splits

MOST_WORK = 4e8
"""Estimated evaluations (some 10 ns each) above which a stage is left out of the funnel: a few seconds a layer."""

_MOST_SHAPES = 2e6
"""Shapes of one number of cores above which a stage is left out: their arrays take some 100 MB. Chosen."""

_CHUNK = 1 << 16
"""Combinations of inner ranks evaluated at a time; keeps the arrays (512 KB each) in the cache. Chosen."""


def count_designs(outputs: int, inputs: int, space: SearchSpace, lanes: int, most_work: float = MOST_WORK) -> Funnel:
    """Count the designs of the space, exactly, after each filter.

    A raw design is an ordered factorization of both sizes into 2 to ``max_cores`` modes and a rank from 1 to the bound
    of the unfolding on every bond; it passes a filter where it does so in some allowed direction. The stages, each
    applied to what the one before left:

    - "raw designs";
    - "cheaper than dense": fewer parameters and fewer FLOPs than the dense layer;
    - "aligned modes" (where the space says so): the factor order that minimises FLOPs at equal ranks in that direction;
    - "rank grid" (where the grid leaves out a rank): ranks of `rank_grid`;
    - "consistent ranks, at most 1/x of the weights": ``r_k <= r_{k-1} m_k n_k`` and ``r_{k-1} <= m_k n_k r_k`` on
      every core, and ``min_ratio``: what `front` searches;
    - "with plain SVD" (only without unit modes, where plain SVD is no member of the space but is searched all the
      same).

    A stage whose count would take too long is left out rather than estimated; the later ones are still exact. With
    ``pad_to_smooth`` the designs of the padded sizes are counted too.

    Parameters
    ----------
    outputs, inputs : int
        Sizes (M, N) of the layer.
    space : SearchSpace
        What the exploration may try.
    lanes : int
        float32 lanes of the target. Input rows do not matter: FLOPs of design and dense layer both grow with them.
    most_work : float
        Estimated evaluations above which a stage is left out.
    """
    weights = outputs * inputs
    sizes = [(outputs, inputs)]
    padded = (padded_size(outputs), padded_size(inputs))
    if space.pad_to_smooth and padded != sizes[0]:
        sizes.append(padded)
    stages = [("raw designs", sum(_raw(m, n, space) for m, n in sizes))]
    most = max(math.isqrt(m * n) for m, n in sizes)
    every, grid = np.arange(1, most + 1), rank_grid(most, space, lanes)
    ratio = space.ratio(weights)
    free = Rule(every, weights - 1, weights)
    rules = [("cheaper than dense", free)]
    if space.aligned:
        free = replace(free, aligned=True)
        rules.append(("aligned modes", free))
    if len(grid) < len(every):
        free = replace(free, ranks=grid)
        rules.append(("rank grid", free))
    small = replace(free, consistent=True, params=min(math.floor(weights / ratio), weights - 1))
    rules.append((f"consistent ranks, at most 1/{ratio:g} of the weights", small))
    for name, rule in rules:
        counts = [_count(m, n, space, rule, most_work) for m, n in sizes]
        if None not in counts:
            stages.append((name, sum(count for count in counts if count is not None)))
    if not space.unit_modes and stages[-1][0] == rules[-1][0]:
        most = min(outputs, inputs, small.params // (outputs + inputs))
        stages.append(("with plain SVD", stages[-1][1] + len(rank_grid(most, space, lanes))))
    return Funnel(tuple(stages))


def _raw(outputs: int, inputs: int, space: SearchSpace) -> int:
    """Sum over all paths the product of the bonds' rank bounds."""
    nodes = inner_bonds(outputs, inputs, space.unit_modes)
    before = {t: [s for s in nodes if is_edge(s, t, space.unit_modes)] for t in nodes}
    ways: dict[Bond, int] = {bond: rank_bound(outputs, inputs, bond) for bond in nodes}
    total = 0
    for _ in range(2, space.max_cores + 1):
        total += sum(ways.values())
        ways = {t: sum(ways[s] for s in before[t]) * rank_bound(outputs, inputs, t) for t in nodes}
    return total


def _count(outputs: int, inputs: int, space: SearchSpace, rule: Rule, most_work: float) -> int | None:
    """Count the designs that pass the rule, or return None where that would take too long."""
    least = 1 if space.unit_modes else 2
    total, work = 0, 0.0
    for cores in range(2, space.max_cores + 1):
        if float(len(splits(outputs, cores, least))) * len(splits(inputs, cores, least)) > _MOST_SHAPES:
            return None
        shapes = Shapes.of(outputs, inputs, cores, space, rule)
        if not shapes.weight.size or not len(rule.ranks):
            continue
        if cores == 2:
            most = np.minimum(shapes.bounds[0], largest(rule, np.zeros(3)[:, None], shapes.costs.sum(axis=1)))
            total += int((rule.upto(most) * shapes.weight).sum())
            continue
        shapes, ranges = passing_ranks(shapes, rule)
        inner = np.prod(ranges[1:-1], axis=0)
        # What is set up for a combination of inner ranks costs as much as ten values of the rank that is tried.
        work += float(np.sum(inner * (10 + np.minimum(ranges[0], ranges[-1]))))
        if work > most_work:
            return None
        for part in _blocks(inner, _CHUNK):
            for plane in _planes(shapes.take(part), rule):
                total += plane.count(rule)
    return total


def _blocks(sizes: NDArray[np.float64] | Ints, most: int) -> Iterator[slice]:
    """Cut entries into runs whose sizes sum to about `most`."""
    ends = np.cumsum(sizes)
    start = 0
    while start < len(ends):
        base = float(ends[start - 1]) if start else 0.0
        stop = max(int(np.searchsorted(ends, base + most, side="right")), start + 1)
        yield slice(start, stop)
        start = stop


@dataclass(frozen=True, slots=True)
class _Plane:
    """Chains whose ranks are fixed but for the first, x, and the last, y: cost ``fixed + a x + b y + c x y``."""

    fixed: Floats
    a: Floats
    b: Floats
    c: Floats
    x: tuple[Floats, Floats]
    """Least and largest x by the rank bounds and by the consistency with the next rank."""
    y: tuple[Floats, Floats]
    core: Floats | None
    """Size ``m n`` of the core between x and y where they are neighbours and must be consistent."""
    weight: Ints

    def count(self, rule: Rule) -> int:
        """Count the pairs (x, y) of ranks that pass."""
        a, b, x, y = self.a, self.b, self.x, self.y
        first, below = rule.upto(x[0] - 1), rule.upto(y[0] - 1)
        last = rule.upto(np.minimum(x[1], largest(rule, self.fixed + b * y[0], a + self.c * y[0])))
        total = 0
        if self.core is None:
            # Up to here every y passes, so nothing has to be tried.
            free = rule.upto(np.minimum(x[1], largest(rule, self.fixed + b * y[1], a + self.c * y[1])))
            every = np.maximum(rule.upto(y[1]) - below, 0)
            total += int((np.maximum(free - first, 0) * every * self.weight).sum())
            first = np.maximum(first, free)
        return total + self._tried(rule, first, last, below)

    def _tried(self, rule: Rule, first: Ints, last: Ints, below: Ints) -> int:
        """Count the y that pass for every x from the grid's entry `first` up to before `last`."""
        # Longest ranges first, so that what is still running is always a leading slice.
        order = np.argsort(first - last, kind="stable")
        order = order[: int(np.count_nonzero(last > first))]
        ends = (first - last)[order]
        first, low, most, weight = first[order], below[order], self.y[1][order], self.weight[order]
        room = np.array([rule.params, rule.dense - 1, rule.dense - 1], dtype=np.float64)[:, None] - self.fixed[:, order]
        a, b = self.a[:, order], self.b[:, order]
        cross = None if not self.c.any() else self.c[:, order]
        core = None if self.core is None else self.core[order]
        ranks = rule.ranks.astype(np.float64)
        total, step, count = 0, 0, len(order)
        while count:
            x = ranks[first[:count] + step]
            slope = b[:, :count] if cross is None else b[:, :count] + cross[:, :count] * x
            limits = (room[:, :count] - a[:, :count] * x) / slope
            found = np.minimum(np.minimum(limits[0], np.maximum(limits[1], limits[2])), most[:count])
            start = low[:count]
            if core is not None:
                found = np.minimum(found, x * core[:count])
                start = np.maximum(start, rule.upto(np.ceil(x / core[:count]) - 1))
            total += int(np.dot(np.maximum(rule.upto(found) - start, 0), weight[:count]))
            step += 1
            count = int(np.searchsorted(ends, -step, side="left"))
        return total


def _planes(shapes: Shapes, rule: Rule) -> Iterator[_Plane]:
    """Yield the chains of some shapes for all inner ranks ``r_2 ... r_{d-2}``."""
    costs, bounds, cores = shapes.costs, shapes.bounds, shapes.costs.shape[1]
    one = np.ones(len(shapes.weight))
    if cores == 3:
        core = costs[0, 1] if rule.consistent else None
        zero = np.zeros((3, len(one)))
        yield _Plane(
            zero, costs[:, 0], costs[:, 2], costs[:, 1], (one, bounds[0]), (one, bounds[1]), core, shapes.weight
        )
        return
    # at: shape; rank: the last inner rank chosen; head: cost per x; fixed: cost between inner ranks.
    least = float(rule.ranks[0])
    last = rule.upto(bounds[1])
    last = np.minimum(last, rule.upto(largest(rule, costs[:, 0] * least, costs[:, 1] * least)))
    at, j = ragged(np.zeros_like(last), last)
    rank = rule.ranks[j].astype(np.float64)
    second = rank
    fixed = np.zeros((3, len(at)))
    for k in range(2, cores - 2):
        slope = costs[:, k][:, at] * rank
        last = np.minimum(rule.upto(bounds[k][at]), rule.upto(largest(rule, fixed, slope)))
        first = np.zeros_like(last)
        if rule.consistent:
            first = rule.upto(np.ceil(rank / costs[0, k, at]) - 1)
            last = np.minimum(last, rule.upto(rank * costs[0, k, at]))
        i, j = ragged(first, last)
        fixed = fixed[:, i] + slope[:, i] * rule.ranks[j]
        at, rank, second = at[i], rule.ranks[j].astype(np.float64), second[i]
    low_x, high_x = np.ones(len(at)), bounds[0][at]
    low_y, high_y = np.ones(len(at)), bounds[-1][at]
    if rule.consistent:
        low_x, high_x = np.ceil(second / costs[0, 1, at]), np.minimum(high_x, second * costs[0, 1, at])
        low_y, high_y = np.ceil(rank / costs[0, -2, at]), np.minimum(high_y, rank * costs[0, -2, at])
    yield _Plane(
        fixed,
        costs[:, 0][:, at] + costs[:, 1][:, at] * second,
        costs[:, -1][:, at] + costs[:, -2][:, at] * rank,
        np.zeros((3, len(at))),
        (low_x, high_x),
        (low_y, high_y),
        None,
        shapes.weight[at],
    )
