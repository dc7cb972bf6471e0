"""Partial chains: what the cores on one side of a bond cost and discard, for every path and every rank.

One programme belongs to one lattice and one contraction direction. A prefix holds the cores left of a bond, a suffix
those right of it, and both exclude the truncation error of the bond itself. The step of a core depends only on the
edge and on the ranks at its two ends, so parameters, MACs and error add up along a path (docs/method.md, sections 2
and 4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lrfdse.ir.factorization import Direction
from lrfdse.ir.space import SearchSpace
from lrfdse.space.lattice import Bond, Floats, Ints, is_edge

Side = Literal["left", "right"]


@dataclass(frozen=True, slots=True)
class CostLimits:
    """What a complete design may cost."""

    params: float
    """Most parameters allowed."""
    macs: float
    """Exact MACs must stay below this: the dense layer's."""


@dataclass(frozen=True, slots=True)
class Labels:
    """Partial chains that end at one bond; all arrays have one entry a chain."""

    rank: Ints
    """Index into the bond's ranks."""
    params: Floats
    padded: Floats
    """MACs with every step's vector axis rounded up to the lanes."""
    exact: Floats
    error: Floats
    """Relative energy discarded at the bonds inside the chain."""
    parent: Ints
    """Index of the previous bond of the chain; the number of bonds where the chain is a single core."""
    label: Ints
    """Index of the chain among the labels of that bond."""

    def __len__(self) -> int:
        return len(self.rank)

    def take(self, where: NDArray[np.intp] | NDArray[np.bool_] | Ints) -> Labels:
        """Return the chains selected by an index array or a mask."""
        return Labels(*(getattr(self, name)[where] for name in self.__slots__))


class Programme:
    """Labels of every bond of one lattice, for one contraction direction.

    Parameters
    ----------
    outputs, inputs : int
        Sizes of the lattice (those of the layer, or its padded ones).
    rows, lanes : int
        Input rows of the layer and float32 lanes of the target.
    direction : {"rl", "lr"}
        Contraction order of every chain.
    space : SearchSpace
        Unit modes and alignment are read from here.
    ranks : mapping of Bond to array
        Ranks tried on each bond, ascending.
    errors : mapping of Bond to array
        Relative energy discarded at those ranks, non-increasing.
    limits : CostLimits
        What complete designs may cost.
    """

    def __init__(
        self,
        outputs: int,
        inputs: int,
        rows: int,
        lanes: int,
        direction: Direction,
        space: SearchSpace,
        ranks: Mapping[Bond, Ints],
        errors: Mapping[Bond, Floats],
        limits: CostLimits,
    ) -> None:
        self.outputs, self.inputs, self.rows, self.lanes = outputs, inputs, rows, lanes
        self.direction: Direction = direction
        self.aligned = space.aligned
        self.limits = limits
        self.nodes = list(ranks)
        self.ranks = [ranks[bond].astype(np.float64) for bond in self.nodes]
        self.errors = [errors[bond] for bond in self.nodes]
        self._neighbours: dict[Side, list[list[int]]] = {"left": [], "right": []}
        for bond in self.nodes:
            linked = [is_edge(other, bond, space.unit_modes) for other in self.nodes]
            self._neighbours["left"].append([i for i, found in enumerate(linked) if found])
            linked = [is_edge(bond, other, space.unit_modes) for other in self.nodes]
            self._neighbours["right"].append([i for i, found in enumerate(linked) if found])
        self._from_start = [is_edge((1, 1), bond, space.unit_modes) for bond in self.nodes]
        self._to_end = [is_edge(bond, (outputs, inputs), space.unit_modes) for bond in self.nodes]
        self._levels: dict[tuple[Side, int, int], Labels] = {}

    def keep(self, side: Side, cores: int, node: int, labels: Labels) -> None:
        """Store labels at a bond; longer chains are made from what is kept.

        Parameters
        ----------
        side
            Whether the chains lie left or right of the bond.
        cores
            Their number of cores.
        node
            Index of the bond.
        labels
            The chains.
        """
        self._levels[side, cores, node] = labels

    def kept(self, side: Side, cores: int, node: int) -> Labels:
        """Return stored labels; chains of a single core are made on demand."""
        key = (side, cores, node)
        if cores == 1 and key not in self._levels:
            self._levels[key] = self._single(side, node)
        return self._levels[key]

    def labels(self, side: Side, cores: int, node: int) -> Labels:
        """Return the chains of exactly `cores` cores between the bond and its end of the path, made from those kept."""
        if cores == 1:
            return self.kept(side, 1, node)
        parts = [self._extended(side, cores, other, node) for other in self._neighbours[side][node]]
        parts = [part for part in parts if len(part)]
        if not parts:
            return self._empty()
        return Labels(*(np.concatenate([getattr(part, name) for part in parts]) for name in Labels.__slots__))

    def end_modes(self, side: Side, node: int, parents: Ints) -> tuple[Ints, Ints]:
        """Return the output and input mode of the core that touches the bond, for chains with these parents."""
        end = (1, 1) if side == "left" else (self.outputs, self.inputs)
        table = np.array([*self.nodes, end])[parents]
        here = np.array(self.nodes[node])
        modes = here // table if side == "left" else table // here
        return modes[:, 0], modes[:, 1]

    def in_order(self, left: tuple[Ints, Ints], right: tuple[Ints, Ints]) -> NDArray[np.bool_]:
        """Return whether neighbouring cores are aligned: where FLOPs are least at equal ranks in this direction."""
        (m, n), (m_next, n_next) = left, right
        found: NDArray[np.bool_] = (
            (m >= m_next) & (n <= n_next) if self.direction == "rl" else (m <= m_next) & (n >= n_next)
        )
        return found

    def _single(self, side: Side, node: int) -> Labels:
        if not (self._from_start if side == "left" else self._to_end)[node]:
            return self._empty()
        ranks, one = self.ranks[node], np.ones(1)
        a, b = self.nodes[node]
        if side == "left":
            core = a * b
            padded, exact = self._macs((1, 1), (a, b), one, ranks)
        else:
            core = (self.outputs // a) * (self.inputs // b)
            padded, exact = self._macs((a, b), (self.outputs, self.inputs), ranks, one)
        params, none = ranks * core, np.zeros(len(ranks), dtype=np.int64)
        made = Labels(np.arange(len(ranks)), params, padded, exact, np.zeros(len(ranks)), none + len(self.nodes), none)
        return made.take((params <= self.limits.params) & (exact < self.limits.macs))

    def _extended(self, side: Side, cores: int, other: int, node: int) -> Labels:
        """Return the chains of `cores` cores at `node` whose previous bond is `other`."""
        shorter = self.kept(side, cores - 1, other)
        chosen = np.arange(len(shorter))
        if self.aligned and len(shorter):
            there = self.end_modes(side, other, shorter.parent)
            here = self.end_modes(side, node, np.array([other]))
            chosen = chosen[self.in_order(there, here) if side == "left" else self.in_order(here, there)]
        if not len(chosen):
            return self._empty()
        left, right = (self.nodes[other], self.nodes[node]) if side == "left" else (self.nodes[node], self.nodes[other])
        core = (right[0] // left[0]) * (right[1] // left[1])
        ranks = self.ranks[node]
        rank = self.ranks[other][shorter.rank[chosen]]
        params = shorter.params[chosen]
        error = shorter.error[chosen] + self.errors[other][shorter.rank[chosen]]
        # Ranks that a neighbour of this rank can carry, that the parameters allow, and whose error leaves something.
        low = np.searchsorted(ranks, np.ceil(rank / core))
        low = np.maximum(low, np.searchsorted(-self.errors[node], error - 1.0, side="right"))
        most = np.minimum(rank * core, np.floor((self.limits.params - params) / (rank * core)))
        high = np.searchsorted(ranks, most, side="right")
        i, j = ragged(low, high)
        padded, exact = (
            self._macs(left, right, rank[i], ranks[j]) if side == "left" else self._macs(left, right, ranks[j], rank[i])
        )
        exact += shorter.exact[chosen][i]
        fits = exact < self.limits.macs
        i, j = i[fits], j[fits]
        at = chosen[i]
        return Labels(
            j,
            params[i] + rank[i] * ranks[j] * core,
            padded[fits] + shorter.padded[at],
            exact[fits],
            error[i],
            np.full(len(i), other),
            at,
        )

    def _macs(self, left: Bond, right: Bond, rank: Floats, next_rank: Floats) -> tuple[Floats, Floats]:
        """Return padded and exact MACs of the step of one core (`Factorization.steps`, `Step.padded_macs`)."""
        m, n = right[0] // left[0], right[1] // left[1]
        if self.direction == "rl":
            batch, out, inner, columns = left[1], rank * m, next_rank * n, self.outputs // right[0]
        else:
            batch, out, inner, columns = left[0], next_rank * m, rank * n, self.inputs // right[1]
        batch *= self.rows
        exact = out * inner * float(batch * columns)
        if self.lanes == 1:
            return exact.copy(), exact
        padded = np.minimum(
            self._up(out) * inner * float(batch * columns), out * inner * float(batch * self._up(columns))
        )
        if columns == 1:
            padded = np.minimum(padded, out * self._up(inner) * float(batch))
        return padded, exact

    def _up(self, size: Floats | int) -> Floats:
        lifted: Floats = np.ceil(np.asarray(size) / self.lanes) * self.lanes
        return lifted

    def _empty(self) -> Labels:
        none, zero = np.empty(0, dtype=np.int64), np.empty(0)
        return Labels(none, zero, zero, zero, zero, none, none)


def ragged(low: Ints, high: Ints) -> tuple[Ints, Ints]:
    """Return the pairs ``(i, j)`` with ``low[i] <= j < high[i]``.

    >>> [x.tolist() for x in ragged(np.array([0, 5, 2]), np.array([2, 4, 3]))]
    [[0, 0, 2], [0, 1, 2]]
    """
    counts = np.maximum(high - low, 0)
    i = np.repeat(np.arange(len(counts)), counts)
    starts = np.cumsum(counts) - counts
    return i, np.arange(len(i)) + (low - starts)[i]
