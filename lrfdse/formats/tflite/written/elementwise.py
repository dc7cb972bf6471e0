"""What computes element by element: arithmetic, activations, softmax and normalization."""

from __future__ import annotations

import math

import numpy as np

from lrfdse.formats.tflite.parts import RELU, RELU6
from lrfdse.formats.tflite.written.graph import TO_LAST, UnsupportedError
from lrfdse.formats.tflite.written.site import Rule, Rules, Site


def _binary(kind: str, options: str) -> Rule:
    def rule(site: Site) -> None:
        if len(site.node.input) != 2:
            raise UnsupportedError("it has not two inputs")
        last = _any_last(site)
        operands = [_operand(site, place, last) for place in range(2)]
        site.give(site.op(kind, operands, site.ordered(site.sizes, last), options), last)

    return rule


def _any_last(site: Site) -> bool:
    """Return whether an operator computes with channels last: where an input is so, and all have four axes."""
    places = range(len(site.node.input))
    moving = [site.shape(place) for place in places if not site.is_constant(place)]
    whole = len(site.sizes) == 4 and all(len(shape) == 4 for shape in moving)
    return whole and any(site.g.is_last(site.input(place)) for place in places)


def _operand(site: Site, place: int, last: bool) -> int:
    name, shape = site.input(place), site.shape(place)
    if not last or not site.is_constant(place):
        return site.g.last(name) if last else site.plain(place)
    array = site.g.constants[name].reshape([1] * (4 - len(shape)) + list(shape))
    return site.g.constant(array.transpose(TO_LAST), name)


def _unary(kind: str, options: str = "", **values: float) -> Rule:
    def rule(site: Site) -> None:
        last = _any_last(site)
        value = site.g.last(site.input()) if last else site.plain()
        site.give(site.op(kind, [value], site.ordered(site.sizes, last), options, **values), last)

    return rule


def _leaky(site: Site) -> None:
    _unary("LEAKY_RELU", "LeakyReluOptions", alpha=float(site.attribute("alpha", 0.01)))(site)


def _elu(site: Site) -> None:
    if site.attribute("alpha", 1.0) != 1:
        raise UnsupportedError("its alpha is not 1")
    _unary("ELU")(site)


def _activation(kind: str, number: int) -> Rule:
    """Write an activation into the operator before it, where that can have it."""

    def rule(site: Site) -> None:
        fused = site.g.fuse(site.input(), number)
        if fused is None:
            _unary(kind)(site)
        else:
            site.give(*fused)

    return rule


_RELU_RULE, _RELU6_RULE = _activation("RELU", RELU), _activation("RELU6", RELU6)


def _clip(site: Site) -> None:
    low, high = -math.inf, math.inf
    if site.opset < 11:
        low, high = site.attribute("min", low), site.attribute("max", high)
    else:
        low = float(site.constant(1, "lower bound")) if site.given(1) else low
        high = float(site.constant(2, "upper bound")) if site.given(2) else high
    if (low, high) == (0, 6):
        _RELU6_RULE(site)
        return
    if low == 0 and high >= float(np.finfo(np.float32).max):
        _RELU_RULE(site)
        return
    last = site.g.is_last(site.input())
    value, sizes = site.g.last(site.input()) if last else site.plain(), site.ordered(site.sizes, last)
    value = site.op("MAXIMUM", [value, site.number(low)], sizes, "MaximumMinimumOptions")
    site.give(site.op("MINIMUM", [value, site.number(high)], sizes, "MaximumMinimumOptions"), last)


_COERCED = 13
"""Opset from which Softmax runs along one axis, and before along all from that one on (onnx/docs/Changelog.md)."""


def _softmax(kind: str, options: str, **values: float) -> Rule:
    def rule(site: Site) -> None:
        shape, rank = site.shape(), len(site.shape())
        axis = int(site.attribute("axis", -1 if site.opset >= _COERCED else 1)) % max(rank, 1)
        if site.opset < _COERCED:
            matrix = math.prod(shape[:axis]), math.prod(shape[axis:])
            value = site.g.reshaped(site.plain(), matrix, site.output)
            site.give(site.g.reshaped(site.op(kind, [value], matrix, options, **values), shape, site.output))
            return
        order = [i for i in range(rank) if i != axis] + [axis]
        value = site.g.turned(site.plain(), shape, order, site.output)
        turned = [shape[i] for i in order]
        back = [order.index(i) for i in range(rank)]
        site.give(site.g.turned(site.op(kind, [value], turned, options, **values), turned, back, site.output))

    return rule


def _normalization(site: Site) -> None:
    """Write BatchNormalization with stored statistics as MUL and ADD."""
    scale, shift, mean, variance = (
        site.constant(place, what).astype(np.float64)
        for place, what in enumerate(("scale", "shift", "mean", "variance"), 1)
    )
    if len(site.node.output) > 1 or site.attribute("training_mode", 0):
        raise UnsupportedError("it is in training mode")
    factor = scale / np.sqrt(variance + site.attribute("epsilon", 1e-5))
    rank, last = len(site.shape()), len(site.shape()) == 4 and site.g.is_last(site.input())
    sizes = [-1] if last or rank == 2 else [-1] + [1] * (rank - 2)
    value = site.g.last(site.input()) if last else site.plain()
    for kind, options, numbers in (("MUL", "MulOptions", factor), ("ADD", "AddOptions", shift - mean * factor)):
        stored = site.g.constant(numbers.astype(np.float32).reshape(sizes), site.input(1))
        value = site.op(kind, [value, stored], site.ordered(site.sizes, last), options)
    site.give(value, last)


RULES: Rules = {
    "Add": _binary("ADD", "AddOptions"),
    "Sub": _binary("SUB", "SubOptions"),
    "Mul": _binary("MUL", "MulOptions"),
    "Div": _binary("DIV", "DivOptions"),
    "Pow": _binary("POW", "PowOptions"),
    "Max": _binary("MAXIMUM", "MaximumMinimumOptions"),
    "Min": _binary("MINIMUM", "MaximumMinimumOptions"),
    "Relu": _RELU_RULE,
    "Clip": _clip,
    "LeakyRelu": _leaky,
    "Elu": _elu,
    "Sigmoid": _unary("LOGISTIC"),
    "Tanh": _unary("TANH"),
    "HardSwish": _unary("HARD_SWISH", "HardSwishOptions"),
    "Exp": _unary("EXP", "ExpOptions"),
    "Sqrt": _unary("SQRT"),
    "Neg": _unary("NEG", "NegOptions"),
    "Abs": _unary("ABS", "AbsOptions"),
    "Softmax": _softmax("SOFTMAX", "SoftmaxOptions", beta=1.0),
    "LogSoftmax": _softmax("LOG_SOFTMAX", "LogSoftmaxOptions"),
    "BatchNormalization": _normalization,
}
"""The rules of this family."""
