"""Products put back into the nodes that carried them, whole or as factors: no node more than the rank asks for."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lrfdse.errors import PlanError
from lrfdse.ir.int8 import nearest
from lrfdse.model.bodies import all_nodes
from lrfdse.model.constants import is_root, stored
from lrfdse.model.passes.carried.opened import Opened
from lrfdse.model.passes.emit import Emitter, Names, drop_unused, replace, take_name


class CloseProducts(ir.passes.InPlacePass):
    """Puts the products that `OpenProducts` took out back, as they were or as `ReplaceLayers` left them.

    A recurrent layer or an Attention whose product became two keeps the first in front of it, and the second becomes
    its own matrix, of as many inputs as the rank; a shift of the bias goes into its bias. The first factor of an
    embedding goes into the table, of as many columns as the rank. Whole products become the tensors that the file had.

    Parameters
    ----------
    products
        What was taken out.
    rounded
        Names of the products of embeddings whose table is to be int8.
    """

    def __init__(self, products: Sequence[Opened], rounded: Collection[str] = ()) -> None:
        self._products, self._rounded = products, frozenset(rounded)

    def requires(self, model: ir.Model) -> None:
        """Raise `ir.passes.PreconditionError` where a product is not in the graph."""
        made = _made(model)
        if gone := [each.product for each in self._products if each.product not in made]:
            raise ir.passes.PreconditionError(f"the model has no product {gone[0]!r}")

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change the model; the result says whether there was anything to put back."""
        names = Names(model)
        shared: dict[tuple[str, ir.Value], ir.Value] = {}
        for each in self._products:
            product = _made(model)[each.product]
            if each.carrier == "embedding":
                _close_table(model, each, product, names, shared, each.product in self._rounded)
            else:
                _close_product(model, each, product, names, shared)
        return ir.passes.PassResult(model, modified=bool(self._products))

    def ensures(self, model: ir.Model) -> None:
        """Raise `ir.passes.PostconditionError` where a matrix of zeros and ones is still stored."""
        held = {value.name for value in model.graph.initializers.values()} | set(_made(model))
        if left := held & {each.selection for each in self._products if each.selection}:
            raise ir.passes.PostconditionError(f"{sorted(map(str, left))[0]!r} is still there")


def _made(model: ir.Model) -> dict[str, ir.Value]:
    return {value.name: value for node in all_nodes(model.graph) for value in node.outputs if value.name}


def _close_product(
    model: ir.Model, opened: Opened, product: ir.Value, names: Names, shared: dict[tuple[str, ir.Value], ir.Value]
) -> None:
    (usage,) = product.uses()
    node, selection = usage.node, usage.node.inputs[1]
    matmul, shift = _unshifted(product)
    factor = matmul.inputs[1]
    assert factor is not None and selection is not None
    emit = Emitter.before(model, node, names)
    if opened.carrier == "attention":
        weight = factor
    else:
        if ("matrix", factor) not in shared:
            directions, wide = (int(size) for size in opened.tensor.shape.numpy()[:2])
            array = stored(factor).numpy().T
            shared["matrix", factor] = _named(emit, "input", array.reshape(directions, wide, -1), factor)
        weight = shared["matrix", factor]
    node.replace_input_with(0, matmul.inputs[0])
    node.replace_input_with(1, weight)
    if shift is not None:
        place = 2 if opened.carrier == "attention" else 3
        bias = node.inputs[place] if len(node.inputs) > place else None
        fixed = bias is not None and is_root(bias)
        new = emit.constant(
            "bias", _shifted(opened, stored(bias).numpy() if bias is not None and fixed else None, shift)
        )
        # A bias that the model computes is added to.
        _set_input(node, place, new if bias is None or fixed else emit.op("Add", [bias, new]))
        if bias is not None and fixed:
            drop_unused(bias)
    _remove(product, matmul)
    drop_unused(selection)
    if not factor.uses():
        drop_unused(factor)
        take_name(factor, weight)


def _close_table(
    model: ir.Model,
    opened: Opened,
    product: ir.Value,
    names: Names,
    shared: dict[tuple[str, ir.Value], ir.Value],
    rounded: bool,
) -> None:
    last, _ = _unshifted(product)
    first = last.inputs[0].producer() if last.inputs[0] is not None else None
    assert first is not None
    is_whole = first.op_type == "Gather"
    gather = first if is_whole else first.inputs[0].producer() if first.inputs[0] is not None else None
    assert gather is not None and gather.op_type == "Gather"
    rows, end = gather.inputs[0], last if is_whole else first
    factor = end.inputs[1]
    assert rows is not None and factor is not None
    if ("table", factor) not in shared:
        emit = Emitter.before(model, gather, names)
        if is_whole:
            array = opened.tensor.numpy()
        else:
            array = _product(stored(rows).numpy(), stored(factor).numpy(), opened.weight)
        if rounded:
            found = nearest(array.astype(np.float64).T)
            shared["scales", factor] = emit.constant("table.scale", found.scales)
            array = found.levels.T
        shared["table", factor] = emit.constant("table", array)
    gather.replace_input_with(0, shared["table", factor])
    drop_unused(rows)
    looked_up = gather.outputs[0]
    if rounded:
        assert opened.tensor.dtype is not None
        looked_up.type = ir.TensorType(ir.DataType.INT8)
        emit = Emitter.before(model, end, names)
        looked_up = emit.scaled(looked_up, shared["scales", factor], opened.tensor.dtype)
    replace(end.outputs[0], looked_up)
    if is_whole and not rounded and opened.weight not in model.graph.initializers:
        shared["table", factor].name = opened.weight


def _unshifted(product: ir.Value) -> tuple[ir.Node, ir.Value | None]:
    """Return the last MatMul of a product, and the shift that is added behind it."""
    node = product.producer()
    assert node is not None
    if node.op_type != "Add":
        return node, None
    places = [place for place, value in enumerate(node.inputs) if value is not None and is_root(value)]
    inner = node.inputs[1 - places[0]]
    matmul = None if inner is None else inner.producer()
    assert matmul is not None
    return matmul, node.inputs[places[0]]


def _shifted(opened: Opened, bias: NDArray[Any] | None, shift: ir.Value) -> NDArray[Any]:
    """Return a node's bias with a shift of its product added."""
    added = stored(shift).numpy()
    if opened.carrier == "attention":
        return added if bias is None else bias + added
    directions, wide = (int(size) for size in opened.tensor.shape.numpy()[:2])
    # The biases of the input's product come first, those of the recurrent one behind (ONNX, operators LSTM and GRU).
    whole = np.zeros((directions, 2 * wide), added.dtype) if bias is None else bias.copy()
    whole[:, :wide] += added.reshape(directions, wide)
    return whole


def _product(rows: NDArray[Any], factor: NDArray[Any], name: str) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        table = (rows.astype(np.float64) @ factor.astype(np.float64)).astype(rows.dtype)
    if not np.isfinite(table.astype(np.float64)).all():
        raise PlanError(f"the factors of table {name!r} leave the range of {rows.dtype}")
    return table


def _named(emit: Emitter, label: str, array: NDArray[Any], like: ir.Value) -> ir.Value:
    return emit.constant(f"{label}.{like.name}", array)


def _set_input(node: ir.Node, place: int, value: ir.Value) -> None:
    if len(node.inputs) <= place:
        node.resize_inputs(place + 1)
    node.replace_input_with(place, value)


def _remove(product: ir.Value, matmul: ir.Node) -> None:
    """Remove the product's nodes, which nothing reads any more."""
    end = product.producer()
    assert end is not None and end.graph is not None
    graph = end.graph
    constants = [value for value in end.inputs if value is not None and is_root(value)] if end is not matmul else []
    if end is not matmul:
        graph.remove(end, safe=True)
    graph.remove(matmul, safe=True)
    for value in constants:
        drop_unused(value)
