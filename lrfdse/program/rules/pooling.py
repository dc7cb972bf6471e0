"""Pooling over windows, and reductions over whole axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from lrfdse.ir.operators import Pool, Reduction
from lrfdse.program.broadcast import Writer
from lrfdse.program.build import Tensor
from lrfdse.program.layout import Part, View, dense
from lrfdse.program.rules.convolutions import CHANNELS_LAST, as_before, as_image, window_of
from lrfdse.program.site import Rule, Rules, Site

Kind = Literal["sum", "mean", "max", "min", "prod", "l1", "l2", "sumsquare"]


def _pool(kind: Literal["max", "mean"]) -> Rule:
    def rule(at: Site) -> Sequence[Tensor] | None:
        x = as_image(at.input(0))
        if x is None or at.uses(1):
            return None
        ceil = bool(at.attribute("ceil_mode", 0))
        window = window_of(at, (x.shape[2], x.shape[3]), at.attribute("kernel_shape"), ceil)
        shape = at.shape()
        if window.out != ((1, shape[2]) if len(shape) == 3 else shape[2:]):
            return None
        x = at.build.ordered(x, CHANNELS_LAST)
        y = at.build.new(dense((window.batch, x.shape[1], *window.out), CHANNELS_LAST))
        operator = Pool(window, x.shape[1], kind, kind == "mean" and bool(at.attribute("count_include_pad", 0)))
        at.build.call(operator, x.value, y.value)
        return [as_before(y, len(shape))]

    return rule


def reduced(at: Site, x: Tensor, axes: Sequence[int], kind: Kind) -> Tensor:
    """Reduce axes to size 1; the others stay as they lie."""
    build = at.build
    x = build.compacted(x)
    inside = _inside(x.view, axes)
    if inside is None:
        x = build.ordered(x, [*(axis for axis in range(len(x.shape)) if axis not in axes), *axes])
        inside = 1
    size = math.prod(x.shape[axis] for axis in axes)
    outer = x.view.size // (size * inside)
    view = View(
        tuple(
            ()
            if axis in axes
            else tuple(Part(p.size, p.stride if p.stride < inside else p.stride // size) for p in parts)
            for axis, parts in enumerate(x.view.axes)
        )
    )
    y = build.new(view)
    build.call(Reduction(outer, size, inside, kind), x.value, y.value)
    return y


def _inside(view: View, axes: Sequence[int]) -> int | None:
    """Return how many elements lie inside of axes that lie in one piece; None where they do not."""
    parts = sorted((part for axis in axes for part in view.axes[axis]), key=lambda part: part.stride)
    if not parts:
        return 1
    stride = parts[0].stride
    for part in parts:
        if part.stride != stride:
            return None
        stride *= part.size
    return parts[0].stride


def _global(kind: Kind) -> Rule:
    def rule(at: Site) -> Sequence[Tensor]:
        x = at.input(0)
        return [reduced(at, x, range(2, len(x.shape)), kind)]

    return rule


def _axes(at: Site) -> Sequence[int] | None:
    """Return the axes to reduce, or None where they are computed."""
    rank = len(at.input(0).shape)
    if at.is_computed(1):
        return None
    axes = at.attribute("axes") if at.attribute("axes") is not None else at.integers(1)
    if not axes:
        return () if at.attribute("noop_with_empty_axes", 0) else range(rank)
    return sorted(axis % rank for axis in axes)


def _reduction(kind: Kind, behind: Callable[[Site, Tensor], Tensor] | None = None) -> Rule:
    def rule(at: Site) -> Sequence[Tensor] | None:
        axes = _axes(at)
        if axes is None or not axes:
            return None
        y = reduced(at, at.input(0), axes, kind)
        return [at.build.reshaped(behind(at, y) if behind else y, at.shape())]

    return rule


def _log(at: Site, x: Tensor) -> Tensor:
    write = Writer()
    write("log", write.input(0))
    return at.apply(write.formula, x)


def _log_sum_exp(at: Site) -> Sequence[Tensor] | None:
    x, axes = at.input(0), _axes(at)
    if axes is None or not axes:
        return None
    # Endless numbers less an endless largest one would be none.
    write = Writer()
    write("min", write("max", write.input(0), -LARGEST), LARGEST)
    largest = at.apply(write.formula, reduced(at, x, axes, "max"))
    write = Writer()
    write("exp", write("sub", write.input(0), write.input(1)))
    total = reduced(at, at.apply(write.formula, x, largest), axes, "sum")
    write = Writer()
    write("add", write("log", write.input(0)), write.input(1))
    return [at.build.reshaped(at.apply(write.formula, total, largest), at.shape())]


def _lp_normalization(at: Site) -> Sequence[Tensor] | None:
    x, order = at.input(0), at.attribute("p", 2)
    axis = at.attribute("axis", -1) % len(x.shape)
    length = reduced(at, x, [axis], "l1" if order == 1 else "l2")
    write = Writer()
    # A vector of zeros stays one.
    write("div", write.input(0), write("max", write.input(1), TINY))
    return [at.apply(write.formula, x, length)]


TINY = 1.1754943508222875e-38
"""The smallest normal number of float32: a length below it is one of zeros."""

LARGEST = float(np.finfo(np.float32).max)
"""The largest number of float32 that is not endless."""

RULES: Rules = {
    "AveragePool": _pool("mean"),
    "GlobalAveragePool": _global("mean"),
    "GlobalMaxPool": _global("max"),
    "LpNormalization": _lp_normalization,
    "MaxPool": _pool("max"),
    "ReduceL1": _reduction("l1"),
    "ReduceL2": _reduction("l2"),
    "ReduceLogSum": _reduction("sum", _log),
    "ReduceLogSumExp": _log_sum_exp,
    "ReduceMax": _reduction("max"),
    "ReduceMean": _reduction("mean"),
    "ReduceMin": _reduction("min"),
    "ReduceProd": _reduction("prod"),
    "ReduceSum": _reduction("sum"),
    "ReduceSumSquare": _reduction("sumsquare"),
}
"""Rules for float32 tensors."""
