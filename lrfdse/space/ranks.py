"""The candidates of layers that have a place for two factors and for no other chain: a truncated SVD at every rank."""

from __future__ import annotations

from lrfdse.ir.cost import cost_of
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.layer import Layer
from lrfdse.ir.space import Candidate, Funnel, SearchSpace
from lrfdse.space.lattice import Bond, Tails, rank_bound, rank_grid


def rank_bonds(layer: Layer) -> dict[Bond, int]:
    """Return the one bond at which such a layer may be cut, with the largest rank there."""
    bond = (layer.outputs, 1)
    return {bond: rank_bound(layer.outputs, layer.inputs, bond)}


def rank_candidates(layer: Layer, space: SearchSpace, lanes: int, tails: Tails) -> tuple[list[Candidate], Funnel]:
    """Return the truncated SVD at each rank of the space's grid, and how many there were.

    All of them are on the front: a larger rank costs more and discards less. Two bounds apply: the space's least
    compression of the stored weights, and, but for an embedding, whose rows are looked up without any, the dense
    layer's MACs.

    Parameters
    ----------
    layer
        The layer.
    space
        Its grid of ranks, and the least compression.
    lanes
        float32 lanes of the target.
    tails
        Bond to the relative energy that a truncation at rank 0, 1, 2, ... discards there.
    """
    ((bond, most),) = rank_bonds(layer).items()
    grid = rank_grid(most, space, lanes)
    shapes = [Factorization.svd(layer.outputs, layer.inputs, int(rank)) for rank in grid]
    found = [
        Candidate(shape, cost_of(layer, shape, lanes), float(tails[bond][shape.ranks[0]]))
        for shape in shapes
        if cost_of(layer, shape, lanes).params * space.ratio(layer.weights) <= layer.weights
    ]
    cheaper = [each for each in found if layer.kind == "embedding" or each.cost.flops < layer.flops]
    stages = (("raw designs", most), ("ranks tried", len(shapes)), ("cheaper than dense", len(cheaper)))
    return cheaper, Funnel((*stages, ("surrogate front", len(cheaper))))
