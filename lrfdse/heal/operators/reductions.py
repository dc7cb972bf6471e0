"""Reductions along axes, and what is normalized by them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lrfdse.heal.operators.call import Call, Rule

_SOFTMAX_BY_AXIS = 13
"""Opset from which Softmax normalizes along one axis; before, over all axes from it on (onnx/docs/Changelog.md)."""


def _reduction(name: str) -> Rule:
    def rule(call: Call) -> Any:
        axes = call.integers("axes", 1)
        if not axes and call.attributes.get("noop_with_empty_axes", 0):
            return call.inputs[0]
        return getattr(call.tf, name)(call.inputs[0], axes or None, keepdims=bool(call.attributes.get("keepdims", 1)))

    return rule


def _root_of_squares(call: Call) -> Any:
    return call.tf.sqrt(_reduction("reduce_sum")(replace(call, inputs=[call.inputs[0] ** 2, *call.inputs[1:]])))


def _softmax(name: str) -> Rule:
    def rule(call: Call) -> Any:
        x, function = call.inputs[0], getattr(call.tf.nn, name)
        if call.opset >= _SOFTMAX_BY_AXIS:
            return function(x, call.attributes.get("axis", -1))
        sizes = call.sizes(x)
        axis = call.attributes.get("axis", 1) % len(sizes)
        flat = call.tf.reshape(x, [*sizes[:axis], -1])
        return call.tf.reshape(function(flat, -1), sizes)

    return rule


def _batch_normalization(call: Call) -> Any:
    if call.outputs > 1 or call.attributes.get("training_mode", 0):
        raise call.unsupported("it is in training mode")
    x, *vectors = call.inputs
    along = [1, -1, *[1] * (len(x.shape) - 2)]
    scale, bias, mean, variance = (call.tf.reshape(each, along) for each in vectors)
    return (x - mean) * call.tf.math.rsqrt(variance + call.attributes.get("epsilon", 1e-5)) * scale + bias


def _layer_normalization(call: Call) -> Any:
    if call.outputs > 1:
        raise call.unsupported("its mean or deviation is read")
    x, scale, bias = call.inputs[0], call.inputs[1], call.input(2)
    axis = call.attributes.get("axis", -1) % len(x.shape)
    found = _standardized(call, x, list(range(axis, len(x.shape)))) * scale
    return found if bias is None else found + bias


def _instance_normalization(call: Call) -> Any:
    x, *vectors = call.inputs
    scale, bias = (call.tf.reshape(each, [1, -1, *[1] * (len(x.shape) - 2)]) for each in vectors)
    return _standardized(call, x, list(range(2, len(x.shape)))) * scale + bias


def _standardized(call: Call, x: Any, axes: list[int]) -> Any:
    moved = x - call.tf.reduce_mean(x, axes, keepdims=True)
    variance = call.tf.reduce_mean(call.tf.square(moved), axes, keepdims=True)
    return moved * call.tf.math.rsqrt(variance + call.attributes.get("epsilon", 1e-5))


def _lp_normalization(call: Call) -> Any:
    x, axis, order = call.inputs[0], call.attributes.get("axis", -1), call.attributes.get("p", 2)
    return x / call.tf.norm(x, ord=order, axis=axis, keepdims=True)


REDUCTIONS: Mapping[str, Rule] = {
    "BatchNormalization": _batch_normalization,
    "InstanceNormalization": _instance_normalization,
    "LayerNormalization": _layer_normalization,
    "LogSoftmax": _softmax("log_softmax"),
    "LpNormalization": _lp_normalization,
    "ReduceL2": _root_of_squares,
    "ReduceMax": _reduction("reduce_max"),
    "ReduceMean": _reduction("reduce_mean"),
    "ReduceMin": _reduction("reduce_min"),
    "ReduceSum": _reduction("reduce_sum"),
    "Softmax": _softmax("softmax"),
}
"""Operator to rule."""
