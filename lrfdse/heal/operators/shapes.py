"""Operators that move elements and do no arithmetic."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from lrfdse.heal.operators.call import Call, Rule


def _reshape(call: Call) -> Any:
    x = call.inputs[0]
    wanted = call.integers("shape", 1) if isinstance(call.input(1), np.ndarray) or call.opset < 5 else None
    if wanted is None:
        return call.tf.reshape(x, call.inputs[1])
    if not call.attributes.get("allowzero", 0):
        known = call.sizes(x)
        wanted = [known[axis] if size == 0 else size for axis, size in enumerate(wanted)]
    return call.tf.reshape(x, wanted)


def _flatten(call: Call) -> Any:
    sizes = call.sizes(call.inputs[0])
    axis = call.attributes.get("axis", 1) % (len(sizes) + 1)
    return call.tf.reshape(call.inputs[0], [math.prod(sizes[:axis]), math.prod(sizes[axis:])])


def _transpose(call: Call) -> Any:
    return call.tf.transpose(call.inputs[0], call.attributes.get("perm"))


def _squeeze(call: Call) -> Any:
    return call.tf.squeeze(call.inputs[0], call.integers("axes", 1))


def _unsqueeze(call: Call) -> Any:
    x, axes = call.inputs[0], call.integers("axes", 1) or []
    rank = len(x.shape) + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = call.tf.expand_dims(x, axis)
    return x


def _concat(call: Call) -> Any:
    return call.tf.concat(call.inputs, call.attributes["axis"])


def _split(call: Call) -> Any:
    x, axis = call.inputs[0], call.attributes.get("axis", 0)
    parts = call.integers("split", 1)
    if parts is None:
        size = x.shape[axis]
        each = -(-size // call.outputs)
        parts = [each] * (call.outputs - 1) + [size - each * (call.outputs - 1)]
    found = call.tf.split(x, parts, axis)
    return list(found) if call.outputs > 1 else found[0]


def _slice(call: Call) -> Any:
    x = call.inputs[0]
    starts, ends = call.integers("starts", 1) or [], call.integers("ends", 2) or []
    axes = call.integers("axes", 3) or list(range(len(starts)))
    steps = call.integers("steps", 4) or [1] * len(starts)
    chosen = [slice(None)] * len(x.shape)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        # ONNX clamps where Python takes an end of -1 for the last element.
        size = int(x.shape[axis])
        first, last, stride = slice(start, None if step < 0 and end < -size else end, step).indices(size)
        chosen[axis] = slice(first, None if last < 0 else last, stride)
    return x[tuple(chosen)]


def _gather(call: Call) -> Any:
    x, index = call.inputs
    axis = call.attributes.get("axis", 0)
    size = x.shape[axis]
    return call.tf.gather(x, call.tf.where(index < 0, index + size, index), axis=axis)


def _expand(call: Call) -> Any:
    x = call.inputs[0]
    return x * call.tf.ones(call.inputs[1], x.dtype)


def _pad(call: Call) -> Any:
    x = call.inputs[0]
    if call.attributes.get("mode", "constant") != "constant":
        raise call.unsupported("its mode is not `constant`")
    pads, axes = call.integers("pads", 1) or [], call.integers("axes", 3)
    value = call.input(2) if call.opset >= 11 else call.attributes.get("value", 0.0)
    value = 0.0 if value is None else float(call.constant(value, "its value"))
    places = range(len(x.shape)) if axes is None else [axis % len(x.shape) for axis in axes]
    before, after = pads[: len(pads) // 2], pads[len(pads) // 2 :]
    if min(pads, default=0) < 0:
        raise call.unsupported("its pads are negative")
    widths = [(0, 0)] * len(x.shape)
    for place, pair in zip(places, zip(before, after, strict=True), strict=True):
        widths[place] = pair
    return call.tf.pad(x, widths, constant_values=value)


def _shape(call: Call) -> Any:
    sizes = call.sizes(call.inputs[0])
    end = call.attributes.get("end")
    return np.array(sizes[call.attributes.get("start", 0) : end], dtype=np.int64)


def _size(call: Call) -> Any:
    return np.array(math.prod(call.sizes(call.inputs[0])), dtype=np.int64)


SHAPES: Mapping[str, Rule] = {
    "Concat": _concat,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Pad": _pad,
    "Reshape": _reshape,
    "Shape": _shape,
    "Size": _size,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
"""Operator to rule."""
