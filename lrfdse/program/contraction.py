"""Products of one axis of a tensor with a constant matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lrfdse.ir.factorization import Step
from lrfdse.ir.products import FullyConnected
from lrfdse.program.build import Builder, Tensor
from lrfdse.program.layout import Axis, Part, View

if TYPE_CHECKING:
    from numpy.typing import NDArray


def contract(build: Builder, x: Tensor, axis: int, weight: NDArray[np.float32]) -> Tensor:
    """Multiply one axis of a tensor by a weight of shape (out, inner) and return the result, laid out as `x` is.

    No element of `x` moves where it is dense and the axis lies in one piece, whatever the order of its parts (the
    weight's columns follow it) and whatever lies outside and inside of it.
    """
    out, inner = weight.shape
    x = build.compacted(x)
    columns = _inside(x.view, axis)
    if columns is None:
        x = build.ordered(x, (*(other for other in range(len(x.shape)) if other != axis), axis))
        columns = 1
    parts = x.view.axes[axis]
    order = sorted(range(len(parts)), key=lambda place: -parts[place].stride)
    split = weight.reshape(out, *(part.size for part in parts))
    turned = split.transpose(0, *(place + 1 for place in order)).reshape(out, inner)
    batch = x.view.size // (inner * columns)
    view = View(
        tuple(
            ((Part(out, columns),) if out > 1 else ()) if place == axis else _widened(each, columns, inner, out)
            for place, each in enumerate(x.view.axes)
        )
    )
    result = build.new(view)
    step = Step(batch, out, inner, columns)
    build.call(FullyConnected(step), x.value, build.constant(turned).value, result.value)
    return result


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
