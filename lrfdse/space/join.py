"""Joining prefixes and suffixes at a bond, and dropping those that no new design of the front can contain."""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from lrfdse.space.archive import Archive
from lrfdse.space.lattice import Floats, Ints
from lrfdse.space.programme import Labels, Programme, Side

_GROUP = 16
"""Suffixes that are first tried as one, at the least of each objective among them. Chosen; it changes time alone."""

_CHUNK = 1 << 17
"""Pairs of prefixes and groups that are tried at a time; bounds memory at some 10 MB an array. Chosen."""


def prune(
    programme: Programme, node: int, prefixes: Labels, suffixes: Labels, archive: Archive
) -> tuple[Labels, Labels]:
    """Drop what a known design covers even when it is joined to the least of each objective of the other side.

    Parameters
    ----------
    programme
        The lattice and direction.
    node
        Index of the bond where they meet.
    prefixes, suffixes
        Partial chains left and right of the bond.
    archive
        The designs known so far.
    """
    for _ in range(2):
        prefixes = _hopeful(programme, node, prefixes, _least(programme, node, suffixes), archive)
        suffixes = _hopeful(programme, node, suffixes, _least(programme, node, prefixes), archive)
    return prefixes, suffixes


def join(
    programme: Programme,
    node: int,
    origin: tuple[int, int, int],
    prefixes: Labels,
    suffixes: Labels,
    archive: Archive,
) -> None:
    """Add to the archive every feasible design that is a prefix and a suffix of the same rank at the bond.

    Parameters
    ----------
    programme
        The lattice and direction.
    node
        Index of the bond where they meet.
    origin
        The programme's index and the number of cores of the prefixes and of the suffixes.
    prefixes, suffixes
        Partial chains left and right of the bond.
    archive
        The designs known so far; it takes the new ones.
    """
    if not len(prefixes) or not len(suffixes):
        return
    prefixes = prefixes.take(np.argsort(prefixes.rank, kind="stable"))
    suffixes = suffixes.take(np.lexsort((suffixes.error, suffixes.rank)))
    size = np.arange(len(programme.ranks[node]) + 1)
    starts = np.searchsorted(prefixes.rank, size)
    offsets = np.searchsorted(suffixes.rank, size)
    if origin[2] == 1:
        # One suffix a rank at most: a plain table look-up.
        at = offsets[prefixes.rank]
        has = offsets[prefixes.rank + 1] > at
        _offer(programme, node, origin, prefixes, np.flatnonzero(has), suffixes, at[has], archive)
        return
    for rank in np.flatnonzero((np.diff(starts) > 0) & (np.diff(offsets) > 0)).tolist():
        _join_rank(
            programme,
            node,
            origin,
            prefixes.take(np.arange(starts[rank], starts[rank + 1])),
            suffixes.take(np.arange(offsets[rank], offsets[rank + 1])),
            archive,
        )


def store(programme: Programme, side: Side, cores: int, archive: Archive, max_cores: int) -> None:
    """Keep the labels of exactly `cores` cores at every bond, without those that no design of the front contains.

    Parameters
    ----------
    programme
        The lattice and direction; it keeps the labels.
    side
        Whether chains lie left or right of the bond.
    cores
        Their number of cores.
    archive
        The designs known so far.
    max_cores
        Most cores of a complete design.
    """
    for node in range(len(programme.nodes)):
        labels = programme.labels(side, cores, node)
        params, macs = _cost_to_go(programme, side, node, max_cores - cores)
        at = labels.rank
        error = labels.error + programme.errors[node][at]
        rest = np.stack([params[at], macs[at], macs[at]])
        labels = labels.take(_open(programme, labels, rest, error, archive))
        programme.keep(side, cores, node, labels.take(_undominated(labels, programme.aligned)))


def _join_rank(
    programme: Programme,
    node: int,
    origin: tuple[int, int, int],
    prefixes: Labels,
    suffixes: Labels,
    archive: Archive,
) -> None:
    count = len(suffixes)
    # Groups of similar error first, of similar parameters within: tight bounds in both.
    strip = max(_GROUP, math.isqrt(count * _GROUP))
    suffixes = suffixes.take(np.lexsort((suffixes.params, np.arange(count) // strip)))
    first = np.arange(0, count, _GROUP)
    error = programme.errors[node][suffixes.rank[0]]
    group = np.minimum.reduceat(
        np.stack([suffixes.params, suffixes.padded, suffixes.exact, suffixes.error + error]), first, axis=1
    )
    for start in range(0, len(prefixes), max(_CHUNK // len(first), 1)):
        block = np.arange(start, min(start + max(_CHUNK // len(first), 1), len(prefixes)))
        i, g = (x.ravel() for x in np.meshgrid(block, np.arange(len(first)), indexing="ij"))
        some = prefixes.take(i)
        hope = _open(programme, some, group[:3, g], some.error + group[3, g], archive)
        i, g = i[hope], g[hope]
        members = first[g][:, None] + np.arange(_GROUP)
        inside = members < count
        _offer(
            programme, node, origin, prefixes, np.repeat(i, _GROUP)[inside.ravel()], suffixes, members[inside], archive
        )


def _offer(
    programme: Programme,
    node: int,
    origin: tuple[int, int, int],
    prefixes: Labels,
    i: Ints,
    suffixes: Labels,
    j: Ints,
    archive: Archive,
) -> None:
    """Add the designs made of prefix ``i[k]`` and suffix ``j[k]`` that are feasible and that nothing known covers."""
    if programme.aligned:
        left = programme.end_modes("left", node, prefixes.parent[i])
        right = programme.end_modes("right", node, suffixes.parent[j])
        ordered = programme.in_order(left, right)
        i, j = i[ordered], j[ordered]
    some = prefixes.take(i)
    rest = np.stack([suffixes.params[j], suffixes.padded[j], suffixes.exact[j]])
    error = some.error + programme.errors[node][some.rank] + suffixes.error[j]
    new = np.flatnonzero(_open(programme, some, rest, error, archive))
    if not len(new):
        return
    i, j = i[new], j[new]
    index, left_cores, right_cores = origin
    same = np.ones(len(new), dtype=np.int64)
    origins = np.stack(
        [
            index * same,
            node * same,
            prefixes.rank[i],
            left_cores * same,
            prefixes.parent[i],
            prefixes.label[i],
            right_cores * same,
            suffixes.parent[j],
            suffixes.label[j],
        ],
        axis=1,
    )
    archive.add(some.params[new] + rest[0, new], some.padded[new] + rest[1, new], error[new], origins)


def _open(programme: Programme, labels: Labels, rest: Floats, error: Floats, archive: Archive) -> NDArray[np.bool_]:
    """Return which labels, with at least `rest` (params, padded, exact) to come, may give a design not covered."""
    params = labels.params + rest[0]
    fits: NDArray[np.bool_] = (
        (params <= programme.limits.params) & (labels.exact + rest[2] < programme.limits.macs) & (error < 1)
    )
    at = np.flatnonzero(fits)
    fits[at] = ~archive.covers(params[at], (labels.padded + rest[1])[at], error[at])
    return fits


def _least(programme: Programme, node: int, labels: Labels) -> Floats:
    """Return the least params, padded MACs, exact MACs and error for each rank of the bond, shape (4, ranks)."""
    least = np.full((4, len(programme.ranks[node])), np.inf)
    if len(labels):
        order = np.argsort(labels.rank, kind="stable")
        rank = labels.rank[order]
        first = np.flatnonzero(np.diff(rank, prepend=-1))
        columns = np.stack([labels.params, labels.padded, labels.exact, labels.error])[:, order]
        least[:, rank[first]] = np.minimum.reduceat(columns, first, axis=1)
    return least


def _hopeful(programme: Programme, node: int, labels: Labels, least: Floats, archive: Archive) -> Labels:
    rest = least[:, labels.rank]
    error = labels.error + programme.errors[node][labels.rank] + rest[3]
    return labels.take(_open(programme, labels, rest[:3], error, archive))


def _cost_to_go(programme: Programme, side: Side, node: int, cores: int) -> tuple[Floats, Floats]:
    """Return lower bounds of params and MACs of the other side of a bond, for each of its ranks.

    ``j`` factors whose product is at least ``r`` times the modes still to come sum to at least ``j`` times their
    geometric mean; a chain multiplies every element that it reads and every element that it writes at least once.
    """
    a, b = programme.nodes[node]
    m, n = programme.outputs, programme.inputs
    modes = (m // a) * (n // b) if side == "left" else a * b
    ranks = programme.ranks[node]
    params = np.min([j * (ranks * modes) ** (1 / j) for j in range(1, cores + 1)], axis=0) * (1 - 1e-9)
    right_to_left = programme.direction == "rl"
    crossing = ranks * (b * (m // a) if right_to_left else a * (n // b))
    outer = n if right_to_left == (side == "left") else m
    return params, np.maximum(crossing, outer) * programme.rows


def _undominated(labels: Labels, aligned: bool) -> Ints:
    """Return the labels that no other of the same rank (and, where cores are aligned, the same last core) betters."""
    columns = np.stack([labels.params, labels.padded, labels.exact, labels.error], axis=1)
    order = np.lexsort((labels.params, labels.parent, labels.rank) if aligned else (labels.params, labels.rank))
    change = np.diff(labels.rank[order], prepend=-1) != 0
    if aligned:
        change |= np.diff(labels.parent[order], prepend=-1) != 0
    starts = [*np.flatnonzero(change).tolist(), len(order)]
    kept = [order[s:e][_pareto_mask(columns[order[s:e]])] for s, e in itertools.pairwise(starts)]
    return np.sort(np.concatenate(kept)) if kept else order


def _pareto_mask(points: Floats) -> NDArray[np.bool_]:
    """Return which rows, sorted by the first column, no other row equals or betters in every column."""
    kept = np.empty((0, points.shape[1]))
    mask = np.zeros(len(points), dtype=bool)
    for start in range(0, len(points), 128):
        block = points[start : start + 128]
        below_kept: NDArray[np.bool_] = np.all(kept[None, :, :] <= block[:, None, :], axis=2)
        below: NDArray[np.bool_] = np.all(block[None, :, :] <= block[:, None, :], axis=2)
        # Of equal rows the first stays.
        earlier = np.tri(len(block), k=-1, dtype=bool)
        free = ~(below_kept.any(axis=1) | (below & (~below.T | earlier)).any(axis=1))
        mask[start : start + 128] = free
        kept = np.concatenate([kept, block[free]])
    return mask
