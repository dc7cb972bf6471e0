"""Matrix products: with a constant on either side, and of two tensors that are computed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lrfdse.ir.products import BatchedProduct, Place
from lrfdse.program.broadcast import Writer
from lrfdse.program.build import Builder, Tensor
from lrfdse.program.contraction import contract
from lrfdse.program.layout import View, compact, dense
from lrfdse.program.site import Rules, Site

if TYPE_CHECKING:
    from numpy.typing import NDArray


def _matmul(at: Site) -> Sequence[Tensor] | None:
    return [product(at, at.input(0), at.input(1), at.wanted_order())]


def _fused_matmul(at: Site) -> Sequence[Tensor] | None:
    a, b = at.input(0), at.input(1)
    if at.attribute("transBatchA", 0) or at.attribute("transBatchB", 0):
        return None
    if at.attribute("transA", 0):
        a = _turned(a)
    if at.attribute("transB", 0):
        b = _turned(b)
    return [_scaled(at, product(at, a, b, at.wanted_order()), at.attribute("alpha", 1.0))]


def _gemm(at: Site) -> Sequence[Tensor]:
    a, b = at.input(0), at.input(1)
    if at.attribute("transA", 0):
        a = _turned(a)
    if at.attribute("transB", 0):
        b = _turned(b)
    alpha, beta = at.attribute("alpha", 1.0), at.attribute("beta", 1.0)
    content = at.build.content(b)
    if content is not None and alpha != 1.0:
        b, alpha = at.build.constant((content.astype(np.float64) * alpha).astype(np.float32)), 1.0
    y = _scaled(at, product(at, a, b, None), alpha)
    if not at.has(2) or beta == 0.0:
        return [y]
    c, shift = at.input(2), at.constant(2)
    if shift is not None and beta != 1.0:
        c, beta = at.build.constant((shift.astype(np.float64) * beta).astype(np.float32)), 1.0
    write = Writer()
    write("add", write.input(0), write.input(1) if beta == 1.0 else write("mul", write.input(1), beta))
    return [at.apply(write.formula, y, c)]


def product(at: Site, a: Tensor, b: Tensor, order: Sequence[int] | None) -> Tensor:
    """Multiply tensors as MatMul does.

    Parameters
    ----------
    at
        Where the calls go.
    a, b
        Tensors of at least one axis; one of them may be constant.
    order
        The axes of the result from outermost on, as its reader likes them best, or None.
    """
    build = at.build
    vector_a, vector_b = len(a.shape) == 1, len(b.shape) == 1
    if vector_a:
        a = a.seen(a.view.insert(0))
    if vector_b:
        b = b.seen(b.view.insert(1))
    y = _multiplied(build, a, b, order)
    if vector_a:
        y = y.seen(View((*y.view.axes[:-2], y.view.axes[-1]), y.view.offset))
    if vector_b:
        y = y.seen(View(y.view.axes[:-1], y.view.offset))
    return y


def _multiplied(build: Builder, a: Tensor, b: Tensor, order: Sequence[int] | None) -> Tensor:
    left, right = build.content(a), build.content(b)
    outer = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    if right is not None and right.size == math.prod(b.shape[-2:]) and len(outer) == len(a.shape) - 2:
        scales = _scales(build, b)
        turned = None if scales is None else scales.T
        return contract(build, a, len(a.shape) - 1, right.reshape(b.shape[-2:]).T, turned)
    if left is not None and left.size == math.prod(a.shape[-2:]) and len(outer) == len(b.shape) - 2:
        return contract(build, b, len(b.shape) - 2, left.reshape(a.shape[-2:]), _scales(build, a))
    return _batched(build, a, b, outer, order)


def _scales(build: Builder, matrix: Tensor) -> NDArray[np.float32] | None:
    found = build.content_scales(matrix)
    return None if found is None else found.reshape(matrix.shape[-2:])


def _batched(build: Builder, a: Tensor, b: Tensor, outer: tuple[int, ...], order: Sequence[int] | None) -> Tensor:
    rows, inner, columns = a.shape[-2], a.shape[-1], b.shape[-1]
    (a, left), (b, right) = (_placed(build, each, outer) for each in (a, b))
    shape = (*outer, rows, columns)
    view = dense(shape, order)
    result = _place(view)
    if result is None:
        view = dense(shape)
        result = _place(view)
    assert result is not None, "rows of a row-major tensor are contiguous"
    y = build.new(view)
    operator = BatchedProduct(math.prod(outer), rows, inner, columns, left, right, result)
    build.call(operator, a.value, b.value, y.value)
    return y


def _placed(build: Builder, x: Tensor, outer: tuple[int, ...]) -> tuple[Tensor, Place]:
    """Return a factor as an array with its place in it; it is copied where its rows are not contiguous."""
    wide = (*outer, *x.shape[-2:])
    place = _place(x.view.expand(wide))
    if place is not None:
        return x, place
    # Without gaps, in the order in which it lies or row by row.
    for view in (compact(x.view), dense(x.shape)):
        place = _place(view.expand(wide))
        if place is not None:
            return build.laid(x, view), place
    # Some of the outer axes repeat, and others do not.
    x = build.ordered(x.seen(x.view.expand(wide)))
    place = _place(x.view)
    assert place is not None, "rows of a row-major tensor are contiguous"
    return x, place


def _place(view: View) -> Place | None:
    """Return where the matrices of the last two axes lie, or None where no such steps lead to them."""
    rows, columns = view.axes[-2:]
    flat = view.reshape((math.prod(view.shape[:-2]), *view.shape[-2:]))
    if view.offset or len(rows) > 1 or len(columns) > 1 or flat is None or len(flat.axes[0]) > 1:
        return None
    if columns and columns[0].stride != 1:
        return None
    row = rows[0].stride if rows else view.shape[-1]
    batch = flat.axes[0][0].stride if flat.axes[0] else row * view.shape[-2]
    return None if row < 0 or batch < 0 else Place(batch, row)


def _turned(x: Tensor) -> Tensor:
    axes = list(range(len(x.shape)))
    return x.transpose([*axes[:-2], axes[-1], axes[-2]])


def _scaled(at: Site, x: Tensor, factor: float) -> Tensor:
    if factor == 1.0:
        return x
    write = Writer()
    write("mul", write.input(0), float(factor))
    return at.apply(write.formula, x)


RULES: Rules = {"FusedMatMul": _fused_matmul, "Gemm": _gemm, "MatMul": _matmul}
"""Rules for float32 tensors."""
