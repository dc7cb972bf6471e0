"""Sorting, summing up and marking along one axis."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lrfdse.ir.indexed import OneHot, TopK
from lrfdse.ir.operators import RunningSum
from lrfdse.program.build import Tensor
from lrfdse.program.layout import Axis, Part, View, dense
from lrfdse.program.site import Rules, Site

_SORTED = frozenset(("float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "int64"))
"""Elements that every machine compares."""

_SUMMED = frozenset(("float32", "float64", "int32", "int64"))
"""Elements that ONNX sums up, less those that programs do not have."""


def with_steps(at: Site, x: Tensor, axis: int) -> tuple[Tensor, int]:
    """Return the tensor in a dense view in which an axis is steps of one size, and that size."""
    x = at.build.compacted(x)
    if len(x.view.axes[axis]) > 1:
        x = at.build.ordered(x)
    parts = x.view.axes[axis]
    if not parts:
        # The axis is one element: those that lie behind it in a row-major tensor are as good as any.
        x = at.build.ordered(x)
    return x, parts[0].stride if parts else math.prod(x.shape[axis + 1 :])


def resized(view: View, stride: int, size: int, count: int) -> tuple[Axis, ...]:
    """Return the axes of a dense view when that of such steps and size has another size."""
    return tuple(
        tuple(Part(p.size, p.stride if p.stride < stride else p.stride // size * count) for p in parts)
        for parts in view.axes
    )


def _top_k(at: Site) -> Sequence[Tensor] | None:
    x = at.input(0)
    axis = at.attribute("axis", -1) % len(x.shape)
    # Shapes of outputs that nothing reads are not known.
    given = (at.attribute("k"),) if at.opset < 10 else at.integers(1)
    size = x.shape[axis]
    if x.element not in _SORTED or given is None or not 0 < given[0] <= size:
        return None
    count = given[0]
    x, inner = with_steps(at, x, axis)
    others = resized(x.view, inner, size, count)
    sorted_axis: Axis = (Part(count, inner),) if count > 1 else ()
    view = View((*others[:axis], sorted_axis, *others[axis + 1 :]))
    values, indices = at.build.new(view, x.element), at.build.new(view, "int64")
    largest = bool(at.attribute("largest", 1))
    operator = TopK(x.view.size // (size * inner), size, inner, count, largest, x.element)
    at.build.call(operator, x.value, values.value, indices.value)
    return [values, indices]


def _cum_sum(at: Site) -> Sequence[Tensor] | None:
    x, axes = at.input(0), at.integers(1)
    if x.element not in _SUMMED or axes is None:
        return None
    axis = axes[0] % len(x.shape)
    x, inner = with_steps(at, x, axis)
    size = x.shape[axis]
    y = at.build.new(x.view, x.element)
    exclusive, reverse = (bool(at.attribute(name, 0)) for name in ("exclusive", "reverse"))
    operator = RunningSum(x.view.size // (size * inner), size, inner, exclusive, reverse, x.element)
    at.build.call(operator, x.value, y.value)
    return [y]


def _one_hot(at: Site) -> Sequence[Tensor] | None:
    index, values = at.input(0), at.input(2)
    if index.element in ("bool", "float16"):
        return None
    shape = at.shape()
    axis = at.attribute("axis", -1) % len(shape)
    index, values = at.build.ordered(index), at.build.ordered(values)
    inner = math.prod(shape[axis + 1 :])
    y = at.build.new(dense(shape), values.element)
    operator = OneHot(index.view.size // inner, shape[axis], inner, values.element, index.element)
    at.build.call(operator, index.value, values.value, y.value)
    return [y]


RULES: Rules = {
    "CumSum": _cum_sum,
    "OneHot": _one_hot,
    "TopK": _top_k,
}
"""Rules for tensors of any element type."""
