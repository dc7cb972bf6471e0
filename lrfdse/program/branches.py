"""Ifs that depend on what is fed, computed without control flow: both branches, and one of the results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from lrfdse.base.text import free_name
from lrfdse.model.bodies import is_branching
from lrfdse.model.constants import node_name
from lrfdse.model.passes.bodies.apart import NameApart
from lrfdse.model.passes.bodies.branches import put_before
from lrfdse.model.passes.emit import Emitter, Names
from lrfdse.model.shapes import Port, Sizes, infer_values, is_known, sizes_of
from lrfdse.model.sized import with_sizes
from lrfdse.program.refuse import Refusal

_LEAST_OPSET = 9
"""Opset from which there is Where."""


@dataclass(frozen=True, slots=True)
class _Pair:
    """What the branches of an If give in one place."""

    node: str
    first: str
    second: str


class ComputeBranches(ir.passes.InPlacePass):
    """Puts both branches of an If in its place, and Where behind them, in branches of branches as well.

    What is computed has no other effect than its results, so that nothing changes but the time, which no longer depends
    on what is fed.
    """

    def __init__(self) -> None:
        self.pairs: list[_Pair] = []
        """What the last call chooses between."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change the model; the result says whether there was an If."""
        self.pairs = []
        NameApart()(model)
        names, changed = Names(model), False
        while (node := next((each for each in model.graph if is_branching(each)), None)) is not None:
            self._choose(model, node, names)
            changed = True
        taken: set[str | None] = set()
        for each in model.graph:
            # Both branches may call their nodes the same.
            if each.name and each.name in taken:
                each.name = free_name(each.name, taken)
            taken.add(each.name)
        return ir.passes.PassResult(model, modified=changed)

    def _choose(self, model: ir.Model, node: ir.Node, names: Names) -> None:
        condition = node.inputs[0]
        assert condition is not None
        emit = Emitter.before(model, node, names)
        # Of one element, whose axes are not those of the results.
        condition = emit.op("Reshape", [condition, emit.constant("scalar", np.zeros(0, np.int64))])
        branches = [put_before(node, name) for name in ("then_branch", "else_branch")]
        for old, first, second in zip(list(node.outputs), *branches, strict=True):
            chosen = emit.op("Where", [condition, first, second])
            self.pairs.append(_Pair(node_name(node), first.name or "", second.name or ""))
            chosen.type, chosen.shape = old.type, old.shape
            old.replace_all_uses_with(chosen, replace_graph_outputs=True)
            chosen.name = old.name
        model.graph.remove(node, safe=True)


def branches_computed(model: ir.Model, inputs: Sequence[Port]) -> tuple[ir.Model, list[Refusal]]:
    """Return a model without Ifs in its main graph, and what is in the way where one has to stay.

    The model given stays as it is, and is the one returned where there is no If, or an If has to stay.

    Parameters
    ----------
    model
        A model whose inputs have fixed sizes.
    inputs
        Its inputs.
    """
    opset = model.graph.opset_imports.get("", 0) or model.graph.opset_imports.get("ai.onnx", 0)
    if opset < _LEAST_OPSET or not any(map(is_branching, model.graph)):
        return model, []
    computing = ComputeBranches()
    made = ir.passes.functionalize(computing)(model).model
    sizes = sizes_of(infer_values(with_sizes(made, inputs), inputs, fixed=True))
    refused = [
        Refusal("If", pair.node, "its branches give results of other sizes, or of sizes that nothing tells")
        for pair in computing.pairs
        if not _are_equal(sizes, pair)
    ]
    return (model, refused) if refused else (made, [])


def _are_equal(sizes: Mapping[str, Sizes], pair: _Pair) -> bool:
    first, second = sizes.get(pair.first), sizes.get(pair.second)
    return first is not None and second is not None and is_known(first) and tuple(first) == tuple(second)
