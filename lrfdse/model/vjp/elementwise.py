"""Operators that compute element by element."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import onnx_ir as ir

from lrfdse.model.constants import trace
from lrfdse.model.vjp.call import Call, Rule, UncoveredError


def _where_handed_on(call: Call, place: int) -> ir.Value:
    """Clip hands an element on or replaces it by a bound; which of both shows in the output."""
    if place:
        raise UncoveredError(f"{call.node.op_type}: its bounds are computed")
    kept = call.op("Equal", call.output, call.input(0))
    return call.op("Where", kept, call.pull, call.number(0.0))


def _times(slope: Callable[[Call, ir.Value, ir.Value], ir.Value]) -> Rule:
    """Return the rule of a function of one element: the cotangent times its derivative.

    Parameters
    ----------
    slope
        Returns the derivative, of a call, its input and its output.
    """

    def rule(call: Call, place: int) -> ir.Value:
        return call.op("Mul", call.pull, slope(call, call.input(0), call.output))

    return rule


def _sigmoid(call: Call, x: ir.Value, y: ir.Value) -> ir.Value:
    return call.op("Mul", y, call.op("Sub", call.number(1.0), y))


def _tanh(call: Call, x: ir.Value, y: ir.Value) -> ir.Value:
    return call.op("Sub", call.number(1.0), call.op("Mul", y, y))


def _erf(call: Call, x: ir.Value, y: ir.Value) -> ir.Value:
    bell = call.op("Exp", call.op("Neg", call.op("Mul", x, x)))
    return call.op("Mul", bell, call.number(2.0 / math.sqrt(math.pi)))


def _sqrt(call: Call, x: ir.Value, y: ir.Value) -> ir.Value:
    return call.op("Div", call.number(0.5), y)


def _reciprocal(call: Call, x: ir.Value, y: ir.Value) -> ir.Value:
    return call.op("Neg", call.op("Mul", y, y))


def _leaky(call: Call, x: ir.Value, y: ir.Value) -> ir.Value:
    above = call.op("Greater", x, call.number(0.0))
    return call.op("Where", above, call.number(1.0), call.number(call.attribute("alpha", 0.01)))


def _elu(call: Call, x: ir.Value, y: ir.Value) -> ir.Value:
    above = call.op("Greater", x, call.number(0.0))
    below = call.op("Add", y, call.number(call.attribute("alpha", 1.0)))
    return call.op("Where", above, call.number(1.0), below)


def _hard_sigmoid(call: Call, x: ir.Value, y: ir.Value) -> ir.Value:
    inside = call.op("And", call.op("Greater", y, call.number(0.0)), call.op("Less", y, call.number(1.0)))
    return call.op("Where", inside, call.number(call.attribute("alpha", 0.2)), call.number(0.0))


def _hard_swish(call: Call, x: ir.Value, y: ir.Value) -> ir.Value:
    line = call.op("Add", call.op("Mul", x, call.number(1.0 / 3.0)), call.number(0.5))
    above = call.op("Where", call.op("Greater", x, call.number(3.0)), call.number(1.0), line)
    return call.op("Where", call.op("Less", x, call.number(-3.0)), call.number(0.0), above)


def _power(call: Call, place: int) -> ir.Value:
    exponent = trace(call.input(1))
    if place or exponent is None or exponent.array().size != 1:
        raise UncoveredError("Pow: its exponent is not one constant")
    power = float(exponent.array().reshape(()))
    less = call.op("Pow", call.input(0), call.number(power - 1.0))
    return call.op("Mul", call.pull, call.op("Mul", less, call.number(power)))


def _broadcast(part: Callable[[Call, int], ir.Value]) -> Rule:
    """Return the rule of an operator that broadcasts: `part` gives the cotangent in the shape of the output."""

    def rule(call: Call, place: int) -> ir.Value:
        return call.summed(part(call, place), call.sizes_of(call.output), call.input(place))

    return rule


def _sub(call: Call, place: int) -> ir.Value:
    return call.op("Neg", call.pull) if place else call.pull


def _mul(call: Call, place: int) -> ir.Value:
    return call.op("Mul", call.pull, call.input(1 - place))


def _div(call: Call, place: int) -> ir.Value:
    each = call.op("Div", call.pull, call.input(1))
    return call.op("Neg", call.op("Mul", each, call.output)) if place else each


def _where(call: Call, place: int) -> ir.Value:
    zero = call.number(0.0)
    either = (call.pull, zero) if place == 1 else (zero, call.pull)
    return call.op("Where", call.input(0), *either)


ELEMENTWISE: Mapping[str, Rule] = {
    "Abs": _times(lambda call, x, y: call.op("Sign", x)),
    "Add": _broadcast(lambda call, place: call.pull),
    "Clip": _where_handed_on,
    "Div": _broadcast(_div),
    "Elu": _times(_elu),
    "Erf": _times(_erf),
    "Exp": _times(lambda call, x, y: y),
    "HardSigmoid": _times(_hard_sigmoid),
    "HardSwish": _times(_hard_swish),
    "LeakyRelu": _times(_leaky),
    "Log": lambda call, place: call.op("Div", call.pull, call.input(0)),
    "Mul": _broadcast(_mul),
    "Neg": lambda call, place: call.op("Neg", call.pull),
    "Pow": _power,
    "Reciprocal": _times(_reciprocal),
    # A sign costs a fraction of a comparison and a choice, and leaves a product and its Relu to be run as one.
    "Relu": _times(lambda call, x, y: call.op("Sign", y)),
    "Sigmoid": _times(_sigmoid),
    "Softplus": _times(lambda call, x, y: call.op("Sigmoid", x)),
    "Sqrt": _times(_sqrt),
    "Sub": _broadcast(_sub),
    "Sum": _broadcast(lambda call, place: call.pull),
    "Tanh": _times(_tanh),
    "Where": _broadcast(_where),
}
"""Operator to rule."""
