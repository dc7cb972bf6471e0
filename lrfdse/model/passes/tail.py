"""The part of a model that begins at some of its values: what leads up to them need not be run again."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from lrfdse.model.bodies import reads_of


class BeginAt(ir.passes.InPlacePass):
    """Makes values inputs of the model under their own names, and removes the nodes and inputs that nothing needs then.

    Parameters
    ----------
    values
        Names of values that nodes of the main graph make, none of them an output of the model, to their element types
        and numbers of axes.
    """

    def __init__(self, values: Mapping[str, tuple[ir.DataType, int]]) -> None:
        self._values = dict(values)

    def requires(self, model: ir.Model) -> None:
        """Raise `ir.passes.PreconditionError` where no node makes one of the values, or it is an output."""
        made = {value.name for node in model.graph for value in node.outputs} - {v.name for v in model.graph.outputs}
        if missing := set(self._values) - made:
            raise ir.passes.PreconditionError(f"no node makes a value {min(missing)!r} that is no output")

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change the model; the result says whether any input is new."""
        made = {value.name: value for node in model.graph for value in node.outputs if value.name in self._values}
        for name, (dtype, axes) in self._values.items():
            before = made[name]
            before.name = f"{name}.before"
            after = ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape([None] * axes))
            before.replace_all_uses_with(after)
            model.graph.inputs.append(after)
        RemoveUnusedNodesPass()(model)
        read = {value for node in model.graph for value in reads_of(node)} | set(model.graph.outputs)
        for value in [value for value in model.graph.inputs if value not in read]:
            # Of old IR versions: a constant is an input as well.
            model.graph.initializers.pop(value.name or "", None)
        model.graph.inputs[:] = [value for value in model.graph.inputs if value in read]
        return ir.passes.PassResult(model, modified=bool(self._values))

    def ensures(self, model: ir.Model) -> None:
        """Raise `ir.passes.PostconditionError` where one of the values is no input."""
        if missing := set(self._values) - {value.name for value in model.graph.inputs}:
            raise ir.passes.PostconditionError(f"{min(missing)!r} is no input")
