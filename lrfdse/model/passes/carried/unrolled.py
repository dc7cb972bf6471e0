"""Recurrences written step after step, in operators whose derivatives are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from lrfdse.model.bodies import bodies_of
from lrfdse.model.constants import is_root, is_standard, stored
from lrfdse.model.passes.carried.cells import is_usual
from lrfdse.model.passes.carried.spelled import no_spelling, spell_out
from lrfdse.model.passes.emit import Emitter, Names

MOST_NODES = 8192
"""Nodes that all steps of one recurrence may take. Chosen: an LSTM of 500 steps stays below it."""

_LEAST_OPSET = 9
"""Opset from which a Scan has no axis of samples of its own (onnx/docs/Changelog.md)."""


class Unroll(ir.passes.InPlacePass):
    """Writes every LSTM, GRU and Scan of the main graph whose number of steps is known as single operators.

    An LSTM or GRU is one whose form `lrfdse.model.passes.carried.spelled` knows; a Scan is one without bodies in its
    own. Others stay as they are, as do those of more than `MOST_NODES` nodes.

    Parameters
    ----------
    sizes
        Name of a value that recurrences read to its sizes; the model then holds for this number of steps alone.
    """

    def __init__(self, sizes: Mapping[str, Sequence[int]]) -> None:
        self._sizes = sizes

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change the model; the result says whether anything was unrolled."""
        names, modified = Names(model), False
        opset = model.graph.opset_imports.get("", 0) or model.graph.opset_imports.get("ai.onnx", 0)
        for node in list(model.graph):
            if node.graph is None or opset < _LEAST_OPSET or not is_standard(node):
                continue
            if node.op_type == "Scan":
                modified |= self._unrolled(model, node, names, self._steps_of(node))
            elif is_usual(node) and self._fits(node, opset):
                read = node.inputs[0]
                assert read is not None
                steps, before = int(self._sizes[read.name or ""][0]), set(model.graph)
                spell_out(model, node, _product(model, node, names), names)
                for scan in [each for each in model.graph if each.op_type == "Scan" and each not in before]:
                    self._unrolled(model, scan, names, steps)
                modified = True
        if modified:
            # What a last step gives that nothing reads.
            RemoveUnusedNodesPass()(model)
        return ir.passes.PassResult(model, modified=modified)

    def _fits(self, node: ir.Node, opset: int) -> bool:
        """Return whether a recurrent layer has a form that can be written in steps, and few enough of them."""
        read, weight = node.inputs[:2]
        if read is None or weight is None or not is_root(weight) or stored(weight).dtype != ir.DataType.FLOAT:
            return False
        sizes = self._sizes.get(read.name or "")
        # A step of either cell takes less than sixteen nodes.
        return sizes is not None and 0 < 16 * sizes[0] <= MOST_NODES and no_spelling(node, opset) is None

    def _steps_of(self, node: ir.Node) -> int | None:
        """Return the steps of a Scan; None where they are not known."""
        count = node.attributes["num_scan_inputs"].as_int()
        axes = _said(node, "scan_input_axes", count)
        read = node.inputs[len(node.inputs) - count :]
        found = {
            int(self._sizes[value.name or ""][axis])
            for value, axis in zip(read, axes, strict=True)
            if value is not None and (value.name or "") in self._sizes
        }
        return found.pop() if len(found) == 1 else None

    def _unrolled(self, model: ir.Model, node: ir.Node, names: Names, steps: int | None) -> bool:
        """Write a Scan step after step and return True; where that cannot be, leave it and return False."""
        body = node.attributes["body"].as_graph()
        if not steps or steps * len(body) > MOST_NODES or any(bodies_of(each) for each in body):
            return False
        count = node.attributes["num_scan_inputs"].as_int()
        states = len(node.inputs) - count
        made = len(node.outputs) - states
        axes, along = (_said(node, f"scan_{which}_axes", size) for which, size in (("input", count), ("output", made)))
        if any(axis < 0 for axis in (*axes, *along)):
            return False
        emit = Emitter.before(model, node, names)
        given = [value for value in node.inputs if value is not None]
        turned = _said(node, "scan_input_directions", count)
        parts = [_parts(emit, *each, steps) for each in zip(given[states:], axes, turned, strict=True)]
        kept = {value: emit.constant(name, stored(value).numpy()) for name, value in body.initializers.items()}
        current, shown = given[:states], []
        for turn in range(steps):
            known = kept | dict(zip(body.inputs, [*current, *(each[turn] for each in parts)], strict=True))
            for each in body:
                _written(node, each, known, emit)
            results = [known.get(value, value) for value in body.outputs]
            current = results[:states]
            shown.append(results[states:])
        backwards = _said(node, "scan_output_directions", made)
        for place, old in enumerate(node.outputs):
            if not (old.uses() or old.is_graph_output()):
                continue
            # A state may be handed through, under a name of its own.
            value = emit.op("Identity", [current[place]]) if place < states else None
            if value is None:
                number, shape = place - states, body.outputs[place].shape
                turns = [each[number] for each in shown]
                turns = turns[::-1] if backwards[number] else turns
                value = _stacked(emit, turns, along[number], None if shape is None else len(shape))
            value.type, value.shape = old.type, old.shape
            old.replace_all_uses_with(value, replace_graph_outputs=True)
            value.name, old.name = old.name, None
        assert node.graph is not None
        node.graph.remove(node, safe=True)
        return True


def unrolled(model: ir.Model, sizes: Mapping[str, Sequence[int]]) -> ir.Model:
    """Return a model with its recurrences written step after step; see `Unroll`. The model given stays as it is.

    Where there is nothing to unroll, the model returned is the one that was given.
    """
    if not any(node.op_type in ("LSTM", "GRU", "Scan") for node in model.graph):
        return model
    made = ir.passes.functionalize(Unroll(sizes))(model)
    return made.model if made.modified else model


def _product(model: ir.Model, node: ir.Node, names: Names) -> ir.Value:
    """Return the product of what a recurrent layer reads with its input matrix, all gates side by side."""
    read, weight = node.inputs[:2]
    assert read is not None and weight is not None
    array = stored(weight).numpy()
    matrix = array.reshape(-1, array.shape[-1])
    if matrix.shape[0] == matrix.shape[1] and np.array_equal(matrix, np.eye(len(matrix))):
        # Its product stands in front of it.
        return read
    emit = Emitter.before(model, node, names)
    value = emit.op("MatMul", [read, emit.constant("input", matrix.T)])
    value.dtype = ir.DataType.FLOAT
    return value


def _said(scan: ir.Node, name: str, size: int) -> list[int]:
    """Return whole numbers of an attribute of a Scan, 0 for each where it has none."""
    return list(scan.attributes[name].as_ints()) if name in scan.attributes else [0] * size


def _parts(emit: Emitter, value: ir.Value, axis: int, backwards: int, steps: int) -> list[ir.Value]:
    """Return what each turn reads of a value, in the order of the turns."""
    cut = emit.split(value, [1] * steps, axis) if steps > 1 else [value]
    found = [emit.squeeze(each, axis) for each in cut]
    return found[::-1] if backwards else found


def _written(scan: ir.Node, node: ir.Node, known: dict[ir.Value, ir.Value], emit: Emitter) -> None:
    """Write a node of a body before the Scan, and note what its outputs are there."""
    inputs = [None if value is None else known.get(value, value) for value in node.inputs]
    made = ir.node(node.op_type, inputs, domain=node.domain, overload=node.overload, num_outputs=len(node.outputs))
    made.attributes.update(node.attributes)
    for old, new in zip(node.outputs, made.outputs, strict=True):
        new.type = old.type
        if old.name or old.uses():
            new.name = emit.free("step")
        known[old] = new
    assert scan.graph is not None
    scan.graph.insert_before(scan, made)


def _stacked(emit: Emitter, parts: Sequence[ir.Value], axis: int, rank: int | None) -> ir.Value:
    """Return what all steps show, of so many axes each, with an axis for the steps.

    Where that is the first, they are joined along the second and exchanged: rules for derivatives take a first axis for
    that of samples.
    """
    if axis or not rank:
        return _joined(emit, parts, axis)
    return emit.op("Transpose", [_joined(emit, parts, 1)], perm=[1, 0, *range(2, rank + 1)])


def _joined(emit: Emitter, parts: Sequence[ir.Value], axis: int) -> ir.Value:
    whole = [emit.unsqueeze(each, [axis]) for each in parts]
    return whole[0] if len(whole) == 1 else emit.op("Concat", whole, axis=axis)
