"""Softmax, and normalizations of rows, channels, groups and batches."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lrfdse.ir.operators import Normalization, Softmax
from lrfdse.program.broadcast import Writer
from lrfdse.program.build import Tensor
from lrfdse.program.layout import View
from lrfdse.program.site import Rule, Rules, Site


def _innermost(at: Site, x: Tensor, axes: Sequence[int]) -> Tensor:
    """Return the tensor with some axes innermost, in whatever order; the others stay as they lie where they can."""
    x = at.build.compacted(x)
    parts = sorted((part for axis in axes for part in x.view.axes[axis]), key=lambda part: part.stride)
    stride = 1
    for part in parts:
        if part.stride != stride:
            return at.build.ordered(x, [*(axis for axis in range(len(x.shape)) if axis not in axes), *axes])
        stride *= part.size
    return x


def normalized(at: Site, x: Tensor, axes: Sequence[int], epsilon: float, centred: bool = True) -> Tensor:
    """Normalize over axes together."""
    x = _innermost(at, x, axes)
    size = math.prod(x.shape[axis] for axis in axes)
    y = at.build.new(x.view)
    at.build.call(Normalization(x.view.size // size, size, epsilon, centred), x.value, y.value)
    return y


def scaled(at: Site, x: Tensor, scale: Tensor | None, shift: Tensor | None) -> Tensor:
    """Multiply by one tensor and add another one."""
    write = Writer()
    inputs, result = [x], write.input(0)
    if scale is not None:
        result = write("mul", result, write.input(len(inputs)))
        inputs.append(scale)
    if shift is not None:
        write("add", result, write.input(len(inputs)))
        inputs.append(shift)
    return at.apply(write.formula, *inputs) if len(inputs) > 1 else x


def along(x: Tensor, axis: int, rank: int) -> Tensor:
    """Return a vector as a tensor of so many axes that varies along one of them."""
    axes = [()] * rank
    return x.seen(View((*axes[:axis], x.view.axes[0], *axes[axis + 1 :]), x.view.offset))


def _softmax(log: bool) -> Rule:
    def rule(at: Site) -> Sequence[Tensor]:
        x = at.input(0)
        rank = len(x.shape)
        if at.opset < 13:
            # Until then the axis split the tensor into a matrix.
            axes: Sequence[int] = range(at.attribute("axis", 1) % rank, rank)
        else:
            axes = [at.attribute("axis", -1) % rank]
        x = _innermost(at, x, axes)
        size = math.prod(x.shape[axis] for axis in axes)
        y = at.build.new(x.view)
        at.build.call(Softmax(x.view.size // size, size, log), x.value, y.value)
        return [y]

    return rule


def _layer_normalization(centred: bool) -> Rule:
    def rule(at: Site) -> Sequence[Tensor] | None:
        if at.uses(1) or at.uses(2):
            return None
        x = at.input(0)
        rank = len(x.shape)
        axes = range(at.attribute("axis", -1) % rank, rank)
        y = normalized(at, x, axes, at.attribute("epsilon", 1e-5), centred)
        return [scaled(at, y, at.input(1), at.input(2) if at.has(2) else None)]

    return rule


def _decomposed(at: Site) -> Sequence[Tensor]:
    return [normalized(at, at.input(0), at.attribute("axes"), at.attribute("epsilon"), bool(at.attribute("centred")))]


def _instance_normalization(at: Site) -> Sequence[Tensor]:
    x = at.input(0)
    rank = len(x.shape)
    y = normalized(at, x, range(2, rank), at.attribute("epsilon", 1e-5))
    return [scaled(at, y, along(at.input(1), 1, rank), along(at.input(2), 1, rank))]


def _group_normalization(at: Site) -> Sequence[Tensor] | None:
    x, groups = at.input(0), at.attribute("num_groups")
    channels, rank = x.shape[1], len(x.shape)
    split = at.build.reshaped(x, (x.shape[0], groups, channels // groups, *x.shape[2:]))
    y = normalized(at, split, range(2, rank + 1), at.attribute("epsilon", 1e-5))
    scale, shift = at.input(1), at.input(2)
    if scale.shape == (channels,):
        whole = at.build.reshaped(y, x.shape)
        return [scaled(at, whole, along(scale, 1, rank), along(shift, 1, rank))]
    # Before opset 21 there was one number a group.
    return [at.build.reshaped(scaled(at, y, along(scale, 1, rank + 1), along(shift, 1, rank + 1)), x.shape)]


def _batch_normalization(at: Site) -> Sequence[Tensor] | None:
    if at.attribute("training_mode", 0) or any(at.uses(place) for place in range(1, len(at.node.outputs))):
        return None
    x = at.input(0)
    rank, epsilon = len(x.shape), at.attribute("epsilon", 1e-5)
    known = [at.constant(place) for place in range(1, 5)]
    axis = min(1, rank - 1)
    if all(each is not None for each in known):
        scale, shift, mean, variance = (np.asarray(each, np.float64) for each in known)
        factor = scale / np.sqrt(variance + epsilon)
        added = shift - mean * factor
        a, b = (at.build.constant(each.astype(np.float32)) for each in (factor, added))
        return [scaled(at, x, along(a, axis, rank), along(b, axis, rank))]
    write = Writer()
    root = write("sqrt", write("add", write.input(4), epsilon))
    centred = write("sub", write.input(0), write.input(3))
    write("add", write("mul", write("div", centred, root), write.input(1)), write.input(2))
    return [at.apply(write.formula, x, *(along(at.input(place), axis, rank) for place in range(1, 5)))]


DECOMPOSED = "Normalized"
"""The name of the node that stands for a normalization written in single operators."""

RULES: Rules = {
    "BatchNormalization": _batch_normalization,
    "GroupNormalization": _group_normalization,
    "InstanceNormalization": _instance_normalization,
    "LayerNormalization": _layer_normalization(centred=True),
    "LogSoftmax": _softmax(log=True),
    DECOMPOSED: _decomposed,
    "RMSNormalization": _layer_normalization(centred=False),
    "SimplifiedLayerNormalization": _layer_normalization(centred=False),
    "Softmax": _softmax(log=False),
}
"""Rules for float32 tensors."""
