"""Constants that loops hand from turn to turn, read from where they are stored."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from lrfdse.model.bodies import all_nodes, bodies_of, is_repeating
from lrfdse.model.constants import is_standard, trace

_SCAN_AS_TODAY = 9
"""Opset from which Scan reads its states first; in 8 it has lengths of sequences in front (onnx/docs/Changelog.md)."""


class ReadInvariants(ir.passes.InPlacePass):
    """Takes stored tensors out of the states of Loop and Scan that no turn changes: bodies read them from outside.

    Exporters of TensorFlow hand every weight to a loop in this way. States that are outputs of the model stay.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change the model; the result says whether any loop has fewer states."""
        opset = model.graph.opset_imports.get("", 0) or model.graph.opset_imports.get("ai.onnx", 0)
        changed = False
        for node in all_nodes(model.graph):
            if is_repeating(node) and (node.op_type == "Loop" or opset >= _SCAN_AS_TODAY):
                changed |= _read(node)
        return ir.passes.PassResult(model, modified=changed)


def _read(node: ir.Node) -> bool:
    """Take the constant states of one node out; return whether it has any."""
    (body,) = bodies_of(node)
    # A Loop is fed the number of turns and a condition, which its body gives anew, in front of the states.
    first, given = (2, 1) if node.op_type == "Loop" else (0, 0)
    states = len(node.inputs) - first
    if node.op_type == "Scan":
        states -= node.attributes["num_scan_inputs"].as_int()
    constant = []
    for place in range(states):
        outer, inner, after = node.inputs[first + place], body.inputs[first + place], body.outputs[given + place]
        handed_out = node.outputs[place].is_graph_output()
        if outer is not None and trace(outer) is not None and _handed_on(after) is inner and not handed_out:
            constant.append(place)
    if not constant:
        return False
    kept = [place for place in range(len(node.outputs)) if place not in constant]
    outputs = list(body.outputs)
    body.outputs[:] = [
        value for place, value in enumerate(outputs) if not given <= place < given + states or place - given in kept
    ]
    for place in constant:
        outer, inner = node.inputs[first + place], body.inputs[first + place]
        assert outer is not None
        inner.replace_all_uses_with(outer)
        node.outputs[place].replace_all_uses_with(outer)
        _drop_identities(body, outputs[given + place])
    body.inputs[:] = [value for place, value in enumerate(body.inputs) if place - first not in constant]
    _put_again(node, [v for place, v in enumerate(node.inputs) if place - first not in constant], kept)
    return True


def _handed_on(value: ir.Value) -> ir.Value:
    while (node := value.producer()) is not None and is_standard(node) and node.op_type == "Identity":
        assert node.inputs[0] is not None
        value = node.inputs[0]
    return value


def _drop_identities(body: ir.Graph, value: ir.Value) -> None:
    """Remove the nodes that handed a state on, where nothing else reads what they make."""
    while (node := value.producer()) is not None and not value.uses() and not value.is_graph_output():
        assert node.inputs[0] is not None
        value = node.inputs[0]
        body.remove(node, safe=True)


def _put_again(node: ir.Node, inputs: Sequence[ir.Value | None], kept: Sequence[int]) -> None:
    """Put a node of other inputs, and of the outputs kept, in the place of one."""
    assert node.graph is not None
    new = ir.Node(node.domain, node.op_type, inputs, node.attributes.values(), num_outputs=len(kept), name=node.name)
    new.metadata_props.update(node.metadata_props)
    node.graph.insert_before(node, new)
    for own, place in zip(new.outputs, kept, strict=True):
        old = node.outputs[place]
        own.name, own.type, own.shape = old.name, old.type, old.shape
        old.replace_all_uses_with(own, replace_graph_outputs=True)
    node.graph.remove(node, safe=True)
