"""The best shapes of exactly two or three cores within a budget, by enumeration: no front, no rank grid.

The tool's own search gives one front over all numbers of cores, plain SVD among them. The benchmark compares the kinds,
so it needs the best train that is no SVD, even where an SVD beats it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lrfdse.ir.factorization import Direction, Factorization
from lrfdse.space.lattice import rank_bound

Bond = tuple[int, int]
Tails = Mapping[Bond, NDArray[np.float64]]
Found = list[tuple[float, Factorization]]


def best_shapes(outputs: int, inputs: int, tails: Tails, params: int, cores: int, count: int) -> Found:
    """Return the `count` trains of least surrogate error with at most `params` parameters and fewer MACs than dense.

    Paths that are a plain SVD are left out, and so are ranks at which a core is as wide as it is long: joined with its
    neighbour it is a train of fewer cores and parameters.

    Parameters
    ----------
    outputs, inputs
        Sizes (M, N) of the layer.
    tails
        Bond to the energy that a truncation discards by rank; bonds that are missing are not tried.
    params
        Elements of all cores.
    cores
        Two or three.
    count
        Shapes wanted, each with the largest ranks that the budget allows.
    """
    found = _two(outputs, inputs, tails, params) if cores == 2 else _three(outputs, inputs, tails, params)
    return sorted(found, key=lambda pair: (pair[0], str(pair[1])))[:count]


def _two(outputs: int, inputs: int, tails: Tails, params: int) -> Found:
    found: Found = []
    whole = outputs * inputs
    for (a, b), tail in tails.items():
        if (a, b) in ((outputs, 1), (1, inputs)):
            continue
        costs: dict[Direction, int] = {"rl": b * outputs + whole // a, "lr": a * inputs + whole // b}
        direction = min(costs, key=lambda d: costs[d])
        rank = min(params // (a * b + whole // (a * b)), (whole - 1) // costs[direction])
        rank = min(rank, rank_bound(outputs, inputs, (a, b)) - 1, len(tail) - 1)
        if rank >= 1:
            shape = Factorization((a, outputs // a), (b, inputs // b), (rank,), direction)
            found.append((float(tail[rank]), shape))
    return found


def _three(outputs: int, inputs: int, tails: Tails, params: int) -> Found:
    """Try every first rank at every pair of bonds, each with the largest second rank within the limits."""
    found: Found = []
    bonds = np.array(sorted(tails), dtype=np.int64).reshape(-1, 2)
    limits = np.array([min(len(tails[a, b]) - 1, rank_bound(outputs, inputs, (a, b))) for a, b in bonds.tolist()])
    table = np.full((len(bonds), max(limits, default=0) + 1), np.inf)
    for place, (a, b) in enumerate(bonds.tolist()):
        table[place, : limits[place] + 1] = tails[a, b][: limits[place] + 1]
    whole = outputs * inputs
    for place, (a, b) in enumerate(bonds.tolist()):
        after = np.flatnonzero((bonds[:, 0] % a == 0) & (bonds[:, 1] % b == 0) & (np.arange(len(bonds)) != place))
        first = np.arange(1, min(limits[place], params // (a * b), a * b - 1) + 1)[:, None]
        if not len(after) or not len(first):
            continue
        c, d = bonds[after].T
        middle, last = (c // a) * (d // b), whole // (c * d)
        second = (params - first * a * b) // (first * middle + last)
        costs = {
            "rl": (first * b * outputs, first * d * (outputs // a), np.broadcast_to(whole // c, (1, len(after)))),
            "lr": (first * a * inputs, first * c * (inputs // b), np.broadcast_to(whole // d, (1, len(after)))),
        }
        macs = {name: (whole - 1 - fixed) // (each + tail) for name, (fixed, each, tail) in costs.items()}
        second = np.minimum(second, np.maximum(macs["rl"], macs["lr"]))
        second = np.minimum(np.minimum(second, limits[after]), np.minimum(first * middle, last) - 1)
        usable = (second >= 1) & (first < middle * second)
        error = np.where(usable, table[place, first] + table[after[None, :], np.maximum(second, 0)], np.inf)
        best = np.argmin(error, axis=0)
        for column in np.flatnonzero(np.isfinite(error.min(axis=0))):
            row = best[column]
            r1, r2 = int(first[row, 0]), int(second[row, column])
            out = (a, int(c[column]) // a, outputs // int(c[column]))
            into = (b, int(d[column]) // b, inputs // int(d[column]))
            ways = [Factorization(out, into, (r1, r2), "rl"), Factorization(out, into, (r1, r2), "lr")]
            found.append((float(error[row, column]), min(ways, key=lambda shape: shape.macs())))
    return found
