"""What layers of bodies read, as values of the body that they stand in."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from lrfdse.model.bodies import all_nodes
from lrfdse.model.constants import FLOATS, is_standard, trace
from lrfdse.model.passes.emit import Names


class EnterBodies(ir.passes.InPlacePass):
    """Hands what products and convolutions of bodies read of the graphs around on inside, and notes types.

    A branch of an If reads nothing where it is not taken: only as a value of its own does what it reads say so. Types
    are those of the stored matrices; a file need not have them in bodies, and a branch that is not taken has to give
    nothing of the right type (`lrfdse.model.passes.bodies.shown`).
    """

    def __init__(self) -> None:
        self.entered: list[str] = []
        """Names of what the last call handed on, as it is called inside."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change the model; the result says whether anything was handed on, or had no type."""
        self.entered = []
        names, changed = Names(model), False
        for node in all_nodes(model.graph):
            if node.graph is model.graph or not is_standard(node) or node.op_type not in ("Conv", "Gemm", "MatMul"):
                continue
            operands = list(node.inputs[:2])
            constants = [trace(value) for value in operands]
            kinds = [constant.dtype for constant in constants if constant is not None]
            if len(operands) < 2 or len(kinds) != 1 or kinds[0] not in FLOATS:
                continue
            place = 0 if constants[0] is None else 1
            source, result = operands[place], node.outputs[0]
            assert source is not None and kinds[0] is not None and node.graph is not None
            if source.graph is not node.graph:
                inside = ir.node("Identity", [source])
                inside.outputs[0].name = names.free(f"{source.name}.inside")
                node.graph.insert_before(node, inside)
                node.replace_input_with(place, inside.outputs[0])
                source = inside.outputs[0]
                self.entered.append(source.name or "")
            for value in (source, result):
                if value.dtype is None:
                    value.dtype = kinds[0]
                    changed = True
        return ir.passes.PassResult(model, modified=changed or bool(self.entered))


class LeaveBodies(ir.passes.InPlacePass):
    """Takes out again what `EnterBodies` put in.

    Parameters
    ----------
    entered
        Names of what was handed on.
    """

    def __init__(self, entered: Sequence[str]) -> None:
        self._entered = frozenset(entered)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change the model; the result says whether there was anything to take out."""
        changed = False
        for node in all_nodes(model.graph):
            if node.op_type == "Identity" and node.outputs[0].name in self._entered:
                assert node.inputs[0] is not None and node.graph is not None
                node.outputs[0].replace_all_uses_with(node.inputs[0])
                node.graph.remove(node, safe=True)
                changed = True
        return ir.passes.PassResult(model, modified=changed)
