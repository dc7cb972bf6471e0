"""Replacing layers by their factors, in standard operators that any runtime runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lrfdse.errors import PlanError
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.factors import Factors
from lrfdse.ir.layer import Layer
from lrfdse.model.constants import trace
from lrfdse.model.graph import Model
from lrfdse.model.match.products import Site
from lrfdse.model.passes.emit import Emitter, Names, drop_unused, replace

METADATA_PREFIX = "lrfdse."
"""Metadata keys ``lrfdse.<layer>`` hold the text of the layer's factorization."""


class ReplaceLayers(ir.passes.InPlacePass):
    """Puts factors in the place of layers of the model given.

    The two-factor form becomes two products; any other chain becomes reshapes and products, step by step as
    `Factorization.steps` has them. Opset, IR version, element types, names of inputs and outputs, and open sizes
    stay as they are. Layers that are not named, or whose factorization is dense, stay too. Padded inputs and outputs of
    a factorization are added and cut off around the chain. Weights that nothing reads any more are removed.

    Parameters
    ----------
    model
        Says where the layers stand. The pass takes clones of `Model.original`.
    factors
        Layer name to its fitted factors.
    """

    def __init__(self, model: Model, factors: Mapping[str, Factors]) -> None:
        self._model, self._factors = model, factors

    def requires(self, model: ir.Model) -> None:
        """Raise `ir.passes.PreconditionError` where a layer's place is not in the graph, as after an earlier pass."""
        made = {value.name for node in model.graph for value in node.outputs}
        for name in self._factors:
            if gone := [site.output for site in self._model.sites.get(name, ()) if site.output not in made]:
                raise ir.passes.PreconditionError(f"the main graph has no value {gone[0]!r}, made by layer {name!r}")

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
            model.metadata_props[METADATA_PREFIX + name] = str(chosen.factorization)
            if not chosen.factorization.is_dense:
                _replace_layer(model, layer, self._model.sites[name], chosen, names)
        return ir.passes.PassResult(model, modified=bool(self._factors))

    def ensures(self, model: ir.Model) -> None:
        """Raise `ir.passes.PostconditionError` where inputs that a caller feeds, or outputs, have other names."""
        before = self._model.original.graph
        outputs = [[value.name for value in graph.outputs] for graph in (before, model.graph)]
        inputs = [[v.name for v in graph.inputs if v.name not in graph.initializers] for graph in (before, model.graph)]
        if outputs[0] != outputs[1] or inputs[0] != inputs[1]:
            raise ir.passes.PostconditionError("the rewritten model has other inputs or outputs than the original")


def rewrite(model: Model, factors: Mapping[str, Factors]) -> ir.Model:
    """Return the model with layers replaced by their factors; see `ReplaceLayers`.

    The original stays as it is, and tensors that both have are stored once.

    Parameters
    ----------
    model
        A model as `load_model` returns it.
    factors
        Layer name to its fitted factors.

    Raises
    ------
    InputError
        A name is no layer of the model.
    PlanError
        Values of factors leave the graph's element type.
    ValueError
        Factors do not fit their layer.
    """
    return ir.passes.functionalize(ReplaceLayers(model, factors))(model.original).model


def _check(layer: Layer, chosen: Factors) -> None:
    f = chosen.factorization
    if f.outputs < layer.outputs or f.inputs < layer.inputs or (f.is_dense and f != _dense(layer)):
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
    columns = all(site.in_axis == site.out_axis == -2 for site in sites)
    made = {value.name: value for node in model.graph for value in node.outputs}
    for site in sites:
        output = made[site.output]
        node = output.producer()
        assert node is not None
        emit = Emitter(model, node, METADATA_PREFIX + layer.name, shared, names)
        at = _At(emit, layer, chosen, _dtype(node))
        source = node.inputs[_source_index(node, site)]
        assert source is not None
        if not chosen.factorization.is_svd:
            result = at.chain(source, site)
        else:
            result = at.svd_on_columns(source) if columns else at.svd(source, site)
        if node.op_type == "Gemm":
            result = at.gemm_bias(result, node, site)
        elif chosen.bias_shift is not None and site.add is None:
            result = at.add_bias(result, chosen.bias_shift, "shift", site)
        if site.add is not None and chosen.bias_shift is not None:
            add = made[site.add].producer()
            assert add is not None
            at.shift_added_bias(add, output, site)
        replace(output, result)
        made[site.output] = result


def _source_index(node: ir.Node, site: Site) -> int:
    return next(i for i, value in enumerate(node.inputs) if value is not None and value.name == site.source)


def _dtype(node: ir.Node) -> ir.DataType:
    """Return the element type of the constant operand, which is that of the whole product."""
    found = next(constant for constant in (trace(node.inputs[1]), trace(node.inputs[0])) if constant is not None)
    assert found.dtype is not None
    return found.dtype


class _At:
    """Writes one use of a layer."""

    def __init__(self, emit: Emitter, layer: Layer, chosen: Factors, dtype: ir.DataType) -> None:
        self._emit = emit
        self._layer = layer
        self._chosen = chosen
        self._dtype = dtype

    def svd(self, source: ir.Value, site: Site) -> ir.Value:
        """Write ``x B^T A^T`` on the last axis."""
        a, b = self._pair()
        x = self._emit.swap_last(source, site.rank) if site.in_axis == -2 else source
        hidden = self._emit.op("MatMul", [x, self._stored("factor1", b.T)])
        y = self._emit.op("MatMul", [hidden, self._stored("factor0", a.T)])
        return self._emit.swap_last(y, site.rank) if site.out_axis == -2 else y

    def svd_on_columns(self, source: ir.Value) -> ir.Value:
        """Write ``A (B x)`` on the last axis but one."""
        a, b = self._pair()
        hidden = self._emit.op("MatMul", [self._stored("factor1", b), source])
        return self._emit.op("MatMul", [self._stored("factor0", a), hidden])

    def chain(self, source: ir.Value, site: Site) -> ir.Value:
        """Write reshapes and products, at most one of each a step."""
        emit, layer, f = self._emit, self._layer, self._chosen.factorization
        x = emit.swap_last(source, site.rank) if site.in_axis == -2 else source
        sizes = (*site.free[:-2], *reversed(site.free[-2:])) if site.in_axis == -2 else site.free
        value, width = x, layer.inputs
        is_matrix = site.rank == 2
        if f.inputs > layer.inputs:
            value = value if is_matrix else emit.reshape(value, [-1, width])
            value, width, is_matrix = emit.pad_columns(value, f.inputs - width), f.inputs, True
        for number, (step, matrix) in enumerate(zip(f.steps(), f.step_matrices(self._chosen.cores), strict=True)):
            if step.columns > 1:
                value = emit.reshape(value, [-1, step.inner, step.columns])
                value = emit.op("MatMul", [self._stored(f"step{number}", matrix), value])
                is_matrix, width = False, step.columns
            else:
                if not (is_matrix and width == step.inner):
                    value = emit.reshape(value, [-1, step.inner])
                value = emit.op("MatMul", [value, self._stored(f"step{number}", matrix.T)])
                is_matrix, width = True, step.out
        if not (is_matrix and width == f.outputs):
            value, is_matrix = emit.reshape(value, [-1, f.outputs]), True
        if f.outputs > layer.outputs:
            value = emit.cut(value, layer.outputs, 1)
        if site.rank != 2:
            value = self._restored(value, x, sizes[:-1])
        return emit.swap_last(value, site.rank) if site.out_axis == -2 else value

    def gemm_bias(self, value: ir.Value, node: ir.Node, site: Site) -> ir.Value:
        """Add what the Gemm added, and the shift of the bias where there is no Add behind to take it."""
        c = node.inputs[2] if len(node.inputs) > 2 else None
        beta = node.attributes["beta"].as_float() if "beta" in node.attributes else 1.0
        shift = self._chosen.bias_shift if site.add is None else None
        if c is None:
            return value if shift is None else self.add_bias(value, shift, "shift", site)
        if site.bias is not None and (shift is not None or beta != 1.0):
            total = site.bias if shift is None else site.bias + shift
            return self.add_bias(value, total, f"bias.{site.bias_root}.{beta}", site)
        if shift is not None:
            value = self.add_bias(value, shift, "shift", site)
        if beta != 1.0:
            c = self._emit.op("Mul", [c, self._stored(f"beta.{beta}", np.array(beta))])
        return self._emit.op("Add", [value, c])

    def add_bias(self, value: ir.Value, bias: NDArray[np.float64], label: str, site: Site) -> ir.Value:
        """Add a vector along the layer's outputs."""
        return self._emit.op("Add", [value, self._vector(bias, label, site)])

    def shift_added_bias(self, add: ir.Node, product: ir.Value, site: Site) -> None:
        """Put the shifted bias in the place of the one that the Add holds."""
        assert site.bias is not None and self._chosen.bias_shift is not None
        index = 1 if add.inputs[0] is product else 0
        old = add.inputs[index]
        new = self._vector(site.bias + self._chosen.bias_shift, f"bias.{site.bias_root}", site)
        add.replace_input_with(index, new)
        if old is not None:
            drop_unused(old)

    def _vector(self, bias: NDArray[np.float64], label: str, site: Site) -> ir.Value:
        if site.out_axis == -2:
            return self._stored(f"{label}.column", bias[:, None])
        return self._stored(label, bias)

    def _restored(self, value: ir.Value, source: ir.Value, leading: tuple[int | None, ...]) -> ir.Value:
        """Give a matrix of rows the leading sizes of `source` back."""
        emit, outputs = self._emit, self._layer.outputs
        if leading.count(None) <= 1 and 0 not in leading:
            return emit.reshape(value, [*(-1 if size is None else size for size in leading), outputs])
        sizes = emit.cut(emit.op("Shape", [source]), len(leading), 0)
        return emit.op("Reshape", [value, emit.op("Concat", [sizes, emit.integers([outputs])], axis=0)])

    def _pair(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return A of shape (outputs, r) and B of shape (r, inputs) of the two-factor form, padding cut off."""
        first, second = self._chosen.cores
        if second.shape[1] == first.shape[2] == 1:
            a, b = first[0, :, 0, :], second[:, 0, :, 0]
        else:
            a, b = second[:, :, 0, 0].T, first[0, 0, :, :].T
        return a[: self._layer.outputs], b[:, : self._layer.inputs]

    def _stored(self, label: str, array: NDArray[Any]) -> ir.Value:
        with np.errstate(over="ignore"):
            converted = array.astype(self._dtype.numpy())
        if not np.isfinite(converted.astype(np.float64)).all():
            raise PlanError(f"the factors of layer {self._layer.name!r} leave the range of {self._dtype}")
        return self._emit.constant(label, converted)
