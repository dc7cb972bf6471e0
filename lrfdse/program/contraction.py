"""Products of one axis of a tensor with a constant matrix."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from lrfdse.ir.factorization import Step
from lrfdse.ir.products import FullyConnected
from lrfdse.program.build import Builder, Tensor
from lrfdse.program.layout import Axis, Part, View
from lrfdse.program.quantized import Levels, levels_of, multiply, widen

if TYPE_CHECKING:
    from numpy.typing import NDArray


def contract(
    build: Builder, x: Tensor, axis: int, weight: NDArray[np.float32], scales: NDArray[np.float32] | None = None
) -> Tensor:
    """Multiply one axis of a tensor by a weight of shape (out, inner) and return the result, laid out as `x` is.

    No element of `x` moves where it is dense and the axis lies in one piece, whatever the order of its parts (the
    weight's columns follow it) and whatever lies outside and inside of it.

    Parameters
    ----------
    build
        Takes the call.
    x
        A float32 tensor. Where it was rounded to 8 bits, its axis is innermost and the weight is made of int8, the
        product is of whole numbers.
    axis
        The axis that is multiplied.
    weight
        Shape (out, inner).
    scales
        What a level of each element of a weight that is made of int8 is worth; its levels are what is stored then.
    """
    out, inner = weight.shape
    known, whole = build.rounded.get(x.value), levels_of(weight, scales)
    if known is not None and whole is not None:
        source = build.compacted(Tensor(known.source.value, x.view))
        if _inside(source.view, axis) == 1:
            parts, view = _contracted(source.view, axis, out, 1)
            levels = _ordered(whole.levels, parts)
            result = build.new(view)
            rows = source.view.size // inner
            multiply(build, source.value, rows, Levels(levels, whole.scales), known.rounding, result.value)
            return result
    x = build.compacted(x)
    columns = _inside(x.view, axis)
    if columns is None:
        x = build.ordered(x, (*(other for other in range(len(x.shape)) if other != axis), axis))
        columns = 1
    parts, view = _contracted(x.view, axis, out, columns)
    result = build.new(view)
    step = Step(x.view.size // (inner * columns), out, inner, columns)
    if whole is not None:
        widen(build, x.value, step, Levels(_ordered(whole.levels, parts), whole.scales), result.value)
    else:
        ordered = _ordered(weight, parts)
        halves = _halved(ordered) if build.halves else None
        operator = FullyConnected(step) if halves is None else FullyConnected(step, weight="float16")
        build.call(operator, x.value, build.constant(ordered if halves is None else halves).value, result.value)
    return result


def _halved(weight: NDArray[np.float32]) -> NDArray[np.float16] | None:
    """Return a weight as float16 where that loses nothing of it."""
    with np.errstate(over="ignore"):
        halves = weight.astype(np.float16)
    return halves if np.array_equal(halves.astype(np.float32), weight) else None


def _contracted(view: View, axis: int, out: int, columns: int) -> tuple[Axis, View]:
    """Return the parts of an axis, and the view of a product over it."""
    parts = view.axes[axis]
    inner = math.prod(part.size for part in parts)
    made = View(
        tuple(
            ((Part(out, columns),) if out > 1 else ()) if place == axis else _widened(each, columns, inner, out)
            for place, each in enumerate(view.axes)
        )
    )
    return parts, made


def _ordered(weight: NDArray[Any], parts: Axis) -> NDArray[Any]:
    """Return a weight of shape (out, inner) with its columns in the order in which the parts of an axis lie."""
    order = sorted(range(len(parts)), key=lambda place: -parts[place].stride)
    split = weight.reshape(len(weight), *(part.size for part in parts))
    return split.transpose(0, *(place + 1 for place in order)).reshape(weight.shape)


def _inside(view: View, axis: int) -> int | None:
    """Return how many elements lie inside of an axis that lies in one piece; None of any other."""
    parts = sorted(view.axes[axis], key=lambda part: part.stride)
    if not parts:
        return 1
    stride = parts[0].stride
    columns = stride
    for part in parts:
        if part.stride != stride:
            return None
        stride *= part.size
    return columns


def _widened(axis: Axis, columns: int, inner: int, out: int) -> Axis:
    """Return an axis whose steps go over `out` where they went over `inner` elements of `columns` each."""
    return tuple(Part(part.size, part.stride if part.stride < columns else part.stride // inner * out) for part in axis)
