"""Ifs of which one branch is always taken, with that branch in their place."""

from __future__ import annotations

import onnx_ir as ir

from lrfdse.errors import InputError
from lrfdse.formats.onnx import parsed, serialized
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
    found: dict[ir.Value | None, bool] = {v: bool(stored(v).numpy().any()) for v in conditions if is_root(v)}
    known = known_values(model.graph)
    left = [value for value in conditions if not is_root(value) and (value in known or _follows_sizes(value))]
    folded = _folded(model, [value.name or "" for value in left])
    return found | {value: folded[value.name] for value in left if value.name in folded}


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


def _folded(model: ir.Model, names: list[str]) -> dict[str, bool]:
    """Return what onnxruntime's constant folding makes of conditions, of those where nothing is left to compute."""
    import onnx

    if not names:
        return {}
    try:
        content = simplified(serialized(read_out(model, list(dict.fromkeys(names)))))
    except InputError:
        return {}
    graph = parsed(onnx.ModelProto.FromString(content)).graph
    constants = {value.name or "": ir.convenience.get_const_tensor(value) for value in graph.outputs}
    return {name: bool(tensor.numpy().any()) for name, tensor in constants.items() if tensor is not None}


def put_before(node: ir.Node, branch: str) -> list[ir.Value]:
    """Put the nodes of one branch of an If in front of it, and return what the branch gives.

    Parameters
    ----------
    node
        The If, whose names of values are those of no other value in the model.
    branch
        Name of the attribute that holds the branch.
    """
    graph, body = node.graph, node.attributes[branch].as_graph()
    assert isinstance(graph, ir.Graph)
    outputs = list(body.outputs)
    body.outputs[:] = []
    for value in list(body.initializers.values()):
        del body.initializers[value.name or ""]
        graph.register_initializer(value)
    for inner in list(body):
        body.remove(inner)
        graph.insert_before(node, inner)
    return outputs


def _take(node: ir.Node, condition: bool) -> None:
    """Put the nodes of one branch in the place of an If."""
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    outputs = put_before(node, "then_branch" if condition else "else_branch")
    left = node.attributes["else_branch" if condition else "then_branch"].as_graph()
    for old, new in zip(list(node.outputs), outputs, strict=True):
        if old.is_graph_output():
            # An output of the model keeps its name, whatever is handed out.
            handed = ir.node("Identity", [new])
            graph.insert_before(node, handed)
            new, handed.outputs[0].name = handed.outputs[0], old.name
            new.type, new.shape = old.type, old.shape
        old.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    # What stays behind reads nothing more of the graph, so that what it alone read is not used any more.
    for inner in ir.traversal.RecursiveGraphIterator(left):
        for place in range(len(inner.inputs)):
            inner.replace_input_with(place, None)
