"""Windows that slide over images, channels second: padding, and pooling."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lrfdse.heal.operators.call import Call, Rule


def padded(call: Call, x: Any, spans: Sequence[int], strides: Sequence[int], fill: float = 0.0) -> Any:
    """Return images with the pads that the node says, or that its automatic padding comes to.

    Parameters
    ----------
    call
        The node.
    x
        The images, channels second.
    spans
        Elements that the window covers along each axis, holes included.
    strides
        Of the window.
    fill
        What stands in the pads.
    """
    mode = call.attributes.get("auto_pad", "NOTSET")
    pads = list(call.attributes.get("pads", [0] * (2 * len(spans))))
    before, after = pads[: len(spans)], pads[len(spans) :]
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        sizes = call.sizes(x)[2:]
        whole = [
            max(0, (math.ceil(size / step) - 1) * step + span - size)
            for size, span, step in zip(sizes, spans, strides, strict=True)
        ]
        less, rest = [each // 2 for each in whole], [each - each // 2 for each in whole]
        before, after = (less, rest) if mode == "SAME_UPPER" else (rest, less)
    if not any((*before, *after)):
        return x
    return call.tf.pad(x, [(0, 0), (0, 0), *zip(before, after, strict=True)], constant_values=fill)


def _max_pool(call: Call) -> Any:
    if call.outputs > 1:
        raise call.unsupported("its indices are read")
    return _pooled(call, call.inputs[0], call.tf.nn.max_pool2d, call.inputs[0].dtype.min)


def _average_pool(call: Call) -> Any:
    tf, x = call.tf, call.inputs[0]
    found = _pooled(call, x, tf.nn.avg_pool2d, 0.0)
    if call.attributes.get("count_include_pad", 0):
        return found
    return found / _pooled(call, tf.ones([1, 1, *call.sizes(x)[2:]], x.dtype), tf.nn.avg_pool2d, 0.0)


def _pooled(call: Call, x: Any, pool: Any, fill: float) -> Any:
    tf, kernel = call.tf, list(call.attributes["kernel_shape"])
    axes = len(kernel)
    if axes not in (1, 2) or call.attributes.get("ceil_mode", 0) or set(call.attributes.get("dilations", [1])) != {1}:
        raise call.unsupported("more than two axes, ceil_mode or dilations")
    strides = list(call.attributes.get("strides", [1] * axes))
    x = padded(call, x, kernel, strides, fill)
    images = tf.transpose(x, [0, *range(2, axes + 2), 1])
    if axes == 1:
        images, kernel, strides = images[:, None], [1, *kernel], [1, *strides]
    found = pool(images, kernel, strides, "VALID")
    return tf.transpose(found[:, 0] if axes == 1 else found, [0, axes + 1, *range(1, axes + 1)])


def _global(name: str) -> Rule:
    def rule(call: Call) -> Any:
        x = call.inputs[0]
        return getattr(call.tf, name)(x, list(range(2, len(x.shape))), keepdims=True)

    return rule


WINDOWS: Mapping[str, Rule] = {
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global("reduce_mean"),
    "GlobalMaxPool": _global("reduce_max"),
    "MaxPool": _max_pool,
}
"""Operator to rule."""
