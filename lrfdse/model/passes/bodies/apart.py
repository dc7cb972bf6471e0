"""Names that stand for one value in a whole model, bodies included."""

from __future__ import annotations

import onnx_ir as ir

from lrfdse.model.bodies import owners_of
from lrfdse.model.passes.emit import Names


class NameApart(ir.passes.InPlacePass):
    """Renames values of bodies whose names another value has: the branches of an If often use the same ones.

    Names of inputs, outputs and all else of the main graph stay.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change the model; the result says whether any name was taken twice."""
        names, changed = Names(model), False
        main = model.graph
        taken = {value.name for value in (*main.inputs, *main.initializers.values())}
        taken |= {value.name for node in main for value in node.outputs}
        for body in owners_of(main):
            made = [value for node in body for value in node.outputs if value.name]
            for value in (*body.inputs, *list(body.initializers.values()), *made):
                if value.name in taken:
                    value.name = names.free(value.name or "")
                    changed = True
                taken.add(value.name)
        return ir.passes.PassResult(model, modified=changed)
