"""How many multiply-accumulates a whole model needs, so that layers can be seen as a share of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import onnx_ir as ir

from lrfdse.model.constants import is_standard, trace
from lrfdse.model.shapes import Sizes


def count_macs(graph: ir.Graph, shapes: Mapping[str, Sizes]) -> int | None:
    """Return the MACs of all convolutions and matrix products of the main graph, or None where a shape is not known.

    Recurrent layers, subgraphs, functions and quantized operators are not counted.
    """
    total = 0
    for node in _counted(graph):
        macs = _macs(node, shapes)
        if macs is None:
            return None
        total += macs
    return total


def counted_values(graph: ir.Graph) -> set[str]:
    """Return the names of the values whose shapes `count_macs` looks up."""
    values = {value for node in _counted(graph) for value in (*node.inputs[:2], node.outputs[0])}
    return {value.name for value in values if value is not None and value.name and trace(value) is None}


def _counted(graph: ir.Graph) -> Iterator[ir.Node]:
    for node in graph:
        if is_standard(node) and node.op_type in ("Conv", "ConvTranspose", "MatMul", "Gemm"):
            yield node


def _macs(node: ir.Node, shapes: Mapping[str, Sizes]) -> int | None:
    left, right, output = (
        _sizes(node.inputs[0], shapes),
        _sizes(node.inputs[1], shapes),
        _sizes(node.outputs[0], shapes),
    )
    if node.op_type == "Conv" and right and output:
        return math.prod(output) * math.prod(right[1:])
    if node.op_type == "ConvTranspose" and left and right:
        return math.prod(left) * math.prod(right[1:])
    if node.op_type == "MatMul" and left and output is not None:
        return math.prod(output) * left[-1]
    if node.op_type == "Gemm" and left and output:
        turned = "transA" in node.attributes and node.attributes["transA"].as_int()
        return math.prod(output) * left[0 if turned else 1]
    return None


def _sizes(value: ir.Value | None, shapes: Mapping[str, Sizes]) -> tuple[int, ...] | None:
    if value is None:
        return None
    constant = trace(value)
    sizes: Sizes | None = constant.shape if constant is not None else shapes.get(value.name or "")
    if sizes is None:
        return None
    known = tuple(size for size in sizes if size is not None)
    return known if len(known) == len(sizes) else None
