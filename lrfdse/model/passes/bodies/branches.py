"""Ifs of which one branch is always taken, with that branch in their place."""

from __future__ import annotations

import onnx_ir as ir

from lrfdse.errors import InputError
from lrfdse.formats.onnx import serialized
from lrfdse.model.bodies import is_branching
from lrfdse.model.constants import is_root, known_values, stored
from lrfdse.model.passes.cut import read_out
from lrfdse.model.runtime import simplified


class TakeBranches(ir.passes.InPlacePass):
    """Puts the branch that is taken in the place of an If whose condition does not depend on what is fed.

    The condition is stored, or onnxruntime folds it: from constants, and from sizes of values all of whose are fixed.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change the model; the result says whether any If is gone."""
        changed, left = False, True
        while left:
            left = False
            conditions = {node: node.inputs[0] for node in model.graph if is_branching(node)}
            decided = _decided(model, [value for value in conditions.values() if value is not None])
            for node, condition in conditions.items():
                if condition in decided:
                    _take(node, decided[condition])
                    # What was inside may now be decided as well.
                    changed = left = True
        return ir.passes.PassResult(model, modified=changed)


def _decided(model: ir.Model, conditions: list[ir.Value]) -> dict[ir.Value | None, bool]:
    """Return the conditions that are the same whatever is fed."""
    found: dict[ir.Value | None, bool] = {}
    known = known_values(model.graph)
    for value in conditions:
        if is_root(value):
            found[value] = bool(stored(value).numpy().any())
        elif value in known or _follows_sizes(value):
            folded = _folded(model, value)
            if folded is not None:
                found[value] = folded
    return found


def _follows_sizes(value: ir.Value) -> bool:
    """Return whether a value of the main graph depends on what is fed by the sizes of values alone."""
    left, seen = [value], {value}
    while left:
        node = left.pop().producer()
        if node is None:
            return False
        if node.op_type in ("Shape", "Size"):
            continue
        fresh = [each for each in node.inputs if each is not None and not is_root(each) and each not in seen]
        seen.update(fresh)
        left += fresh
    return True


def _folded(model: ir.Model, value: ir.Value) -> bool | None:
    """Return what onnxruntime's constant folding makes of a condition; None where something is left to compute."""
    try:
        content = simplified(serialized(read_out(model, [value.name or ""])))
    except InputError:
        return None
    graph = ir.serde.deserialize_model(_proto(content)).graph
    constant = ir.convenience.get_const_tensor(graph.outputs[0])
    return None if constant is None else bool(constant.numpy().any())


def _proto(content: bytes) -> object:
    import onnx

    return onnx.ModelProto.FromString(content)


def _take(node: ir.Node, condition: bool) -> None:
    """Put the nodes of one branch in the place of an If."""
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    branch = node.attributes["then_branch" if condition else "else_branch"].as_graph()
    outputs = list(branch.outputs)
    branch.outputs[:] = []
    for value in list(branch.initializers.values()):
        del branch.initializers[value.name or ""]
        graph.register_initializer(value)
    for inner in list(branch):
        branch.remove(inner)
        graph.insert_before(node, inner)
    for old, new in zip(list(node.outputs), outputs, strict=True):
        if old.is_graph_output():
            # An output of the model keeps its name, whatever is handed out.
            handed = ir.node("Identity", [new])
            graph.insert_before(node, handed)
            new, handed.outputs[0].name = handed.outputs[0], old.name
            new.type, new.shape = old.type, old.shape
        old.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove(node, safe=True)
