"""Products: of matrices, and convolutions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lrfdse.heal.operators.call import Call, Rule
from lrfdse.heal.operators.windows import padded


def _matmul(call: Call) -> Any:
    one, other = (call.tf.convert_to_tensor(value) for value in call.inputs)
    first, last = len(one.shape) == 1, len(other.shape) == 1
    found = call.tf.linalg.matmul(one[None] if first else one, other[:, None] if last else other)
    found = call.tf.squeeze(found, -1) if last else found
    return call.tf.squeeze(found, -1 if last else -2) if first else found


def _gemm(call: Call) -> Any:
    a, b, c = call.inputs[0], call.inputs[1], call.input(2)
    flags = {f"transpose_{side}": bool(call.attributes.get(f"trans{side.upper()}", 0)) for side in "ab"}
    found = call.attributes.get("alpha", 1.0) * call.tf.linalg.matmul(a, b, **flags)
    return found if c is None else found + call.attributes.get("beta", 1.0) * c


def _conv(call: Call) -> Any:
    return convolved(call, call.inputs[0], call.inputs[1], call.input(2))


def convolved(call: Call, x: Any, weight: Any, bias: Any) -> Any:
    """Return a convolution of images, channels second, over one axis or two.

    TensorFlow differentiates neither groups nor dilations on a CPU: groups are taken one by one, and holes are filled
    with zeros.
    """
    tf, more = call.tf, call.attributes
    axes = len(x.shape) - 2
    if axes not in (1, 2):
        raise call.unsupported(f"it slides over {axes} axes")
    kernel = [int(size) for size in weight.shape[2:]]
    dilations = list(more.get("dilations", [1] * axes))
    spans = [(size - 1) * step + 1 for size, step in zip(kernel, dilations, strict=True)]
    strides, groups = list(more.get("strides", [1] * axes)), int(more.get("group", 1))
    x = padded(call, x, spans, strides)
    filters = tf.transpose(weight, [*range(2, axes + 2), 1, 0])
    filters = _spread(tf, filters, dilations)
    images = tf.transpose(x, [0, *range(2, axes + 2), 1])
    if axes == 1:
        images, filters, strides = images[:, None], filters[None], [1, *strides]
    parts = zip(tf.split(images, groups, -1), tf.split(filters, groups, -1), strict=True)
    found = tf.concat([tf.nn.conv2d(image, part, strides, "VALID") for image, part in parts], -1)
    found = found if bias is None else found + bias
    return tf.transpose(found[:, 0] if axes == 1 else found, [0, axes + 1, *range(1, axes + 1)])


def _spread(tf: Any, filters: Any, dilations: Sequence[int]) -> Any:
    """Return filters, spatial axes first, with zeros between their elements."""
    for axis, step in enumerate(dilations):
        if step == 1:
            continue
        sizes = [int(size) for size in filters.shape]
        apart = tf.expand_dims(filters, axis + 1)
        widths = [(0, step - 1) if place == axis + 1 else (0, 0) for place in range(len(sizes) + 1)]
        joined = tf.reshape(tf.pad(apart, widths), [*sizes[:axis], sizes[axis] * step, *sizes[axis + 1 :]])
        kept = [slice(None)] * len(sizes)
        kept[axis] = slice((sizes[axis] - 1) * step + 1)
        filters = joined[tuple(kept)]
    return filters


PRODUCTS: Mapping[str, Rule] = {"Conv": _conv, "Gemm": _gemm, "MatMul": _matmul}
"""Operator to rule."""
