"""Replacing layers by their factors, in standard operators that any runtime runs."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from lrfdse.ir.factorization import Factorization
from lrfdse.ir.factors import Factors
from lrfdse.ir.layer import Layer
from lrfdse.model.bodies import values_by_name
from lrfdse.model.constants import trace
from lrfdse.model.graph import Model
from lrfdse.model.kinds import WRITERS
from lrfdse.model.match.site import Site
from lrfdse.model.passes.bodies.entered import LeaveBodies
from lrfdse.model.passes.carried.closed import CloseProducts
from lrfdse.model.passes.carried.spelled import write_back
from lrfdse.model.passes.emit import Emitter, Names, replace
from lrfdse.model.passes.place import Place

METADATA_PREFIX = "lrfdse."
"""Metadata keys ``lrfdse.<layer>`` hold the text of the layer's factorization and storage."""


class ReplaceLayers(ir.passes.InPlacePass):
    """Puts factors in the place of layers of the model given.

    Each kind of layers has its writer (`lrfdse.model.kinds`). Of a fully-connected layer the two-factor form becomes
    two products, a repaired layer three; any other chain becomes reshapes and products, step by step as
    `Factorization.steps` has them. Padded inputs and outputs of a factorization are added and cut off around the chain.
    Opset, IR version, element types, names of inputs and outputs, and open sizes stay as they are. Layers that are not
    named, or that are dense in float, stay too. Weights that nothing reads any more are removed.

    Parameters
    ----------
    model
        Says where the layers stand. The pass takes clones of the graph of `Model.working`.
    factors
        Layer name to its fitted factors.
    """

    def __init__(self, model: Model, factors: Mapping[str, Factors]) -> None:
        self._model, self._factors = model, factors

    def requires(self, model: ir.Model) -> None:
        """Raise `ir.passes.PreconditionError` where a layer's place is not in the graph, as after an earlier pass."""
        made = values_by_name(model.graph)
        for name in self._factors:
            if gone := [site.output for site in self._model.sites.get(name, ()) if site.output not in made]:
                raise ir.passes.PreconditionError(f"the model has no value {gone[0]!r}, made by layer {name!r}")

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change the model; the result says whether anything is other than before.

        Raises
        ------
        InputError
            A name is no layer of the model, or factors do not fit their layer.
        PlanError
            Values leave the graph's element type. The model may then be half changed.
        """
        names = Names(model)
        for name, chosen in self._factors.items():
            layer = self._model.layer(name)
            _check(layer, chosen)
            model.metadata_props[METADATA_PREFIX + name] = str(chosen.choice)
            # A table that stays whole is rounded where it is put back.
            if not chosen.choice.is_original and not (chosen.table and chosen.factorization.is_dense):
                _replace_layer(model, layer, self._model.sites[name], chosen, names)
        return ir.passes.PassResult(model, modified=bool(self._factors))

    def ensures(self, model: ir.Model) -> None:
        """Raise `ir.passes.PostconditionError` where inputs that a caller feeds, or outputs, have other names."""
        before = self._model.original.graph
        outputs = [[value.name for value in graph.outputs] for graph in (before, model.graph)]
        inputs = [[v.name for v in graph.inputs if v.name not in graph.initializers] for graph in (before, model.graph)]
        if outputs[0] != outputs[1] or inputs[0] != inputs[1]:
            raise ir.passes.PostconditionError("the rewritten model has other inputs or outputs than the original")


def rewrite(model: Model, factors: Mapping[str, Factors], closed: bool = True) -> ir.Model:
    """Return the model with layers replaced by their factors; see `ReplaceLayers`.

    The original stays as it is, and tensors that both have are stored once.

    Parameters
    ----------
    model
        A model as `load_model` returns it.
    factors
        Layer name to its fitted factors.
    closed
        Whether products that were taken out of other operators are put back (`CloseProducts`), as in a model that is to
        be used, and what bodies read of the graphs around them is read directly (`LeaveBodies`). Otherwise every
        layer's input and output are values under the names in `Model.sites`.

    Raises
    ------
    InputError
        A name is no layer of the model.
    PlanError
        Values of factors leave the graph's element type.
    ValueError
        Factors do not fit their layer.
    """
    made = ir.passes.functionalize(ReplaceLayers(model, factors))(model.working.graph).model
    if not closed:
        return made
    made = write_back(made, model.working.spelled)
    rounded = {site.output for name, each in factors.items() if each.table for site in model.sites[name]}
    made = CloseProducts(model.working.products, rounded)(made).model
    return LeaveBodies(model.working.entered)(made).model


def _check(layer: Layer, chosen: Factors) -> None:
    f = chosen.factorization
    if f.outputs < layer.outputs or f.inputs < layer.inputs or (not f.ranks and f.unrepaired != _dense(layer)):
        raise ValueError(
            f"layer {layer.name!r} has {layer.outputs} outputs and {layer.inputs} inputs, "
            f"but got {f} for {f.outputs} and {f.inputs}"
        )
    if not f.is_dense and tuple(core.shape for core in chosen.cores) != f.core_shapes:
        raise ValueError(f"layer {layer.name!r}: cores of {f} need the shapes {f.core_shapes}")
    if chosen.bias_shift is not None and chosen.bias_shift.shape != (layer.outputs,):
        raise ValueError(f"layer {layer.name!r}: its bias shift needs {layer.outputs} elements")


def _dense(layer: Layer) -> Factorization:
    return Factorization.dense(layer.outputs, layer.inputs)


def _replace_layer(model: ir.Model, layer: Layer, sites: tuple[Site, ...], chosen: Factors, names: Names) -> None:
    shared: dict[str, ir.Value] = {}
    made = values_by_name(model.graph)
    for site in sites:
        output = made[site.output]
        node = output.producer()
        assert node is not None
        emit = Emitter(model, node, METADATA_PREFIX + layer.name, shared, names)
        result = WRITERS[layer.kind](Place(emit, layer, chosen, sites, site, output, _dtype(node), made))
        replace(output, result)
        made[site.output] = result


def _dtype(node: ir.Node) -> ir.DataType:
    """Return the element type of the constant operand, which is that of the whole node."""
    found = next(constant for constant in map(trace, reversed(node.inputs[:2])) if constant is not None)
    assert found.dtype is not None
    return found.dtype
