"""Constant weights of products stored as int8, with the float arithmetic left as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lrfdse.ir.int8 import Int8Matrix
from lrfdse.model.bodies import all_nodes, owners_of
from lrfdse.model.constants import known_values, stored
from lrfdse.model.match.match import grouped
from lrfdse.model.match.products import Product, find_products
from lrfdse.model.passes.emit import Emitter, Names, drop_unused

_NODE_BYTES = 256
"""Bytes that a weight must save: a DequantizeLinear node with the names of its two tensors takes 150 to 200 in a file,
as `tests/model/test_int8.py` counts."""


@dataclass(frozen=True, slots=True, eq=False)
class Int8Site:
    """A stored matrix that int8 makes smaller."""

    root: str
    """Name of the value that holds it."""
    weight: NDArray[np.float32]
    """W of shape (outputs, inputs), as the products use it; a factor alpha is not in it."""
    flip: bool
    """Whether the stored matrix is W transposed."""
    reads: tuple[tuple[str, int], ...]
    """What the products of the main graph multiply it with: name of a value, and its axis of inputs, -1 or -2."""


def int8_sites(model: ir.Model) -> list[Int8Site]:
    """Return the float32 weights of Gemm and MatMul nodes that int8 makes smaller, in graph order, bodies included.

    Weights that something else reads, too, are none of them, nor are small ones, whose scales and node would take what
    is saved.
    """
    found = []
    products, _ = find_products(model.graph, known_values(model.graph))
    for group in grouped(products)[0]:
        product, root = group[0], group[0].root
        assert isinstance(product, Product)
        if {product.constant.dtype, stored(root).dtype} != {ir.DataType.FLOAT} or root.name is None:
            continue
        saved = 3 * product.outputs * product.inputs - 4 * product.outputs
        if saved > _NODE_BYTES:
            outer = [each for each in group if isinstance(each, Product) and each.node.graph is model.graph]
            reads = tuple((each.source.name or "", each.in_axis) for each in outer)
            found.append(Int8Site(root.name, product.weight(), product.flip, reads))
    return found


class StoreInt8(ir.passes.InPlacePass):
    """Puts int8 levels and float32 scales, and what multiplies them, in the place of float32 weights.

    That is DequantizeLinear along the axis of outputs; before opset 13, which has none, Cast and Mul. Inputs, outputs,
    and all arithmetic on activations stay as they are.

    Parameters
    ----------
    sites
        The weights, as `int8_sites` found them in the model or in one that it is a clone of.
    rounded
        Their int8 form, by `Int8Site.root`.
    """

    def __init__(self, sites: Sequence[Int8Site], rounded: Mapping[str, Int8Matrix]) -> None:
        self._sites, self._rounded = sites, rounded

    def requires(self, model: ir.Model) -> None:
        """Raise `ir.passes.PreconditionError` where a weight is not in the graph."""
        there = _roots(model)
        if gone := [site.root for site in self._sites if site.root not in there]:
            raise ir.passes.PreconditionError(f"the model holds no weight {gone[0]!r}")

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change the model; the result says whether there was anything to change."""
        names, roots = Names(model), _roots(model)
        for site in self._sites:
            root, matrix, axis = roots[site.root], self._rounded[site.root], 1 if site.flip else 0
            levels = matrix.levels.T if site.flip else matrix.levels
            if levels.shape != tuple(stored(root).shape.numpy()):
                raise ValueError(f"weight {site.root!r} has other sizes than its int8 form")
            emit = Emitter(model, model.graph[0], site.root, {}, names)
            # Before other nodes are read: a Constant node may be the first.
            used = list(root.uses())
            value = emit.dequantized("", levels, matrix.scales, axis)
            for usage in used:
                usage.node.replace_input_with(usage.idx, value)
            drop_unused(root)
        return ir.passes.PassResult(model, modified=bool(self._sites))

    def ensures(self, model: ir.Model) -> None:
        """Raise `ir.passes.PostconditionError` where a float32 weight is still stored."""
        left = {value.name for value in _roots(model).values()} & {site.root for site in self._sites}
        if left:
            raise ir.passes.PostconditionError(f"weight {sorted(map(str, left))[0]!r} is still stored in float32")


def stored_int8(model: ir.Model, sites: Sequence[Int8Site], rounded: Mapping[str, Int8Matrix]) -> ir.Model:
    """Return the model with weights as int8; see `StoreInt8`. The model that is given stays as it is."""
    return ir.passes.functionalize(StoreInt8(sites, rounded))(model).model


def _roots(model: ir.Model) -> dict[str, ir.Value]:
    """Return the values that may hold a weight, by name."""
    graphs = [model.graph, *owners_of(model.graph)]
    found = {name: value for graph in graphs for name, value in graph.initializers.items()}
    nodes = all_nodes(model.graph)
    made = (value for node in nodes if node.op_type == "Constant" for value in node.outputs)
    return found | {value.name: value for value in made if value.name is not None}
