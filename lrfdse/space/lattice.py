"""The divisor lattice of a layer: its bonds, the ranks tried on them, and which of them a feasible design can use.

A factorization with modes ``m_1 ... m_d`` and ``n_1 ... n_d`` is a path from ``(1, 1)`` to ``(M, N)`` through the bonds
``(M_k, N_k) = (m_1 ... m_k, n_1 ... n_k)``. An edge of the path is a core (docs/method.md, section 1).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lrfdse.ir.space import SearchSpace

Bond: TypeAlias = tuple[int, int]
"""``(M_k, N_k)``: products of the output and of the input modes to the left of a bond."""

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Tails: TypeAlias = Mapping[Bond, Floats]
"""Bond to the relative energy that a truncation at rank 0, 1, 2, ... discards there."""


def divisors(size: int) -> list[int]:
    """Return the divisors of `size`, ascending.

    >>> divisors(12)
    [1, 2, 3, 4, 6, 12]
    """
    small = [x for x in range(1, math.isqrt(size) + 1) if size % x == 0]
    return small + [size // x for x in reversed(small) if x * x != size]


def padded_size(size: int) -> int:
    """Return the smallest number from `size` on whose prime factors are all at most 7.

    >>> padded_size(1000), padded_size(997), padded_size(6625)
    (1000, 1000, 6720)
    """
    while True:
        rest = size
        for prime in (2, 3, 5, 7):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return size
        size += 1


def rank_bound(outputs: int, inputs: int, bond: Bond) -> int:
    """Return the largest rank of the unfolding at `bond`: its smaller side.

    >>> rank_bound(300, 784, (300, 1)), rank_bound(300, 784, (15, 28))
    (300, 420)
    """
    left = bond[0] * bond[1]
    return min(left, outputs * inputs // left)


def rank_grid(limit: int, space: SearchSpace, lanes: int) -> Ints:
    """Return the ranks from 1 to `limit` that `space` tries, ascending.

    They are all ranks to ``dense_ranks_to``, then the multiples of ``rank_step``; with ``lane_ranks`` only the
    multiples of `lanes` among them.

    >>> rank_grid(20, SearchSpace(dense_ranks_to=3, rank_step=8), lanes=4)
    array([ 1,  2,  3,  8, 16])
    >>> rank_grid(20, SearchSpace(dense_ranks_to=3, rank_step=2, lane_ranks=True), lanes=4)
    array([ 4,  8, 12, 16, 20])
    """
    ranks = np.arange(1, max(limit, 0) + 1, dtype=np.int64)
    kept = (ranks <= space.dense_ranks_to) | (ranks % space.rank_step == 0)
    if space.lane_ranks:
        kept &= ranks % lanes == 0
    found: Ints = ranks[kept]
    return found


def inner_bonds(outputs: int, inputs: int, unit_modes: bool) -> list[Bond]:
    """Return every bond between ``(1, 1)`` and ``(M, N)``, ordered; without unit modes only those off the border."""
    ends = ((1, 1), (outputs, inputs))
    found = [(a, b) for a in divisors(outputs) for b in divisors(inputs) if (a, b) not in ends]
    if unit_modes:
        return found
    return [(a, b) for a, b in found if 1 < a < outputs and 1 < b < inputs]


def is_edge(left: Bond, right: Bond, unit_modes: bool) -> bool:
    """Whether one core can lead from `left` to `right`; without unit modes both of its modes are above 1."""
    if right[0] % left[0] or right[1] % left[1]:
        return False
    if unit_modes:
        return left != right
    return right[0] > left[0] and right[1] > left[1]


def svd_bonds(outputs: int, inputs: int) -> tuple[Bond, Bond]:
    """Return the two bonds through which a path is a plain SVD."""
    return (outputs, 1), (1, inputs)


def bonds(outputs: int, inputs: int, space: SearchSpace) -> dict[Bond, int]:
    """Return the bonds that a feasible design can use, each with the largest rank that is feasible on it.

    A rank is feasible where it is on the space's grid (lanes aside), is within the bound of the unfolding, and some
    chain of at most ``max_cores`` cores through it has at most ``M N / min_ratio`` parameters (every other rank as
    small as the consistency of neighbouring ranks lets it be). Ranks at which the two steps beside the bond alone need
    the dense layer's MACs in every allowed direction are left out too. The bonds of plain SVD are always there.

    Parameters
    ----------
    outputs, inputs : int
        Sizes (M, N) of the layer, or of its padded form.
    space : SearchSpace
        What the exploration may try.
    """
    return dict(_bonds(outputs, inputs, space))


@functools.lru_cache(maxsize=64)
def _bonds(outputs: int, inputs: int, space: SearchSpace) -> dict[Bond, int]:
    limit = outputs * inputs / space.ratio(outputs * inputs)
    nodes = inner_bonds(outputs, inputs, space.unit_modes)
    grid = rank_grid(max((rank_bound(outputs, inputs, bond) for bond in nodes), default=0), space, 1)
    size = {bond: int(np.searchsorted(grid, rank_bound(outputs, inputs, bond), side="right")) for bond in nodes}
    cheapest = _cheapest_prefixes(nodes, grid, size, space)
    found: dict[Bond, int] = {}
    for bond in nodes:
        mirror = (outputs // bond[0], inputs // bond[1])
        costs = [
            cheapest[left][bond] + cheapest[cores - left][mirror]
            for cores in range(2, space.max_cores + 1)
            for left in range(1, cores)
        ]
        ranks = grid[: size[bond]]
        feasible = ranks[(np.min(costs, axis=0) <= limit) & (ranks <= _flop_bound(outputs, inputs, bond, space))]
        if len(feasible):
            found[bond] = int(feasible[-1])
    plain = rank_grid(min(outputs, inputs, int(limit) // (outputs + inputs)), space, 1)
    if len(plain):
        for bond in svd_bonds(outputs, inputs):
            found[bond] = max(found.get(bond, 0), int(plain[-1]))
    return dict(sorted(found.items()))


def _flop_bound(outputs: int, inputs: int, bond: Bond, space: SearchSpace) -> int:
    """Return the largest rank whose array at the bond, written once and read once, stays below the dense MACs."""
    a, b = bond
    crossing = {"rl": b * (outputs // a), "lr": a * (inputs // b)}
    return (outputs * inputs - 1) // (2 * min(crossing[direction] for direction in space.directions))


def _cheapest_prefixes(
    nodes: list[Bond], grid: Ints, size: Mapping[Bond, int], space: SearchSpace
) -> list[dict[Bond, Floats]]:
    """Return, by number of cores, bond to the fewest parameters left of it for each of its ranks.

    A suffix is a prefix of the mirrored bond ``(M / M_k, N / N_k)``: same edges, same rank bound.
    """
    whole = grid.astype(np.float64)
    levels: list[dict[Bond, Floats]] = [{}, {bond: whole[: size[bond]] * (bond[0] * bond[1]) for bond in nodes}]
    before = {t: [s for s in nodes if size[s] and is_edge(s, t, space.unit_modes)] for t in nodes if size[t]}
    for cores in range(2, space.max_cores):
        level = {bond: np.full(size[bond], np.inf) for bond in nodes}
        for bond, sources in before.items():
            ranks = grid[: size[bond]]
            for source in sources:
                core = (bond[0] * bond[1]) // (source[0] * source[1])
                least = np.searchsorted(grid, -(-ranks // core))
                ok = least < size[source]
                at = least[ok]
                cost = levels[cores - 1][source][at] + grid[at] * ranks[ok] * float(core)
                level[bond][ok] = np.minimum(level[bond][ok], cost)
        levels.append(level)
    return levels
