"""How many multiply-accumulates (MACs) one inference of a whole model takes, node by node, whatever can compile it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx_ir as ir

from lrfdse.errors import InputError
from lrfdse.model.constants import is_standard, node_name, trace
from lrfdse.model.match.products import every_node
from lrfdse.model.seen import seen_sizes
from lrfdse.model.shapes import infer_values, is_known, sizes_of

if TYPE_CHECKING:
    from lrfdse.model.graph import Model
    from lrfdse.model.shapes import Sizes

_Shape = Callable[[ir.Value | None], tuple[int, ...] | None]
"""Gives the sizes of a value; None where one of them is not known."""


@dataclass(frozen=True, slots=True)
class Macs:
    """MACs of one inference by node; elementwise work, sums and copies have none."""

    nodes: Mapping[str, int]
    """Name of a node of the main graph to its MACs: products, convolutions, recurrent layers."""
    unknown: tuple[str, ...]
    """Names of nodes of the main graph that multiply matrices, and of which nothing says how large these are."""

    @property
    def total(self) -> int | None:
        """MACs of the whole model; None where those of a node are not known."""
        return None if self.unknown else sum(self.nodes.values())


def macs_of(model: Model) -> Macs:
    """Return the MACs of one inference, in the sizes in which the model's layers are timed."""
    sizes = sizes_of(infer_values(model.proto, model.inputs, fixed=True))
    # A recurrent operator does more than the matrix that is its layer, and the reading of a table multiplies nothing.
    layers = [layer for layer in model.layers if layer.kind in ("fc", "conv")]
    known = {use.node: layer.outputs * layer.inputs * use.rows for layer in layers for use in layer.uses}

    def shape(value: ir.Value | None) -> tuple[int, ...] | None:
        constant = trace(value)
        found: Sizes | None = constant.shape if constant else sizes.get((value and value.name) or "")
        return tuple(int(size or 0) for size in found) if found is not None and is_known(found) else None

    found: dict[str, int] = {}
    unknown: dict[str, None] = {}
    unsized: list[ir.Node] = []
    for node, outer in every_node(model.original.graph):
        name = node_name(outer or node)
        if outer is None and name in known:
            found[name] = known[name]
            continue
        if (count := _count(node, shape)) == 0:
            continue
        if count is not None and outer is None:
            found[name] = count
            continue
        # How often a body runs, its sizes do not say.
        unknown[name] = None
        if outer is None and is_standard(node) and node.op_type in _RULES:
            unsized.append(node)
    sizes |= _seen(model, unsized)
    for node in unsized:
        if (count := _count(node, shape)) is not None:
            found[node_name(node)] = count
            del unknown[node_name(node)]
    return Macs(found, tuple(unknown))


def _seen(model: Model, nodes: Sequence[ir.Node]) -> dict[str, Sizes]:
    """Return the sizes of what nodes read and give in one run; none where the model cannot be run as it is."""
    if not nodes or not all(is_known(port.fixed) for port in model.inputs):
        return {}
    values = [value for node in nodes for value in (*node.inputs, *node.outputs) if value is not None]
    names = dict.fromkeys(value.name or "" for value in values if trace(value) is None and value.name)
    try:
        return seen_sizes(model.original, model.inputs, list(names))
    except InputError:
        return {}


def _count(node: ir.Node, shape: _Shape) -> int | None:
    """Return the MACs of a node, 0 where it multiplies no matrices; None where they are not known."""
    if is_standard(node) and node.op_type in _RULES:
        return _RULES[node.op_type](node, shape)
    # An einsum may be anything, and so may the operators of runtimes.
    if any(part in node.op_type for part in _OPAQUE):
        return None
    return 0


_OPAQUE = ("Einsum", "Gemm", "MatMul", "Conv", "Attention", "LSTM", "GRU", "RNN")
"""Parts of the names of operators that multiply matrices: ONNX's quantized ones, and the fused ones of onnxruntime."""


def _product(node: ir.Node, shape: _Shape) -> int | None:
    """Count a Gemm or MatMul: every output is a sum over the inner axis."""
    left, out = shape(node.inputs[0]), shape(node.outputs[0])
    if left is None or out is None or not left:
        return None
    turned = node.op_type == "Gemm" and "transA" in node.attributes and node.attributes["transA"].as_int()
    return math.prod(out) * left[0 if turned else -1]


def _convolution(node: ir.Node, shape: _Shape) -> int | None:
    """Count a convolution: each of its outputs, transposed each of its inputs, meets a slice of the weight."""
    many = shape(node.inputs[0] if node.op_type == "ConvTranspose" else node.outputs[0])
    weight = shape(node.inputs[1])
    return None if many is None or weight is None else math.prod(many) * math.prod(weight[1:])


def _recurrent(node: ir.Node, shape: _Shape) -> int | None:
    """Count a recurrent layer: both of its matrices, of all directions and gates, at every step of every sample."""
    steps, weight, state = (shape(value) for value in node.inputs[:3])
    if steps is None or weight is None or state is None or len(steps) < 2:
        return None
    return steps[0] * steps[1] * (math.prod(weight) + math.prod(state))


_RULES = {
    "Gemm": _product,
    "MatMul": _product,
    "Conv": _convolution,
    "ConvTranspose": _convolution,
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
}
"""What counts each of ONNX's operators that multiply matrices."""
