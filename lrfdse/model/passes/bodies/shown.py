"""Values of bodies, brought out into the main graph."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from lrfdse.model.bodies import around, bodies_of, is_branching, is_repeating, named, owners_of, values_by_name
from lrfdse.model.passes.emit import Names


def bring_out(model: ir.Model, names: Collection[str]) -> dict[str, ir.Value]:
    """Make values of bodies values of the main graph, under their names, and return these; the model is changed.

    What a Loop or a Scan computes turn by turn gets an axis of turns in front. Of a branch that is not taken comes a
    tensor without elements, of one axis.

    Parameters
    ----------
    model
        The model.
    names
        Names of values that nodes of bodies make, or that bodies are fed.

    Raises
    ------
    ValueError
        A value stands in the body of another operator than If, Loop and Scan, or in a branch and has no known type.
    """
    found, owners, free = values_by_name(model.graph), owners_of(model.graph), Names(model)
    shown = {}
    for name in names:
        value = found[name]
        chain = around(value.graph, owners)
        value.name = free.free(f"{name}.inside")
        dtype = value.dtype
        for node in chain:
            value = _through(node, value, dtype, free)
        value.name = name
        shown[name] = value
    return shown


def _through(node: ir.Node, value: ir.Value, dtype: ir.DataType | None, names: Names) -> ir.Value:
    """Make a value of a node's body a value of the node, its last."""
    if is_repeating(node):
        (body,) = bodies_of(node)
        body.outputs.append(_handed(body, value, names))
        _extend_scan(node)
    elif is_branching(node):
        if dtype is None:
            raise ValueError(f"{value.name!r} in a branch of {named(node)} has no known type")
        for body in bodies_of(node):
            inside = value.graph is body
            body.outputs.append(_handed(body, value, names) if inside else _nothing(body, dtype, names))
    else:
        raise ValueError(f"{value.name!r} is in the body of {named(node)}")
    node.resize_outputs(len(node.outputs) + 1)
    made = node.outputs[-1]
    made.name = names.free("shown")
    if dtype is not None:
        made.dtype = dtype
    return made


def _handed(body: ir.Graph, value: ir.Value, names: Names) -> ir.Value:
    """Return a value as a new one: a body may give one already, and may not give it twice."""
    node = ir.node("Identity", [value])
    node.outputs[0].name = names.free("shown")
    body.append(node)
    return node.outputs[0]


def _nothing(body: ir.Graph, dtype: ir.DataType, names: Names) -> ir.Value:
    node = ir.node("Constant", [], {"value": ir.tensor(np.zeros(0, dtype.numpy()), dtype=dtype)})
    node.outputs[0].name = names.free("shown")
    body.append(node)
    return node.outputs[0]


def _extend_scan(node: ir.Node) -> None:
    """Give the lists of a Scan's attributes an entry for one more output: turns along the first axis, in order."""
    for name in ("scan_output_axes", "scan_output_directions"):
        if name in node.attributes:
            node.attributes[name] = ir.AttrInt64s(name, [*node.attributes[name].as_ints(), 0])
