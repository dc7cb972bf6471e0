"""Products in the place of a fully-connected layer: two for the two-factor form, with reshapes between for others."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lrfdse.model.match.site import Site
from lrfdse.model.passes.emit import drop_unused, replace
from lrfdse.model.passes.place import Place

_Scaled: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float32] | None]
"""A matrix, and what an int8 level of each of its outputs is worth; None where it is in float."""


def write_products(place: Place) -> ir.Value:
    """Write one use of a fully-connected layer as products of its factors."""
    node, site, chosen, source = place.node, place.site, place.chosen, place.source
    at = _At(place)
    if chosen.factorization.repair:
        result = at.repaired(source, site)
    elif not at.is_pair:
        result = at.chain(source, site)
    elif chosen.roundings is None and all(each.in_axis == each.out_axis == -2 for each in place.sites):
        result = at.svd_on_columns(source)
    else:
        result = at.svd(source, site)
    if node.op_type == "Gemm":
        result = at.gemm_bias(result, node, site)
    elif chosen.bias_shift is not None and site.add is None:
        result = at.add_bias(result, chosen.bias_shift, "shift", site)
    if site.add is not None and chosen.bias_shift is not None:
        add = place.made[site.add].producer()
        assert add is not None
        at.shift_added_bias(add, place.output, site)
    return result


def write_tied(place: Place) -> ir.Value:
    """Write one use of a tied embedding as products of its factors, and with its first use the lookups.

    The table has a row of r numbers for each of the layer's outputs, and a second matrix of (r, inputs) makes rows of
    the table of them; products multiply by the transposes of both.
    """
    (a, _), (b, _) = _At(place).pair()
    table, inner = place.stored("table", a), place.stored("inner", b)
    if place.site is place.sites[0]:
        for name in place.site.looked_up:
            old = place.made[name]
            lookup = old.producer()
            assert lookup is not None
            emit = place.emit.at(lookup)
            rows = emit.op("Gather", [table, lookup.inputs[1]], axis=0)
            replace(old, emit.op("MatMul", [rows, inner]))
    return write_products(place)


class _At:
    """Writes one use of a layer."""

    def __init__(self, place: Place) -> None:
        self._emit, self._layer, self._chosen, self._stored = place.emit, place.layer, place.chosen, place.stored
        self._read = place.read
        self._matrix = self._turned if place.layer.kind == "tied" else place.matrix

    @property
    def is_pair(self) -> bool:
        """Whether the factors are written as two products; int8 ones only where these are the chain's own steps."""
        f = self._chosen.factorization
        return f.is_svd and (self._chosen.scales is None or all(step.batch == step.columns == 1 for step in f.steps()))

    def _turned(self, label: str, matrix: NDArray[Any], scales: NDArray[np.float32] | None, flip: bool) -> ir.Value:
        """Return a factor of a tied embedding, which is stored once, for products to multiply by."""
        value = self._stored("table" if label == "factor0" else "inner", matrix)
        return self._emit.op("Transpose", [value], perm=[1, 0]) if flip else value

    def svd(self, source: ir.Value, site: Site) -> ir.Value:
        """Write ``x B^T A^T`` on the last axis."""
        (a, outer), (b, inner) = self.pair()
        x = self._emit.swap_last(source, site.rank) if site.in_axis == -2 else source
        hidden = self._emit.op("MatMul", [self._read(0, x), self._matrix("factor1", b, inner, True)])
        y = self._emit.op("MatMul", [self._read(1, hidden), self._matrix("factor0", a, outer, True)])
        return self._emit.swap_last(y, site.rank) if site.out_axis == -2 else y

    def svd_on_columns(self, source: ir.Value) -> ir.Value:
        """Write ``A (B x)`` on the last axis but one."""
        (a, outer), (b, inner) = self.pair()
        hidden = self._emit.op("MatMul", [self._matrix("factor1", b, inner, False), source])
        return self._emit.op("MatMul", [self._matrix("factor0", a, outer, False), hidden])

    def repaired(self, source: ir.Value, site: Site) -> ir.Value:
        """Write ``x Q^T + x B^T A^T`` on the last axis, ``Q x + A (B x)`` on the last but one."""
        emit, columns = self._emit, site.in_axis == -2 and site.out_axis == -2
        steps = zip(
            ("factor1", "factor0", "whole"),
            self._chosen.factorization.step_matrices(self._chosen.cores),
            self._chosen.step_scales(),
            strict=True,
        )
        b, a, whole = (self._matrix(name, matrix, scales, not columns) for name, matrix, scales in steps)
        if columns:
            product = emit.op("MatMul", [a, emit.op("MatMul", [b, source])])
            return emit.op("Add", [emit.op("MatMul", [whole, source]), product])
        x = emit.swap_last(source, site.rank) if site.in_axis == -2 else source
        product = emit.op("MatMul", [emit.op("MatMul", [x, b]), a])
        y = emit.op("Add", [emit.op("MatMul", [x, whole]), product])
        return emit.swap_last(y, site.rank) if site.out_axis == -2 else y

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
        matrices = zip(f.step_matrices(self._chosen.cores), self._chosen.step_scales(), strict=True)
        for number, (step, (matrix, scales)) in enumerate(zip(f.steps(), matrices, strict=True)):
            if step.columns > 1:
                value = emit.reshape(value, [-1, step.inner, step.columns])
                value = emit.op("MatMul", [self._matrix(f"step{number}", matrix, scales, False), value])
                is_matrix, width = False, step.columns
            else:
                if not (is_matrix and width == step.inner):
                    value = emit.reshape(value, [-1, step.inner])
                value = self._read(number, value)
                value = emit.op("MatMul", [value, self._matrix(f"step{number}", matrix, scales, True)])
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

    def pair(self) -> tuple[_Scaled, _Scaled]:
        """Return A of shape (outputs, r) and B of shape (r, inputs), padding cut off, each with its scales."""
        first, second = self._chosen.cores
        if second.shape[1] == first.shape[2] == 1:
            a, b = first[0, :, 0, :], second[:, 0, :, 0]
        else:
            a, b = second[:, :, 0, 0].T, first[0, 0, :, :].T
        inner, outer = self._chosen.step_scales()
        outputs, inputs = self._layer.outputs, self._layer.inputs
        return (a[:outputs], None if outer is None else outer[:outputs]), (b[:, :inputs], inner)
