"""The candidates of a convolution: chains of convolutions at a few costs, each the best that its cost allows."""

from __future__ import annotations

import itertools

import numpy as np

from lrfdse.ir.convolution import cuts
from lrfdse.ir.cost import cost_of
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.layer import Layer
from lrfdse.ir.space import Candidate, Funnel, SearchSpace
from lrfdse.space.lattice import Bond, Tails, rank_bound, rank_grid

RATIOS = (1.25, 1.5, 1.8, 2.2, 2.8, 3.6, 5.0, 8.0)
"""Compressions of a convolution's MACs at which it has candidates. Chosen: neighbours differ by a fifth to a third of
the cost, which the plans of a network of many layers cannot tell apart; docs/method.md, section 11."""

_RANKS = 24
"""Ranks on one bond of a chain of three or more convolutions at most, evenly spaced: chains are enumerated. Chosen."""


def convolution_bonds(layer: Layer) -> dict[Bond, int]:
    """Return the bonds at which a convolution may be cut, each with the largest rank there."""
    window = layer.uses[0].window
    assert window is not None
    found = [(layer.outputs, size) for size in cuts(window, layer.channels)]
    return {bond: rank_bound(layer.outputs, layer.inputs, bond) for bond in found}


def convolution_candidates(
    layer: Layer, space: SearchSpace, lanes: int, tails: Tails
) -> tuple[list[Candidate], Funnel]:
    """Return the candidates of a convolution and how they were chosen.

    For each ratio of `RATIOS` that are the truncated SVD of the largest rank, and the chain of the least error bound,
    among those that need at most the dense layer's MACs divided by the ratio. A convolution pays where MACs are saved,
    so the space's least ratios of parameters do not apply.

    Parameters
    ----------
    layer
        The convolution.
    space
        Its grid of ranks, and the most cores.
    lanes
        float32 lanes of the target.
    tails
        Bond to the relative energy that a truncation at rank 0, 1, 2, ... discards there.
    """
    designs = [
        (shape, error)
        for cores in range(2, space.max_cores + 1)
        for chosen in itertools.combinations(convolution_bonds(layer), cores - 1)
        for shape, error in _chains(layer, chosen, space, lanes, tails)
    ]
    dense = cost_of(layer, Factorization.dense(layer.outputs, layer.inputs), lanes)
    costed = [Candidate(shape, cost_of(layer, shape, lanes), error) for shape, error in designs]
    cheaper = [each for each in costed if each.cost.flops < dense.flops and each.cost.params < dense.params]
    kept: dict[Factorization, Candidate] = {}
    for ratio in RATIOS:
        fitting = [each for each in cheaper if each.cost.flops * ratio <= dense.flops]
        for some in ([each for each in fitting if each.factorization.is_svd], fitting):
            if some:
                best = min(some, key=lambda each: (each.error_bound, each.cost.flops, str(each.factorization)))
                kept[best.factorization] = best
    found = sorted(kept.values(), key=lambda each: (each.cost.params, str(each.factorization)))
    stages = (("raw designs", len(costed)), ("cheaper than dense", len(cheaper)), ("surrogate front", len(found)))
    return found, Funnel(stages)


def _chains(
    layer: Layer, bonds: tuple[Bond, ...], space: SearchSpace, lanes: int, tails: Tails
) -> list[tuple[Factorization, float]]:
    """Return all chains that are cut at some bonds, with their error bounds."""
    ends = [size for _, size in bonds]
    modes = (ends[0], *(b // a for a, b in itertools.pairwise((*ends, layer.inputs))))
    out = (layer.outputs, *(1 for _ in bonds))
    grids = [_few(rank_grid(rank_bound(layer.outputs, layer.inputs, bond), space, lanes), len(bonds)) for bond in bonds]
    return [
        (
            Factorization(out, modes, ranks),
            sum(float(tails[bond][rank]) for bond, rank in zip(bonds, ranks, strict=True)),
        )
        for ranks in itertools.product(*grids)
        if _consistent(out, modes, ranks)
    ]


def _few(ranks: np.ndarray, bonds: int) -> list[int]:
    most = len(ranks) if bonds == 1 else _RANKS
    places = np.linspace(0, len(ranks) - 1, min(most, len(ranks))).round().astype(int)
    return [int(ranks[place]) for place in np.unique(places)]


def _consistent(out: tuple[int, ...], modes: tuple[int, ...], ranks: tuple[int, ...]) -> bool:
    """Whether no rank is larger than its neighbours let it be."""
    bonds = (1, *ranks, 1)
    sizes = [m * n for m, n in zip(out, modes, strict=True)]
    return all(
        bonds[k] <= bonds[k - 1] * sizes[k - 1] and bonds[k] <= sizes[k] * bonds[k + 1] for k in range(1, len(sizes))
    )
