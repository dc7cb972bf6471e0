"""The form of a model in which layers are found and fitted: equal to the file's, with its products in the open."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import InlinePass

from lrfdse.formats.onnx import as_proto
from lrfdse.ir.layer import Kind
from lrfdse.model.bodies import all_nodes, owners_of
from lrfdse.model.carriers import CARRIERS
from lrfdse.model.passes.bodies.apart import NameApart
from lrfdse.model.passes.bodies.branches import TakeBranches
from lrfdse.model.passes.bodies.entered import EnterBodies
from lrfdse.model.passes.bodies.invariants import ReadInvariants
from lrfdse.model.passes.carried.opened import Opened, opened
from lrfdse.model.passes.carried.spelled import Spelled
from lrfdse.model.passes.usual.einsum import SpellOutEinsum
from lrfdse.model.passes.usual.fused import Unfuse
from lrfdse.model.passes.usual.integers import SpellOutIntegers
from lrfdse.model.passes.usual.joined import JoinProducts
from lrfdse.model.passes.usual.twins import StoreTablesOnce
from lrfdse.model.passes.usual.weights import StoreAsUsed
from lrfdse.model.shapes import Port, infer_values, sizes_of


@dataclass(frozen=True, slots=True, eq=False)
class Working:
    """A model as layers are found in it."""

    graph: ir.Model
    """The model; the one that was given where nothing had to be done."""
    proto: onnx.ModelProto
    """The same as protobuf."""
    products: tuple[Opened, ...]
    """What was taken out of other operators."""
    refused: Mapping[str, str]
    """Why nodes that carry a product keep it: name of the first output to reason."""
    spelled: tuple[Spelled, ...] = ()
    """Recurrent layers that were written in single operators."""
    entered: tuple[str, ...] = ()
    """Names of what layers of bodies read of the graphs around them, as it is called inside."""

    def table_of(self, output: str) -> NDArray[Any] | None:
        """Return the table of an embedding as the file has it, by the name of its output; None of anything else."""
        found = (each.tensor for each in self.products if each.carrier == "embedding" and each.product == output)
        tensor = next(found, None)
        return None if tensor is None else tensor.numpy()

    def reasons(self) -> dict[ir.Node, str]:
        """Return why nodes that carry a product keep it."""
        firsts = ((node, node.outputs[0].name or "") for node in all_nodes(self.graph.graph) if node.outputs)
        return {node: self.refused[name] for node, name in firsts if name in self.refused}


def working_form(model: ir.Model, proto: onnx.ModelProto, inputs: Sequence[Port], kinds: Collection[Kind]) -> Working:
    """Return a model with functions written out, fused operators spelled out and products taken out of others.

    In bodies as well, where weights are read from where they are stored; an If that always takes one branch is that
    branch.

    Every step is exact, but for the rounding of the table of an embedding, and for products of whole numbers, which
    become products of floats.

    Parameters
    ----------
    model, proto
        The model as it was read; both stay as they are.
    inputs
        Its inputs, for the numbers of axes of its values.
    kinds
        The kinds of layers that are looked for: products of others stay where they are.
    """
    if model.functions:
        model = ir.passes.functionalize(InlinePass())(model).model
        proto = as_proto(model)
    integers = ir.passes.functionalize(SpellOutIntegers())(model)
    if integers.modified:
        model, proto = integers.model, as_proto(integers.model)
    has_bodies = bool(owners_of(model.graph))
    if has_bodies:
        bodies = ir.passes.functionalize(ir.passes.Sequential(NameApart(), ReadInvariants(), TakeBranches()))(model)
        if bodies.modified:
            model, proto = bodies.model, as_proto(bodies.model)
    ranks = _ranks(model, proto, inputs)
    steps = ir.passes.functionalize(ir.passes.Sequential(StoreAsUsed(ranks), Unfuse(ranks), SpellOutEinsum(ranks)))(
        model
    )
    changed = steps.modified
    if changed:
        model = steps.model
    if "tied" in kinds and (once := ir.passes.functionalize(StoreTablesOnce())(model)).modified:
        model, changed = once.model, True
    if "joint" in kinds and (joined := ir.passes.functionalize(JoinProducts(ranks))(model)).modified:
        model, changed = joined.model, True
    carriers = [carrier for carrier in CARRIERS if carrier in kinds]
    graph, taking = opened(model, carriers)
    entering = EnterBodies()
    if has_bodies and (entered := ir.passes.functionalize(entering)(graph)).modified:
        graph, changed = entered.model, True
    if changed or taking.opened or taking.spelled:
        proto = as_proto(graph)
    return Working(graph, proto, tuple(taking.opened), taking.refused, tuple(taking.spelled), tuple(entering.entered))


def _ranks(model: ir.Model, proto: onnx.ModelProto, inputs: Sequence[Port]) -> dict[str, int]:
    """Return the number of axes of values, as inference finds it, else as the file says it."""
    said = {
        value.name: len(value.shape)
        for node in model.graph
        for value in node.outputs
        if value.name and value.shape is not None
    }
    return said | {name: len(sizes) for name, sizes in sizes_of(infer_values(proto, inputs, fixed=False)).items()}
