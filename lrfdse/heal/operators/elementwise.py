"""Operators that act element by element."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from lrfdse.heal.operators.call import Call, Rule


def _unary(name: str) -> Rule:
    def rule(call: Call) -> Any:
        return functools.reduce(getattr, name.split("."), call.tf)(call.inputs[0])

    return rule


def _folded(name: str) -> Rule:
    """Return the rule of an operator of any number of inputs that takes them two by two."""

    def rule(call: Call) -> Any:
        return functools.reduce(getattr(call.tf.math, name), call.inputs)

    return rule


def _mean(call: Call) -> Any:
    return functools.reduce(call.tf.math.add, call.inputs) / len(call.inputs)


def _power(call: Call) -> Any:
    base, exponent = call.inputs
    return call.tf.math.pow(base, call.tf.cast(exponent, base.dtype))


def _leaky_relu(call: Call) -> Any:
    return call.tf.nn.leaky_relu(call.inputs[0], call.attributes.get("alpha", 0.01))


def _elu(call: Call) -> Any:
    x, alpha = call.inputs[0], call.attributes.get("alpha", 1.0)
    # The branch that is not taken must not overflow: its derivative would be NaN.
    return call.tf.where(x > 0, x, alpha * call.tf.math.expm1(call.tf.minimum(x, 0.0)))


def _selu(call: Call) -> Any:
    alpha = call.attributes.get("alpha", 1.67326319217681884765625)
    gamma = call.attributes.get("gamma", 1.05070102214813232421875)
    x = call.inputs[0]
    return gamma * call.tf.where(x > 0, x, alpha * call.tf.math.expm1(call.tf.minimum(x, 0.0)))


def _celu(call: Call) -> Any:
    x, alpha = call.inputs[0], call.attributes.get("alpha", 1.0)
    return call.tf.maximum(x, 0.0) + alpha * call.tf.math.expm1(call.tf.minimum(x, 0.0) / alpha)


def _prelu(call: Call) -> Any:
    x, slope = call.inputs
    return call.tf.where(x >= 0, x, x * slope)


def _hard_sigmoid(call: Call) -> Any:
    alpha, beta = call.attributes.get("alpha", 0.2), call.attributes.get("beta", 0.5)
    return call.tf.clip_by_value(alpha * call.inputs[0] + beta, 0.0, 1.0)


def _hard_swish(call: Call) -> Any:
    x = call.inputs[0]
    return x * call.tf.clip_by_value(x / 6 + 0.5, 0.0, 1.0)


def _gelu(call: Call) -> Any:
    return call.tf.nn.gelu(call.inputs[0], approximate=call.attributes.get("approximate", "none") == "tanh")


def _mish(call: Call) -> Any:
    return call.inputs[0] * call.tf.math.tanh(call.tf.math.softplus(call.inputs[0]))


def _clip(call: Call) -> Any:
    x = call.inputs[0]
    low = call.attributes.get("min", call.input(1))
    high = call.attributes.get("max", call.input(2))
    x = x if low is None else call.tf.maximum(x, call.tf.cast(low, x.dtype))
    return x if high is None else call.tf.minimum(x, call.tf.cast(high, x.dtype))


def _cast(call: Call) -> Any:
    wanted = ir.DataType(call.attributes["to"]).numpy()
    value = call.inputs[0]
    return value.astype(wanted) if isinstance(value, np.ndarray) else call.tf.cast(value, wanted)


def _same(call: Call) -> Any:
    if call.outputs > 1:
        raise call.unsupported("its second output is read")
    return call.inputs[0]


def _where(call: Call) -> Any:
    return call.tf.where(*call.inputs)


ELEMENTWISE: Mapping[str, Rule] = {
    "Abs": _unary("math.abs"),
    "Add": _folded("add"),
    "Cast": _cast,
    "Celu": _celu,
    "Clip": _clip,
    "Cos": _unary("math.cos"),
    "Div": _folded("divide"),
    "Dropout": _same,
    "Elu": _elu,
    "Erf": _unary("math.erf"),
    "Exp": _unary("math.exp"),
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "Identity": _same,
    "LeakyRelu": _leaky_relu,
    "Log": _unary("math.log"),
    "Max": _folded("maximum"),
    "Mean": _mean,
    "Min": _folded("minimum"),
    "Mish": _mish,
    "Mul": _folded("multiply"),
    "Neg": _unary("math.negative"),
    "PRelu": _prelu,
    "Pow": _power,
    "Reciprocal": _unary("math.reciprocal"),
    "Relu": _unary("nn.relu"),
    "Selu": _selu,
    "Sigmoid": _unary("math.sigmoid"),
    "Sin": _unary("math.sin"),
    "Softplus": _unary("math.softplus"),
    "Softsign": _unary("nn.softsign"),
    "Sqrt": _unary("math.sqrt"),
    "Sub": _folded("subtract"),
    "Sum": _folded("add"),
    "Tanh": _unary("math.tanh"),
    "Where": _where,
}
"""Operator to rule."""
