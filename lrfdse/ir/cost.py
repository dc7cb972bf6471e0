"""What a design of a layer costs before anything is compiled, by the layer's kind."""

from __future__ import annotations

from lrfdse.ir.convolution import filters
from lrfdse.ir.factorization import Factorization, Step
from lrfdse.ir.layer import Layer
from lrfdse.ir.space import Cost


def cost_of(layer: Layer, factorization: Factorization, lanes: int) -> Cost:
    """Count a design of a layer over all its uses, on a target of `lanes` float32 lanes.

    Raises
    ------
    ValueError
        The layer is a convolution, and the chain is no sequence of convolutions.
    """
    if layer.kind == "embedding":
        return _lookup(layer, factorization, lanes)
    if layer.kind != "conv":
        return Cost.of(factorization, layer.rows, lanes)
    parts = [
        (use.turns, part)
        for use in layer.uses
        if use.window is not None
        for part in filters(factorization, use.window, layer.channels)
    ]
    return Cost(
        factorization.params,
        2 * sum(turns * part.step.macs for turns, part in parts),
        2 * sum(turns * part.step.padded_macs(lanes) for turns, part in parts),
        max(part.elements for _, part in parts),
    )


def _lookup(layer: Layer, factorization: Factorization, lanes: int) -> Cost:
    """Count a table whose rows have as many elements as the rank, and the product that makes a row of each."""
    if factorization.is_dense:
        return Cost(layer.weights, 0, 0, layer.rows * layer.outputs)
    (rank,) = factorization.ranks
    step = Step(layer.rows, layer.outputs, rank, 1)
    return Cost(
        rank * (layer.table + layer.outputs),
        2 * step.macs,
        2 * step.padded_macs(lanes),
        step.input_size + step.output_size,
    )
