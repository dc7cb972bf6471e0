"""Normalizations that a model spells out in single operators, as one node each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from lrfdse.program.rules.normalization import DECOMPOSED
from lrfdse.program.site import shape_of


@dataclass(frozen=True, slots=True)
class _Found:
    """``(x - mean(x)) / sqrt(mean((x - mean(x))^2) + epsilon)``, or without the means."""

    source: ir.Value
    axes: tuple[int, ...]
    epsilon: float
    centred: bool
    order: tuple[int, ...] | None
    """How the result is transposed."""


def joined(model: ir.Model) -> None:
    """Replace quotients of a tensor and the root of its mean square by nodes of their own, in place.

    The tensor may be one less its mean over the same axes, and transposed after that. What the quotient was computed
    from stays; nothing reads it any more where the model is as usual.
    """
    for node in list(model.graph):
        found = _matched(node)
        if found is not None and not node.outputs[0].is_graph_output():
            _replace(model.graph, node, found)


def _replace(graph: ir.Graph, node: ir.Node, found: _Found) -> None:
    old = node.outputs[0]
    attributes = ir.convenience.convert_attributes(
        {"axes": list(found.axes), "epsilon": found.epsilon, "centred": int(found.centred)}
    )
    new = [ir.Node("", DECOMPOSED, [found.source], attributes, name=node.name)]
    new[0].outputs[0].shape, new[0].outputs[0].type = found.source.shape, found.source.type
    if found.order is not None:
        perm = ir.convenience.convert_attributes({"perm": list(found.order)})
        new.append(ir.Node("", "Transpose", [new[0].outputs[0]], perm, name=node.name))
        new[1].outputs[0].shape, new[1].outputs[0].type = old.shape, old.type
    graph.insert_before(node, new)
    ir.convenience.replace_all_uses_with(old, new[-1].outputs[0])


def _matched(node: ir.Node) -> _Found | None:
    factor, root = _quotient(node)
    added = _made_by(root, "Sqrt")
    total = _made_by(added.inputs[0] if added else None, "Add")
    if factor is None or total is None or factor.dtype != ir.DataType.FLOAT:
        return None
    for place in (0, 1):
        epsilon = _number(total.inputs[1 - place])
        mean = _made_by(total.inputs[place], "ReduceMean")
        axes = None if mean is None else _axes(mean)
        if epsilon is None or mean is None or axes is None or not _is_square(mean.inputs[0], factor):
            continue
        return _centred(factor, axes, epsilon) or _Found(factor, axes, epsilon, centred=False, order=None)
    return None


def _quotient(node: ir.Node) -> tuple[ir.Value | None, ir.Value | None]:
    """Return what a node divides, and by what; it may also multiply by a reciprocal."""
    if node.op_type == "Div":
        return node.inputs[0], node.inputs[1]
    if node.op_type == "Mul":
        for place in (0, 1):
            inverse = _made_by(node.inputs[place], "Reciprocal")
            if inverse is not None:
                return node.inputs[1 - place], inverse.inputs[0]
            ratio = _made_by(node.inputs[place], "Div")
            if ratio is not None and _number(ratio.inputs[0]) == 1.0:
                return node.inputs[1 - place], ratio.inputs[1]
    return None, None


def _centred(factor: ir.Value, axes: tuple[int, ...], epsilon: float) -> _Found | None:
    """Return what a tensor less its mean is made of, or None where it is another tensor."""
    turn = _made_by(factor, "Transpose")
    order: tuple[int, ...] | None = None
    if turn is not None:
        perm = turn.attributes.get("perm")
        order = tuple(perm.as_ints()) if perm else tuple(reversed(range(len(shape_of(factor)))))
    difference = _made_by(turn.inputs[0] if turn is not None else factor, "Sub")
    mean = _made_by(difference.inputs[1] if difference else None, "ReduceMean")
    if difference is None or mean is None or mean.inputs[0] is not difference.inputs[0]:
        return None
    source, before = mean.inputs[0], _axes(mean)
    if source is None or before is None:
        return None
    after = before if order is None else tuple(sorted(order.index(axis) for axis in before))
    return _Found(source, before, epsilon, centred=True, order=order) if after == axes else None


def _is_square(value: ir.Value | None, factor: ir.Value) -> bool:
    power, product = _made_by(value, "Pow"), _made_by(value, "Mul")
    if power is not None:
        return power.inputs[0] is factor and _number(power.inputs[1]) == 2.0
    return product is not None and product.inputs[0] is factor and product.inputs[1] is factor


def _axes(mean: ir.Node) -> tuple[int, ...] | None:
    """Return the axes that a ReduceMean keeps as ones, or None where it does not, or they are computed."""
    keep = mean.attributes.get("keepdims")
    given = mean.attributes.get("axes")
    if (keep is not None and not keep.as_int()) or mean.inputs[0] is None:
        return None
    if given is not None:
        axes = list(given.as_ints())
    else:
        content = ir.convenience.get_const_tensor(mean.inputs[1]) if len(mean.inputs) > 1 and mean.inputs[1] else None
        if content is None:
            return None
        axes = [int(axis) for axis in np.ravel(content.numpy())]
    rank = len(shape_of(mean.inputs[0]))
    return tuple(sorted(axis % rank for axis in axes)) or None


def _made_by(value: ir.Value | None, operator: str) -> ir.Node | None:
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type == operator and node.domain in ("", "ai.onnx") else None


def _number(value: ir.Value | None) -> float | None:
    content = ir.convenience.get_const_tensor(value) if value is not None else None
    return None if content is None or content.size != 1 else float(content.numpy().reshape(-1)[0])
