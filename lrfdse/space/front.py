"""The surrogate Pareto front of a layer, by a dynamic programme over its divisor lattice that meets in the middle."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lrfdse.ir.factorization import Direction, Factorization
from lrfdse.ir.space import Candidate, Cost, Funnel, SearchSpace
from lrfdse.space.archive import Archive
from lrfdse.space.join import join, prune, store
from lrfdse.space.lattice import Bond, Floats, Ints, Tails, bonds, padded_size, rank_grid, svd_bonds
from lrfdse.space.programme import CostLimits, Programme, Side

GAP = 0.03
"""Relative gap of fronts that are too large to be exact: results/space.md has the gaps and times of both."""

_GROWTH = 3.0
"""What each further core multiplies the time by that a bond takes, roughly; it only weighs the progress shown."""

_EXACT_WORK = 1e9
"""Pairs of ranks over lattice edges (one direction) up to which the front is exact: results/space.md has the times."""


def front(
    outputs: int,
    inputs: int,
    rows: int,
    lanes: int,
    space: SearchSpace,
    tails: Tails,
    *,
    padded_tails: Tails | None = None,
    tolerance: float | None = None,
    counts: Funnel | None = None,
    progress: Callable[[float], None] | None = None,
) -> tuple[list[Candidate], Funnel]:
    """Return the Pareto front of (params, padded FLOPs, error bound) over every design of the space.

    A design is feasible where its parameters are at most ``M N / min_ratio``, its exact FLOPs are below the dense
    layer's, its error bound is below 1 (the error of the zero matrix), and neighbouring ranks are consistent (``r_k <=
    r_{k-1} m_k n_k`` and ``r_{k-1} <= m_k n_k r_k``: no tensor train has others). FLOPs are those of the design's own
    direction; of designs that are equal in all three objectives the one with the fewest cores is kept, right to left
    first.

    Parameters
    ----------
    outputs, inputs : int
        Sizes (M, N) of the layer.
    rows, lanes : int
        Input rows of one inference and float32 lanes of the target.
    space : SearchSpace
        What the exploration may try.
    tails : mapping of Bond to array
        ``tails[M_k, N_k][r]``: squared singular values beyond the first ``r`` of the unfolding at the bond, summed and
        divided by ``|W|^2``, for ``r`` from 0 to at least the rank that `bonds` names; non-increasing in ``r``.
    padded_tails : mapping of Bond to array, optional
        The same for the weight padded with zeros to the sizes that `padded_size` gives; needed with ``pad_to_smooth``.
    tolerance : float, optional
        Relative gap allowed between the front found and the exact one. By default the front is exact, except where
        the number of ranks and edges asks for `GAP`.
    counts : Funnel, optional
        The stages of `count_designs`, to which the front is added.
    progress : callable, optional
        Called from time to time with the part that is done, between 0 and 1.

    Returns
    -------
    list of Candidate
        Parameters ascending.
    Funnel
        `counts` with the stage "surrogate front" and the gap: each design of the exact front has one in
        the list that is at most ``1 + gap`` times as large in every objective.

    Raises
    ------
    ValueError
        `tails` lacks a bond or a rank that a feasible design can use.

    Notes
    -----
    Every design of ``c`` cores is a prefix of ``ceil(c / 2)`` and a suffix of ``floor(c / 2)`` cores that meet at a
    bond and a rank. Shorter designs come first, because complete designs bound all partial ones (docs/method.md,
    section 5).
    """
    limits = CostLimits(math.floor(outputs * inputs / space.ratio(outputs * inputs)), float(outputs * inputs * rows))
    lattices = [_Lattice.of(outputs, inputs, space, lanes, tails)]
    padded = (padded_size(outputs), padded_size(inputs))
    if space.pad_to_smooth and padded != (outputs, inputs):
        if padded_tails is None:
            raise ValueError(f"`padded_tails` of the {padded[0]}x{padded[1]} weight must be given with pad_to_smooth")
        lattices.append(_Lattice.of(*padded, space, lanes, padded_tails))
    if tolerance is None:
        tolerance = GAP if max(lattice.work(space.max_cores) for lattice in lattices) > _EXACT_WORK else 0.0
    programmes = [
        Programme(la.outputs, la.inputs, rows, lanes, direction, space, la.ranks, la.errors, limits)
        for la in lattices
        for direction in _ordered(space.directions)
    ]
    archive = _empty_archive(outputs * inputs, rows * (outputs + inputs), lanes, space.max_cores, limits, tolerance)
    _add_svd(archive, lattices[0], rows, lanes, limits)
    _search(archive, programmes, space.max_cores, progress)
    points, origins = archive.front()
    found = []
    for error, origin in zip(points[:, 2].tolist(), origins.tolist(), strict=True):
        factorization = _read_back(programmes, origin, outputs, inputs)
        found.append(Candidate(factorization, Cost.of(factorization, rows, lanes), error))
    stages = counts.stages if counts else ()
    return found, Funnel((*stages, ("surrogate front", len(found))), tolerance)


@dataclass(frozen=True, slots=True)
class _Lattice:
    outputs: int
    inputs: int
    ranks: dict[Bond, Ints]
    errors: dict[Bond, Floats]

    @classmethod
    def of(cls, outputs: int, inputs: int, space: SearchSpace, lanes: int, tails: Tails) -> _Lattice:
        ranks, errors = {}, {}
        for bond, limit in bonds(outputs, inputs, space).items():
            tail = tails.get(bond)
            if tail is None or len(tail) <= limit:
                raise ValueError(
                    f"`tails` must reach rank {limit} at the bond {bond[0]}x{bond[1]} of the {outputs}x{inputs} layer, "
                    f"but {'it is missing' if tail is None else f'it ends at rank {len(tail) - 1}'}"
                )
            grid = rank_grid(limit, space, lanes)
            if len(grid):
                ranks[bond] = grid
                errors[bond] = np.minimum.accumulate(np.asarray(tail, dtype=np.float64)[grid])
        return cls(outputs, inputs, ranks, errors)

    def work(self, max_cores: int) -> float:
        """Estimate the labels of one direction: pairs of ranks over edges, a thousandfold by each core above four."""
        pairs = sum(
            float(len(self.ranks[s]) * len(self.ranks[t]))
            for s in self.ranks
            for t in self.ranks
            if s != t and t[0] % s[0] == 0 and t[1] % s[1] == 0
        )
        return pairs * 1000.0 ** max(max_cores - 4, 0)


def _ordered(directions: tuple[Direction, ...]) -> list[Direction]:
    return [direction for direction in ("rl", "lr") if direction in directions]


def _empty_archive(
    weights: int, least_macs: int, lanes: int, max_cores: int, limits: CostLimits, tolerance: float
) -> Archive:
    # Fewest parameters of c cores: c factors whose product is M N, at rank 1; fewest MACs: N are read and M are
    # written.
    least = min(cores * weights ** (1 / cores) for cores in range(2, max_cores + 1)) * (1 - 1e-9)
    return Archive((least, max(limits.params, least)), (least_macs, limits.macs * lanes), tolerance, _ORIGIN)


_ORIGIN = 9
"""Integers of an origin: programme (-1 for plain SVD), bond, rank, then cores, parent and label of prefix and
suffix."""


def _add_svd(archive: Archive, lattice: _Lattice, rows: int, lanes: int, limits: CostLimits) -> None:
    for bond in svd_bonds(lattice.outputs, lattice.inputs):
        if bond in lattice.ranks:
            break
    else:
        return
    for rank, error in zip(lattice.ranks[bond].tolist(), lattice.errors[bond].tolist(), strict=True):
        svd = Factorization.svd(lattice.outputs, lattice.inputs, rank)
        if svd.params <= limits.params and svd.macs(rows) < limits.macs and error < 1:
            params, macs = np.array([float(svd.params)]), np.array([float(svd.padded_macs(lanes, rows))])
            archive.add(params, macs, np.array([error]), np.array([[-1, 0, rank, *[0] * (_ORIGIN - 3)]]))
    archive.refresh()


def _search(
    archive: Archive, programmes: list[Programme], max_cores: int, progress: Callable[[float], None] | None
) -> None:
    nodes = sum(len(p.nodes) for p in programmes)
    whole = nodes * sum(_GROWTH**cores for cores in range(2, max_cores + 1))
    done = 0.0
    for cores in range(2, max_cores + 1):
        left, right = -(-cores // 2), cores // 2
        sides: tuple[tuple[Side, int], ...] = (("left", left), ("right", right))
        for side, length in sides:
            if length > 2:
                for programme in programmes:
                    store(programme, side, length - 1, archive, max_cores)
        # Balanced bonds first: the designs that bound the others best pass through them.
        centres = sorted(
            (abs(math.log(math.prod(bond)) - math.log(p.outputs * p.inputs) / 2), node, index)
            for index, p in enumerate(programmes)
            for node, bond in enumerate(p.nodes)
        )
        for _, node, index in centres:
            done += _GROWTH**cores
            if progress is not None:
                progress(done / whole)
            programme = programmes[index]
            if cores == 2 and programme.nodes[node] in svd_bonds(programme.outputs, programme.inputs):
                continue
            prefixes = programme.labels("left", left, node)
            suffixes = programme.labels("right", right, node)
            if right > 1:
                prefixes, suffixes = prune(programme, node, prefixes, suffixes, archive)
            join(programme, node, (index, left, right), prefixes, suffixes, archive)
            archive.refresh(at_least=200)
        archive.refresh()


def _read_back(programmes: list[Programme], origin: list[int], outputs: int, inputs: int) -> Factorization:
    index, node, rank, left, left_parent, left_label, right, right_parent, right_label = origin
    if index < 0:
        return Factorization.svd(outputs, inputs, rank)
    programme = programmes[index]
    before = _walk(programme, "left", left, left_parent, left_label)[::-1]
    after = _walk(programme, "right", right, right_parent, right_label)
    path = [*before, (programme.nodes[node], int(programme.ranks[node][rank])), *after]
    corners = [(1, 1), *(bond for bond, _ in path), (programme.outputs, programme.inputs)]
    return Factorization(
        tuple(t[0] // s[0] for s, t in itertools.pairwise(corners)),
        tuple(t[1] // s[1] for s, t in itertools.pairwise(corners)),
        tuple(rank for _, rank in path),
        programme.direction,
    )


def _walk(programme: Programme, side: Side, cores: int, parent: int, label: int) -> list[tuple[Bond, int]]:
    """Return the bonds and ranks of a chain, from the one next to the meeting bond outwards."""
    path = []
    while cores > 1:
        cores -= 1
        labels = programme.kept(side, cores, parent)
        path.append((programme.nodes[parent], int(programme.ranks[parent][labels.rank[label]])))
        parent, label = int(labels.parent[label]), int(labels.label[label])
    return path
