"""The backward pass of a part of a model: from cotangents of its outputs to those of values in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

from lrfdse.model.constants import is_standard
from lrfdse.model.passes.emit import Emitter, Names
from lrfdse.model.vjp.call import Call, UncoveredError
from lrfdse.model.vjp.table import RULES

COTANGENT = "lrfdse.cotangent"
"""What the names of the inputs that hold cotangents of the outputs begin with; the place of the output follows."""

SLOPE = "lrfdse.slope"
"""What the names of the outputs begin with; the place of the value follows."""

_OPSET = 11
"""Opset from which Equal compares numbers of floating point (onnx/docs/Changelog.md)."""


def depends(model: ir.Model, names: Sequence[str]) -> list[str]:
    """Return the names of the values of the main graph that depend on some, in graph order, those themselves included.

    Parameters
    ----------
    model
        The model, which is only read.
    names
        Inputs, or values that nodes of the main graph make.
    """
    return [value.name or "" for value in _reached(model, names, set())]


def backward(part: ir.Model, names: Sequence[str], seen: Mapping[str, NDArray[Any]]) -> ir.Model | None:
    """Return a model that takes a part's inputs and a cotangent for each output, and gives those of some values.

    The cotangent of a value is ``J^T c``, with J the derivatives of the outputs, side by side, by the value, and c
    the cotangents of the outputs. Where a function has a kink, one of its one-sided derivatives counts.

    Parameters
    ----------
    part
        The part, in which everything that the values lead to leads to an output. It stays as it is.
    names
        Inputs, or values that nodes of the main graph make.
    seen
        What the values that depend on them (`depends`) were in a run of several samples.

    Returns
    -------
    Model or None
        Its inputs are those of the part that it needs and `COTANGENT` with the place of each output; its outputs are
        `SLOPE` with the place of each name. None where a node has a form that no rule covers, or computes in another
        type than float32.
    """
    model = part.clone()
    graph = model.graph
    opset = graph.opset_imports.get("", 0) or graph.opset_imports.get("ai.onnx", 0)
    # Whole numbers and truth values do not change with what they depend on, but at single points.
    exact = {key for key, array in seen.items() if array.dtype.kind in "iub"}
    reached = _reached(model, names, exact)
    makers = dict.fromkeys(value.producer() for value in reached)
    path = [node for node in makers if node is not None and _reads(node, reached)]
    if opset < _OPSET or not all(is_standard(node) and node.op_type in RULES for node in path):
        return None
    if any(seen[value.name or ""].dtype != np.float32 for value in reached):
        return None
    sizes = {key: tuple(array.shape) for key, array in seen.items()}
    ends = [ir.val(f"{COTANGENT}.{place}", dtype=ir.DataType.FLOAT) for place in range(len(graph.outputs))]
    slopes = [ir.node("Identity", [ends[0]]) for _ in names]
    for number, node in enumerate(slopes):
        node.outputs[0].name = f"{SLOPE}.{number}"
        graph.append(node)
    emit = Emitter(model, slopes[0], "lrfdse.back", {}, Names(model))
    pulls: dict[ir.Value, list[ir.Value]] = {value: [] for value in reached}
    for value, end in zip(graph.outputs, ends, strict=True):
        if value in pulls:
            pulls[value].append(end)
    try:
        for node in reversed(path):
            made = [_sum(emit, pulls.get(value, [])) for value in node.outputs]
            call = Call(node, made, emit, sizes)
            for place, source in enumerate(node.inputs):
                if source in pulls:
                    pulls[source].append(RULES[node.op_type](call, place))
    except UncoveredError:
        return None
    by_name = {value.name: value for value in reached}
    for name, node in zip(names, slopes, strict=True):
        found = _sum(emit, pulls[by_name[name]])
        if found is None:
            return None
        node.replace_input_with(0, found)
    graph.outputs[:] = [node.outputs[0] for node in slopes]
    graph.inputs.extend(ends)
    RemoveUnusedNodesPass()(model)
    for unread in [each for each in graph.inputs if not each.uses()]:
        # Of old IR versions: a constant is an input as well.
        graph.initializers.pop(unread.name or "", None)
        graph.inputs.remove(unread)
    return model


def _reached(model: ir.Model, names: Sequence[str], without: Set[str]) -> dict[ir.Value, None]:
    wanted = set(names)
    found: dict[ir.Value, None] = {value: None for value in model.graph.inputs if value.name in wanted}
    for node in model.graph:
        own = [value for value in node.outputs if value.name and value.name not in without]
        found |= dict.fromkeys(own if _reads(node, found) else [value for value in own if value.name in wanted])
    return found


def _reads(node: ir.Node, values: Mapping[ir.Value, None]) -> bool:
    """Return whether a node reads one of some values, as a body may any value of the graph around it."""
    bodies = any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values())
    return bodies or any(value in values for value in node.inputs if value is not None)


def _sum(emit: Emitter, pulls: list[ir.Value]) -> ir.Value | None:
    if len(pulls) < 2:
        return pulls[0] if pulls else None
    return emit.op("Sum", pulls)
