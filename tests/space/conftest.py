from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from lrfdse.ir.factorization import Factorization
from lrfdse.ir.space import Cost, SearchSpace


def _splits(size: int, parts: int, least: int) -> Iterator[tuple[int, ...]]:
    if parts == 1:
        if size >= least:
            yield (size,)
        return
    for first in range(least, size + 1):
        if size % first == 0:
            yield from ((first, *rest) for rest in _splits(size // first, parts - 1, least))


def _shapes(outputs: int, inputs: int, cores: int, least: int) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    for m in _splits(outputs, cores, least):
        for n in _splits(inputs, cores, least):
            if all(a * b > 1 for a, b in zip(m, n, strict=True)):
                yield m, n


def _bound(m: Sequence[int], n: Sequence[int], k: int) -> int:
    left = math.prod(m[: k + 1]) * math.prod(n[: k + 1])
    return min(left, math.prod(m) * math.prod(n) // left)


def _grid(limit: int, space: SearchSpace, lanes: int) -> list[int]:
    return [
        rank
        for rank in range(1, limit + 1)
        if (rank <= space.dense_ranks_to or rank % space.rank_step == 0) and not (space.lane_ranks and rank % lanes)
    ]


def _is_aligned(design: Factorization) -> bool:
    m, n = design.out_modes, design.in_modes
    if design.direction == "lr":
        m, n = m[::-1], n[::-1]
    return list(m) == sorted(m, reverse=True) and list(n) == sorted(n)


def _is_consistent(design: Factorization) -> bool:
    ranks = design.bonds
    return all(
        right <= left * m * n and left <= right * m * n
        for left, right, m, n in zip(ranks, ranks[1:], design.out_modes, design.in_modes, strict=False)
    )


@pytest.fixture(scope="session")
def every_design() -> Callable[..., Iterator[Factorization]]:
    """All designs of a space at the allowed ranks, in every allowed direction, one core short of any filter."""

    def enumerate_designs(
        outputs: int, inputs: int, space: SearchSpace, lanes: int, on_grid: bool = True
    ) -> Iterator[Factorization]:
        every = SearchSpace(dense_ranks_to=10**9)
        for cores in range(2, space.max_cores + 1):
            for m, n in _shapes(outputs, inputs, cores, 1 if space.unit_modes else 2):
                ranks = [_grid(_bound(m, n, k), space if on_grid else every, lanes) for k in range(cores - 1)]
                for chosen in itertools.product(*ranks):
                    for direction in space.directions:
                        yield Factorization(m, n, chosen, direction)

    return enumerate_designs


@pytest.fixture(scope="session")
def is_aligned() -> Callable[[Factorization], bool]:
    return _is_aligned


@pytest.fixture(scope="session")
def is_consistent() -> Callable[[Factorization], bool]:
    return _is_consistent


@pytest.fixture(scope="session")
def brute_front(
    every_design: Callable[..., Iterator[Factorization]],
) -> Callable[..., list[tuple[int, int, float]]]:
    """The front of (params, padded FLOPs, error bound) by enumeration of everything."""

    def search(
        outputs: int,
        inputs: int,
        rows: int,
        lanes: int,
        space: SearchSpace,
        tails: dict[tuple[int, int], np.ndarray],
    ) -> list[tuple[int, int, float]]:
        limit = outputs * inputs / space.ratio(outputs * inputs)
        points = set()
        designs = itertools.chain(
            (Factorization.svd(outputs, inputs, rank) for rank in _grid(min(outputs, inputs), space, lanes)),
            every_design(outputs, inputs, space, lanes),
        )
        for design in designs:
            if design.params > limit or not _is_consistent(design):
                continue
            if space.aligned and not (_is_aligned(design) or design.is_svd):
                continue
            cost = Cost.of(design, rows, lanes)
            if cost.flops >= 2 * outputs * inputs * rows:
                continue
            error, a, b = 0.0, 1, 1
            for m, n, rank in zip(design.out_modes, design.in_modes, design.ranks, strict=False):
                a, b = a * m, b * n
                error += float(tails[a, b][rank])
            if error < 1:
                points.add((cost.params, cost.padded_flops, error))
        kept: list[tuple[int, int, float]] = []
        for point in sorted(points):
            # Sorted by params; equal sums of tails in another order differ in the last digits.
            if not any(other[1] <= point[1] and other[2] <= point[2] + 1e-12 for other in kept):
                kept.append(point)
        return kept

    return search


@pytest.fixture(scope="session")
def random_tails() -> Callable[..., dict[tuple[int, int], np.ndarray]]:
    """Independent decays on every bond of a lattice, to full rank."""

    def make(outputs: int, inputs: int, seed: int) -> dict[tuple[int, int], np.ndarray]:
        rng = np.random.default_rng(seed)
        tails = {}
        for a in (d for d in range(1, outputs + 1) if outputs % d == 0):
            for b in (d for d in range(1, inputs + 1) if inputs % d == 0):
                side = min(a * b, outputs * inputs // (a * b))
                squared = np.sort(rng.random(side) ** 2 / np.arange(1, side + 1) ** (3 * rng.random()))[::-1]
                tails[a, b] = np.append(np.cumsum(squared[::-1])[::-1], 0.0) / squared.sum()
        # Both bonds of plain SVD have the singular values of the weight itself.
        tails[1, inputs] = tails[outputs, 1]
        return tails

    return make
