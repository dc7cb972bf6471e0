"""What no operator of a program stands for and nothing can compile, found before anything is compiled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from lrfdse.base.text import one_line
from lrfdse.errors import InputError
from lrfdse.program.build import ELEMENTS

DYNAMIC = frozenset({"Compress", "NonMaxSuppression", "NonZero", "Unique"})
"""Operators whose outputs have shapes that depend on what the inputs hold."""

RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
"""Operators that need a source of randomness."""

STANDARD = frozenset({"", "ai.onnx"})
"""The domains of ONNX's own operators."""

EXTENDED = frozenset({*STANDARD, "com.microsoft"})
"""Domains of operators that there may be rules for: onnxruntime's optimizer writes some of its own."""

_NODES_NAMED = 3
"""Nodes of one operator that a message names: enough to find them. Chosen."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A node that cannot be part of a program."""

    operator: str
    node: str
    reason: str


def found_in(model: ir.Model) -> list[Refusal]:
    """Return the nodes whose outputs cannot be flat arrays of a known size, whatever is done to them.

    Parameters
    ----------
    model
        Its own functions count as written out.
    """
    functions = {(function.domain, function.name) for function in model.functions.values()}
    return [
        Refusal(node.op_type, node.name or "", reason)
        for node in model.graph
        if (node.domain, node.op_type) not in functions and (reason := _reason(node)) is not None
    ]


def types_in(graph: ir.Graph) -> list[Refusal]:
    """Return the nodes that read or write what is no dense array of numbers, once all types are known."""
    refused = []
    for node in graph:
        for value in (*node.inputs, *node.outputs):
            if value is not None and (value.uses() or value.is_graph_output()) and (kind := _kind(value)):
                refused.append(Refusal(node.op_type, node.name or "", kind))
                break
    return refused


def raise_if_any(refused: Sequence[Refusal], path: Path) -> None:
    """Raise one error that names every operator with its nodes.

    Raises
    ------
    InputError
        There is any.
    """
    if not refused:
        return
    groups: dict[tuple[str, str], list[str]] = {}
    for each in refused:
        groups.setdefault((each.operator, each.reason), []).append(each.node)
    listed = "; ".join(f"{operator} ({reason}{_named(nodes)})" for (operator, reason), nodes in groups.items())
    raise InputError(one_line(f"{path}: these operators cannot be compiled: {listed}", 2000))


def _reason(node: ir.Node) -> str | None:
    if any(each.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for each in node.attributes.values()):
        return "control flow"
    if node.domain not in EXTENDED:
        return f"of the domain {node.domain}"
    if node.op_type in DYNAMIC:
        return "its output has no static shape"
    if node.op_type in RANDOM:
        return "random numbers"
    return None


def _kind(value: ir.Value) -> str | None:
    if value.type is not None and not isinstance(value.type, ir.TensorType):
        return f"of {type(value.type).__name__}"
    if value.dtype is None or value.shape is None:
        return "of unknown type"
    if value.dtype == ir.DataType.STRING:
        return "strings"
    name = value.dtype.name.lower() if value.dtype is ir.DataType.BFLOAT16 else str(value.dtype.numpy().name)
    if name not in ELEMENTS:
        return f"elements of {name}"
    if any(size == 0 for size in value.shape):
        return "a tensor without elements"
    return None


def _named(nodes: Sequence[str]) -> str:
    named = [repr(node) for node in nodes if node][:_NODES_NAMED]
    more = len(nodes) - len(named)
    if not named:
        return f", {more} nodes" if more > 1 else ""
    return ": " + ", ".join(named) + (f" and {more} more" if more else "")
