"""Recurrent layers written as Scans over their steps, so that their recurrent matrices are found, and written back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lrfdse.model.bodies import bodies_of, values_by_name
from lrfdse.model.carriers import mark
from lrfdse.model.constants import is_root, node_name, readers, stored
from lrfdse.model.passes.carried.cells import LEAST_OPSET, Body, directions_of, is_usual, scan_of, states_of
from lrfdse.model.passes.emit import Emitter, Names, drop_unused, take_name


@dataclass(frozen=True, slots=True, eq=False)
class Spelled:
    """A recurrent layer that was written as a Scan a direction."""

    name: str | None
    op_type: str
    attributes: Mapping[str, ir.Attr]
    metadata: Mapping[str, str]
    product: str
    """Name of the product of the input, of all directions."""
    products: tuple[str, ...]
    """Name of the product of the state in each direction."""
    gates: str
    """Name of the input's product with its bias."""
    weights: tuple[str, str, str]
    """Names of the input matrix, the recurrent one and the biases; the last is empty where there are none."""
    tensors: tuple[ir.TensorProtocol, ...]
    """What was stored under them."""
    matrices: tuple[str, ...]
    """Names under which the recurrent matrix of each direction is stored."""
    outputs: tuple[str | None, ...]
    """Names of the outputs that anything reads."""


def state_of(node: str) -> str:
    """Return what the recurrent half of a node of one direction is called; that of two has a number behind it.

    >>> state_of("encoder/LSTM")
    'encoder/LSTM.state'
    """
    return f"{node}.state"


def no_spelling(node: ir.Node, opset: int) -> str | None:
    """Return why a recurrent layer cannot be written as Scans, or None.

    Parameters
    ----------
    node
        An LSTM, GRU or RNN whose input matrix is a stored tensor.
    opset
        Version of ONNX's own operators that the model imports.
    """
    if node.op_type == "RNN":
        return "an RNN is not written in single steps"
    if not is_usual(node):
        return f"this form of {node.op_type} is not written in single steps"
    if opset < LEAST_OPSET:
        return f"opset {opset} has no Scan to write its steps in: version {LEAST_OPSET} or newer is required"
    bias = node.inputs[3] if len(node.inputs) > 3 else None
    recurrent = node.inputs[2]
    if recurrent is None or not is_root(recurrent) or stored(recurrent).dtype != ir.DataType.FLOAT:
        return "it is not a stored tensor of float32"
    if bias is not None and not is_root(bias):
        return "its bias is computed"
    for reader in readers(recurrent):
        if reader is not node:
            what = "is an output of the model" if reader is None else f"is also read by {node_name(reader)!r}"
            return f"{recurrent.name!r} {what}"
    return None


def spell_out(model: ir.Model, node: ir.Node, product: ir.Value, names: Names) -> Spelled:
    """Write a recurrent layer as Scans in its place.

    Parameters
    ----------
    model
        The model, which is changed.
    node
        An LSTM or GRU; `no_spelling` returns None of it.
    product
        The product of what it reads with its input matrix, (steps, samples, directions * gates * hidden).
    names
        Gives names to what is added.
    """
    emit = Emitter.before(model, node, names)
    graph = node.graph
    weight, recurrent = node.inputs[1], node.inputs[2]
    assert isinstance(graph, ir.Graph) and weight is not None and recurrent is not None
    bias = node.inputs[3] if len(node.inputs) > 3 else None
    directions = directions_of(node)
    count, rows, hidden = (int(size) for size in stored(recurrent).shape.numpy())
    gates = product
    if bias is not None:
        gates = emit.op("Add", [product, emit.constant("input.bias", stored(bias).numpy()[:, :rows].reshape(-1))])
    given = [gates] if count == 1 else emit.split(gates, [rows] * count, 2)
    initial = [node.inputs[5 + place] if len(node.inputs) > 5 + place else None for place in range(2)]
    runs, products, matrices = [], [], []
    for number, (reverse, part) in enumerate(zip(directions, given, strict=True)):
        label = state_of(node_name(node)) + (f".{number}" if count > 1 else "")
        matrix = emit.constant(f"state.{number}", stored(recurrent).numpy()[number].T)
        added = None if bias is None else emit.constant(f"bias.{number}", stored(bias).numpy()[number, rows:])
        write = Body(emit.opset, names.free, emit.integers)
        part.dtype = ir.DataType.FLOAT
        first = [_state(emit, initial[place], number, part, hidden) for place in range(states_of(node.op_type))]
        times = partial(_times, write, matrix, added)
        scan = scan_of(write, node.op_type, hidden, reverse, part, first, times)
        scan.name = label
        for value in scan.outputs:
            value.name, value.dtype = names.free(f"{label}.Scan"), ir.DataType.FLOAT
        graph.insert_before(node, scan)
        (multiplied,) = (each for each in write.nodes if each.op_type == "MatMul")
        multiplied.metadata_props.update(node.metadata_props)
        mark(multiplied, "state", label)
        products.append(multiplied.outputs[0].name or "")
        matrices.append(matrix)
        runs.append([scan.outputs[-1], *scan.outputs[:-1]])
    read = [value for value in node.outputs if value.uses() or value.is_graph_output()]
    places = {value: place for place, value in enumerate(node.outputs)}
    made = {value: _stacked(emit, [run[places[value]] for run in runs], int(places[value] == 0)) for value in read}
    tensors = tuple(stored(value) for value in (weight, recurrent, bias) if value is not None)
    for place, weights in ((2, recurrent), (3, bias)):
        if weights is not None:
            # What the node reads goes with it, so that its name is free.
            node.replace_input_with(place, None)
            drop_unused(weights)
    if count == 1:
        take_name(recurrent, matrices[0])
    found = Spelled(
        name=node.name,
        op_type=node.op_type,
        attributes=dict(node.attributes),
        metadata=dict(node.metadata_props),
        product=product.name or "",
        products=tuple(products),
        gates=gates.name or "",
        weights=(weight.name or "", recurrent.name or "", "" if bias is None else bias.name or ""),
        tensors=tensors,
        matrices=tuple(value.name or "" for value in matrices),
        outputs=tuple(value.name if value in made else None for value in node.outputs),
    )
    for old, new in made.items():
        new.type, new.shape = old.type, old.shape
        old.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    for old, new in made.items():
        new.name = old.name
    return found


def write_back(model: ir.Model, layers: Sequence[Spelled]) -> ir.Model:
    """Write layers whose recurrent matrices are whole as the nodes that they were; the model is changed and returned.

    The product of the input becomes the node's own matrix again; where it became two, the first stays in front of the
    node, and a shift of its bias goes into the node's. Layers of which a recurrent matrix was replaced stay Scans.
    """
    for each in layers:
        made = values_by_name(model.graph)
        if all(_is_whole(made[name], matrix) for name, matrix in zip(each.products, each.matrices, strict=True)):
            _write_back(model, each, made)
    return model


def _is_whole(product: ir.Value, matrix: str) -> bool:
    node = product.producer()
    assert node is not None
    weight = node.inputs[1]
    return node.op_type == "MatMul" and weight is not None and weight.name == matrix


def _write_back(model: ir.Model, layer: Spelled, made: Mapping[str, ir.Value]) -> None:
    names = Names(model)
    scans = [_holder(model, made[name]) for name in layer.products]
    graph = scans[0].graph
    assert isinstance(graph, ir.Graph)
    emit = Emitter(model, scans[0], layer.name or layer.op_type, {}, names)
    count, rows = (int(size) for size in layer.tensors[1].shape.numpy()[:2])
    last = made[layer.product].producer()
    assert last is not None
    bias = _fixed_part(made[layer.gates]) if layer.weights[2] else None
    if last.op_type == "Add":
        # There was no bias to take the shift.
        bias = _fixed_part(made[layer.product])
        last = next(node for value in last.inputs if value is not None and (node := value.producer()) is not None)
    source, factor = last.inputs
    assert source is not None and factor is not None
    is_whole = factor.name == layer.weights[0]
    given = layer.tensors[0].numpy() if is_whole else stored(factor).numpy().T.reshape(count, rows, -1)
    stores = [
        (layer.weights[0] if is_whole else factor.name or "", given),
        (layer.weights[1], layer.tensors[1].numpy()),
    ]
    if bias is not None:
        old = layer.tensors[2].numpy() if layer.weights[2] else np.zeros((count, 2 * rows), bias.dtype)
        # The biases of the input's product come first, those of the recurrent one behind (ONNX, LSTM and GRU).
        whole = np.concatenate([np.broadcast_to(bias, count * rows).reshape(count, rows), old[:, rows:]], axis=1)
        stores.append((layer.weights[2] or f"{layer.name or layer.op_type}.bias", whole.astype(old.dtype)))
    constants: list[ir.Value | None] = [
        emit.constant(f"whole.{place}", np.ascontiguousarray(array)) for place, (_, array) in enumerate(stores)
    ]
    while len(constants) < 3:
        constants.append(None)
    lookups = [value.producer() if value is not None else None for value in scans[0].inputs[:-1]]
    initial = [None if n is None or n.op_type != "Gather" else n.inputs[0] for n in lookups]
    inputs: list[ir.Value | None] = [source, *constants, None, *initial]
    given_up_to = max(place for place, value in enumerate(inputs) if value is not None)
    inputs = inputs[: given_up_to + 1]
    node = ir.node(layer.op_type, inputs, num_outputs=len(layer.outputs), name=layer.name)
    node.attributes.update(layer.attributes)
    node.metadata_props.update(layer.metadata)
    graph.insert_before(scans[0], node)
    gone = []
    for value, name in zip(node.outputs, layer.outputs, strict=True):
        value.name = ""
        if name is not None:
            before = made[name]
            value.type, value.shape = before.type, before.shape
            before.replace_all_uses_with(value, replace_graph_outputs=True)
            gone.append(before)
    for before in gone:
        _remove(before)
    for value, name in zip(node.outputs, layer.outputs, strict=True):
        value.name = name or ""
    for constant, (name, _) in zip(constants, stores, strict=False):
        if constant is not None and name not in model.graph.initializers:
            constant.name = name


def _times(write: Body, matrix: ir.Value, added: ir.Value | None, state: ir.Value) -> ir.Value:
    """Write the product of a state in a body, and what is added to it."""
    made = write.op("MatMul", state, matrix)
    made.dtype = ir.DataType.FLOAT
    return made if added is None else write.op("Add", made, added)


def _state(emit: Emitter, value: ir.Value | None, direction: int, gates: ir.Value, hidden: int) -> ir.Value:
    """Return the first state of a direction, (samples, hidden): its part of what is given, or zeros."""
    if value is not None:
        return emit.op("Gather", [value, emit.constant(f"place.{direction}", np.array(direction, np.int64))], axis=0)
    samples = emit.op("Gather", [emit.op("Shape", [gates]), emit.integers([1])], axis=0)
    return emit.op("ConstantOfShape", [emit.op("Concat", [samples, emit.integers([hidden])], axis=0)])


def _stacked(emit: Emitter, runs: Sequence[ir.Value], axis: int) -> ir.Value:
    """Return what directions give with an axis for them."""
    parts = [emit.unsqueeze(each, [axis]) for each in runs]
    return parts[0] if len(parts) == 1 else emit.op("Concat", parts, axis=axis)


def _holder(model: ir.Model, value: ir.Value) -> ir.Node:
    """Return the node in whose body a value stands."""
    body = value.graph
    return next(
        node
        for node in ir.traversal.RecursiveGraphIterator(model.graph)
        if any(each is body for each in bodies_of(node))
    )


def _fixed_part(total: ir.Value) -> NDArray[Any]:
    """Return the stored operand of a sum."""
    node = total.producer()
    assert node is not None and node.op_type == "Add"
    return next(stored(value).numpy() for value in node.inputs if value is not None and is_root(value))


def _remove(value: ir.Value) -> None:
    """Remove what makes a value that nothing reads, with what only it needed."""
    left: list[ir.Value | None] = [value]
    while left:
        last = left.pop()
        node = None if last is None else last.producer()
        if last is None or last.uses() or last.is_graph_output():
            continue
        if node is None or node.op_type == "Constant":
            drop_unused(last)
            continue
        if node.graph is None or any(each.uses() or each.is_graph_output() for each in node.outputs):
            continue
        left += node.inputs
        for body in bodies_of(node):
            body.outputs[:] = []
            for inner in reversed(list(body)):
                left += inner.inputs
                body.remove(inner, safe=True)
        node.graph.remove(node, safe=True)
