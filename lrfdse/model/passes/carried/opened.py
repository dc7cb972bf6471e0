"""Products taken out of LSTM, GRU, RNN, Attention and Gather, so that they are found, fitted and seen like any other.

A recurrent layer or an Attention multiplies what it reads by a matrix before it does anything else: that product is put
in front as a MatMul, and the node selects from the result what was its own (its matrix becomes one of zeros and ones).
Where recurrent matrices are wanted as well, the node becomes single operators (`lrfdse.model.passes.carried.spelled`).
An embedding (Gather on a stored matrix W) becomes Gather on Q and a product with C, where ``W = Q C``. What is written
for a user never has this form: `lrfdse.model.passes.carried.closed` turns it back.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lrfdse.model.bodies import all_nodes
from lrfdse.model.carriers import Carrier, carrier_of, mark
from lrfdse.model.constants import FLOATS, is_root, known_values, node_name, readers, stored
from lrfdse.model.passes.carried.spelled import Spelled, no_spelling, spell_out
from lrfdse.model.passes.emit import Emitter, Names, drop_unused, take_name

_MOST_SELECTED = 1 << 27
"""Elements that a matrix of zeros and ones may have: 512 MiB of float32. Chosen."""

_SMALLEST = 1e-8
"""Part of a table's largest singular value below which others count as this: the square root of the rounding of double
precision, in which the eigenvalues of its second moment are computed."""


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A product that was taken out."""

    carrier: Carrier
    product: str
    """Name of the product's output."""
    weight: str
    """Name of the stored tensor."""
    tensor: ir.TensorProtocol
    """The tensor as the file has it."""
    selection: str = ""
    """Name of the matrix of zeros and ones; empty for an embedding, which needs none."""


class OpenProducts(ir.passes.InPlacePass):
    """Takes products out of the nodes that carry one, in bodies as well.

    Nodes stay as they are whose matrix is not stored or is read by something else; `refused` says why.

    Parameters
    ----------
    carriers
        The kinds of nodes to open.
    """

    def __init__(self, carriers: Collection[Carrier]) -> None:
        self._carriers = frozenset(carriers)
        self.opened: list[Opened] = []
        """What the last call took out, in graph order."""
        self.refused: dict[str, str] = {}
        """Name of the first output of each node that it left, or whose recurrent matrix it left, to the reason."""
        self.spelled: list[Spelled] = []
        """Recurrent layers that became single operators in the last call, their products among them."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change the model; the result says whether anything was taken out."""
        self.opened, self.refused, self.spelled = [], {}, []
        names, known = Names(model), known_values(model.graph)
        shared: dict[ir.Value, tuple[ir.Value, ...]] = {}
        selections: dict[tuple[int, int, ir.DataType], ir.Value] = {}
        for node in all_nodes(model.graph):
            carrier = carrier_of(node)
            operands = _operands(node, known)
            wanted = carrier in self._carriers or (carrier == "recurrent" and "state" in self._carriers)
            if carrier is None or not wanted or operands is None:
                continue
            weight = operands[1]
            if reason := _reason(node, carrier, weight):
                self.refused[node.outputs[0].name or ""] = reason
                continue
            emit = Emitter.before(model, node, names)
            if carrier == "recurrent" and "state" in self._carriers:
                if (why := no_spelling(node, emit.opset)) is None:
                    self.spelled.append(_spell_out(emit, model, node, weight, shared, names))
                    continue
                self.refused[node.outputs[0].name or ""] = f"its recurrent matrix: {why}"
                if carrier not in self._carriers:
                    continue
            tensor, name, label = stored(weight), weight.name or "", node_name(node)
            if carrier == "embedding":
                product, selection = _open_table(emit, node, weight, shared), None
            else:
                product, selection = _open_product(emit, node, carrier, weight, shared, selections)
            drop_unused(weight)
            take_name(weight, shared[weight][0])
            made = product.producer()
            assert made is not None
            made.metadata_props.update(node.metadata_props)
            mark(made, carrier, label)
            chosen = "" if selection is None else selection.name or ""
            self.opened.append(Opened(carrier, product.name or "", name, tensor, chosen))
        return ir.passes.PassResult(model, modified=bool(self.opened or self.spelled))


def could_be_opened(node: ir.Node, known: set[ir.Value]) -> Carrier | None:
    """Return as what a product could be taken out of a node of a graph whose known values are given, or None."""
    carrier, operands = carrier_of(node), _operands(node, known)
    if carrier is None or operands is None or _reason(node, carrier, operands[1]) is not None:
        return None
    return carrier


def _operands(node: ir.Node, known: set[ir.Value]) -> tuple[ir.Value, ir.Value] | None:
    """Return what a node with a product inside reads, and the matrix; None where the first is known without running."""
    if (carrier := carrier_of(node)) is None:
        return None
    source, weight = (node.inputs[1], node.inputs[0]) if carrier == "embedding" else node.inputs[:2]
    return None if source is None or weight is None or source in known else (source, weight)


def _reason(node: ir.Node, carrier: Carrier, weight: ir.Value) -> str | None:
    """Return why a product cannot be taken out, or None."""
    if not is_root(weight) or stored(weight).dtype not in FLOATS:
        return "its input matrix is not a stored tensor of floating point"
    shape = tuple(stored(weight).shape.numpy())
    if 0 in shape:
        return "its input matrix is empty"
    for reader in readers(weight):
        if reader is None:
            return f"its weight {weight.name!r} is an output of the model"
        if carrier_of(reader) != carrier or reader.op_type != node.op_type:
            return f"its weight {weight.name!r} is also read by {reader.op_type} {node_name(reader)!r}"
    if len(shape) != (3 if carrier == "recurrent" else 2):
        return f"its input matrix has {len(shape)} dimensions"
    wide = shape[0] * shape[1] if carrier == "recurrent" else shape[1]
    if carrier != "embedding" and wide * wide > _MOST_SELECTED * shape[0]:
        return f"its {wide:,} gates are more than can be looked at one by one"
    return None


def _spell_out(
    emit: Emitter,
    model: ir.Model,
    node: ir.Node,
    weight: ir.Value,
    shared: dict[ir.Value, tuple[ir.Value, ...]],
    names: Names,
) -> Spelled:
    """Write a recurrent layer in single operators, behind the product of what it reads."""
    tensor, label = stored(weight), node_name(node)
    if weight not in shared:
        wide = tensor.shape.numpy()
        shared[weight] = (emit.constant("input", tensor.numpy().reshape(int(wide[0] * wide[1]), -1).T),)
    product = emit.op("MatMul", [node.inputs[0], shared[weight][0]])
    made = product.producer()
    assert made is not None
    product.dtype = tensor.dtype
    made.metadata_props.update(node.metadata_props)
    mark(made, "recurrent", label)
    found = spell_out(model, node, product, names)
    drop_unused(weight)
    take_name(weight, shared[weight][0])
    return found


def _open_product(
    emit: Emitter,
    node: ir.Node,
    carrier: Carrier,
    weight: ir.Value,
    shared: dict[ir.Value, tuple[ir.Value, ...]],
    selections: dict[tuple[int, int, ir.DataType], ir.Value],
) -> tuple[ir.Value, ir.Value]:
    """Put the product in front of a node; return what it makes, and the node's own matrix of zeros and ones."""
    tensor = stored(weight)
    assert tensor.dtype is not None
    directions, wide = (tensor.shape[0], tensor.shape[1]) if carrier == "recurrent" else (1, tensor.shape[1])
    assert isinstance(directions, int) and isinstance(wide, int)
    if weight not in shared:
        array = tensor.numpy()
        shared[weight] = (
            emit.constant("input", array if carrier == "attention" else array.reshape(directions * wide, -1).T),
        )
    product = emit.op("MatMul", [node.inputs[0], shared[weight][0]])
    place = (directions, wide, tensor.dtype)
    if place not in selections:
        selected = np.eye(directions * wide, dtype=tensor.dtype.numpy())
        # Gates of a direction, taken from those of all.
        rows = selected if carrier == "attention" else selected.reshape(directions, wide, directions * wide)
        selections[place] = emit.constant("selected", rows)
    node.replace_input_with(0, product)
    node.replace_input_with(1, selections[place])
    return product, selections[place]


def _open_table(
    emit: Emitter, node: ir.Node, table: ir.Value, shared: dict[ir.Value, tuple[ir.Value, ...]]
) -> ir.Value:
    """Put a product behind a Gather; return what it makes, under the name of what the Gather made."""
    if table not in shared:
        array = stored(table).numpy()
        rows, matrix = split_table(array)
        shared[table] = (
            emit.constant("directions", matrix.astype(array.dtype)),
            emit.constant("rows", rows.astype(array.dtype)),
        )
    matrix_value, rows_value = shared[table]
    gathered = emit.op("Gather", [rows_value, node.inputs[1]], axis=0)
    product = emit.op("MatMul", [gathered, matrix_value])
    lookup = gathered.producer()
    assert lookup is not None
    mark(lookup, "embedding", node_name(node))
    old = node.outputs[0]
    name, product.type, product.shape = old.name, old.type, old.shape
    old.replace_all_uses_with(product, replace_graph_outputs=True)
    assert node.graph is not None
    node.graph.remove(node, safe=True)
    product.name = name
    return product


def split_table(table: NDArray[np.generic]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return Q, shape of the table (rows, d), and C, shape (d, d), with ``table = Q C``: its polar decomposition.

    C is symmetric and has the table's singular values, so that what a rank of C discards is what it discards of the
    table; Q has orthogonal columns, but for directions that the table lacks. Unlike factors of a singular value or QR
    decomposition, C does not turn with the rounding of the machine (Higham, Functions of Matrices, chapter 8).
    """
    whole = table.astype(np.float64)
    values, vectors = np.linalg.eigh(whole.T @ whole)
    scales = np.sqrt(np.maximum(values, 0.0))
    scales = np.maximum(scales, _SMALLEST * float(scales.max()) or 1.0)
    return whole @ (vectors / scales) @ vectors.T, (vectors * scales) @ vectors.T


def opened(model: ir.Model, carriers: Collection[Carrier]) -> tuple[ir.Model, OpenProducts]:
    """Return the model with its products taken out, and the pass that did it; the model given stays as it is.

    Where there is nothing to take out, the model returned is the one that was given.
    """
    taking = OpenProducts(carriers)
    found = {carrier_of(node) for node in all_nodes(model.graph)}
    if not found.intersection(carriers) and not ("state" in carriers and "recurrent" in found):
        return model, taking
    made = ir.passes.functionalize(taking)(model)
    return (made.model if made.modified else model), taking
