"""What the exploration leaves alone: every other node that holds weights, with the reason."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import onnx_ir as ir

from lrfdse.ir.layer import Untouched
from lrfdse.model.carriers import carrier_of, taken_from
from lrfdse.model.constants import is_dequantizer, is_standard, node_name, stored, trace
from lrfdse.model.match.products import READ, every_node
from lrfdse.model.passes.carried.opened import Opened
from lrfdse.model.passes.carried.spelled import no_spelling

_REASONS = {
    "Conv": "a convolution",
    "ConvTranspose": "a convolution",
    "Gather": "an embedding",
    "LSTM": "a recurrent layer",
    "GRU": "a recurrent layer",
    "RNN": "a recurrent layer",
    "Einsum": "an einsum",
}

_REST = "its recurrent matrix: {}"
"""Why a node is left whose product with what it reads is a layer."""

_ASKED = "`--layers` with `state` explores it"

_QUANTIZED = ("QLinear", "Integer", "DequantizeLinear", "QGemm", "QAttention", "NBits", "DynamicQuantize", "Bnb4")

_WEIGHT_TYPES = frozenset(
    dtype
    for dtype in ir.DataType
    if dtype.name.startswith(("FLOAT", "BFLOAT", "DOUBLE", "INT4", "UINT4", "INT8", "UINT8"))
)


def untouched(
    model: ir.Model, layers: set[ir.Node], refused: Mapping[ir.Node, str], products: Sequence[Opened] = ()
) -> tuple[Untouched, ...]:
    """List the nodes that hold a matrix or more of weights and belong to no layer, in graph order.

    A tensor that several nodes read counts with the first. Vectors (biases, scales) are left out.

    Parameters
    ----------
    model
        The model as layers are found in it.
    layers
        Nodes of layers.
    refused
        Why others that look like one are none.
    products
        What was taken out of other nodes. What these hold besides is told; what stands in for the product is not.
    """
    opset = model.graph.opset_imports.get("", 0) or model.graph.opset_imports.get("ai.onnx", 0)
    selections = {product.selection for product in products}
    halves = {product.product for product in products if product.selection}
    seen: set[ir.Value] = set()
    found = []
    places: list[tuple[ir.Node, str | None]] = []
    bodies = {}
    for node, outer in every_node(model.graph):
        places.append((node, None))
        if outer is not None:
            bodies[node] = f"{outer.op_type} {node_name(outer)!r}"
    for function in model.functions.values():
        places += [(node, f"inside the function {function.name!r}") for node in function.all_nodes()]
    for node, place in places:
        # The lookup of an embedding is a part of the layer behind it.
        lookup = node.op_type == "Gather" and taken_from(node) is not None
        if (
            node in layers
            or lookup
            or is_dequantizer(node)
            or (is_standard(node) and node.op_type in ("Identity", "Transpose", "Cast", "Constant", "Shape"))
        ):
            continue
        is_half = any(value is not None and value.name in halves for value in node.inputs)
        # Of a node whose product is a layer, so is the bias.
        rest = node.inputs[:3] if is_half and carrier_of(node) == "recurrent" else node.inputs
        roots = {root for root in map(_matrix, rest) if root is not None and root.name not in selections}
        fresh = roots - seen
        params, taken = sum(map(_size, fresh)), sum(map(_bytes, fresh))
        seen |= roots
        reason = refused.get(node)
        if reason is None:
            reason = _given_weight(node, bodies.get(node))
        if reason is None and roots:
            reason = _REST.format(no_spelling(node, opset) or _ASKED) if is_half else place or _reason(node)
            reason += f", inside the body of {bodies[node]}" if node in bodies else ""
        if reason is not None:
            found.append(Untouched(node_name(node), node.op_type, params, taken, reason))
    return tuple(found)


def _matrix(value: ir.Value | None) -> ir.Value | None:
    """Return the root of a constant that is more than a vector."""
    constant = trace(value)
    if constant is None or constant.dtype is None or stored(constant.root).dtype not in _WEIGHT_TYPES:
        return None
    return constant.root if sum(size > 1 for size in constant.shape) >= 2 else None


def _size(root: ir.Value) -> int:
    return math.prod(stored(root).shape.numpy())


def _bytes(root: ir.Value) -> int:
    return stored(root).nbytes


def _given_weight(node: ir.Node, body: str | None) -> str | None:
    """Return why a Gemm or MatMul with a matrix that comes from outside of its graph is no layer, else None."""
    if not is_standard(node) or node.op_type not in ("Gemm", "MatMul") or len(node.inputs) < 2:
        return None
    weight = node.inputs[1]
    if weight is None or not weight.is_graph_input() or weight.const_value is not None:
        return None
    # More axes are those of a product of two activations, as in attention.
    if weight.shape is not None and len(weight.shape) > 2:
        return None
    if body is None:
        return f"its weight is the model's input {weight.name!r}"
    return f"its weight {weight.name!r} is handed to the body of {body}"


def _reason(node: ir.Node) -> str:
    if is_standard(node) and node.op_type == "DequantizeLinear":
        return f"quantized in a form other than {READ}"
    if is_standard(node) and node.op_type in ("ConvInteger", "MatMulInteger"):
        return f"quantized in a form other than {READ}, on levels that DynamicQuantizeLinear makes"
    if any(part in node.op_type for part in _QUANTIZED):
        return "quantized"
    if is_standard(node):
        return _REASONS.get(node.op_type, f"a constant of {node.op_type}")
    return f"an operator of {node.domain}"
