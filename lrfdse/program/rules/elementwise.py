"""Functions of single elements, each as a short list of instructions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from lrfdse.ir.epilogue import Function, Operand
from lrfdse.program.broadcast import Writer
from lrfdse.program.build import Tensor
from lrfdse.program.site import Rule, Rules, Site

SELU_ALPHA = 1.67326319217681884765625
"""ONNX's default of Selu's attribute alpha."""

SELU_GAMMA = 1.05070102214813232421875
"""ONNX's default of Selu's attribute gamma."""

GELU_CUBE = 0.044715
"""The coefficient of the cube in GELU by tanh, as ONNX and its paper (arXiv:1606.08415) have it."""

ARCTANGENT = (
    -0.33333316445350647,
    0.19998489320278168,
    -0.14243848621845245,
    0.10595999658107758,
    -0.06083448976278305,
)
"""atan(t) = t + t z P(z) for z = t^2 up to tan(pi/8)^2: coefficients of P from the constant one on, within 7e-10 of the
angle; fitted by weighted least squares until the largest error is as small as it gets."""

FAR = 1e9
"""An argument from which on atan is pi/2 to the last bit of float32, and which can be squared."""

Written = Callable[[Writer, Operand, Site], Operand]
"""Writes what becomes of one input."""


def _plain(function: Function) -> Rule:
    return _unary(lambda write, x, at: write(function, x))


def _unary(written: Written) -> Rule:
    def rule(at: Site) -> Sequence[Tensor]:
        write = Writer()
        written(write, write.input(0), at)
        return [at.apply(write.formula, at.input(0))]

    return rule


def _binary(function: Function) -> Rule:
    def rule(at: Site) -> Sequence[Tensor]:
        write = Writer()
        write(function, write.input(0), write.input(1))
        return [at.apply(write.formula, at.input(0), at.input(1))]

    return rule


def _variadic(function: Function, mean: bool = False) -> Rule:
    def rule(at: Site) -> Sequence[Tensor]:
        count = len(at.inputs)
        if count == 1:
            return [at.input(0)]
        write = Writer()
        result = write.input(0)
        for place in range(1, count):
            result = write(function, result, write.input(place))
        if mean:
            write("div", result, float(count))
        return [at.apply(write.formula, *(at.input(place) for place in range(count)))]

    return rule


def _positive(write: Writer, x: Operand) -> Operand:
    return write("max", x, 0.0)


def _exp_less_one(write: Writer, x: Operand, scale: float = 1.0) -> Operand:
    """Write exp(min(x, 0) / scale) - 1, which is 0 for all positive x."""
    below = write("min", x, 0.0)
    return write("sub", write("exp", below if scale == 1.0 else write("div", below, scale)), 1.0)


def _leaky(write: Writer, x: Operand, at: Site) -> Operand:
    slope = at.attribute("alpha", 0.01)
    if 0 < slope <= 1:
        # Endless numbers times 0 would be none.
        return write("max", x, write("mul", x, slope))
    return write("add", _positive(write, x), write("mul", write("min", x, 0.0), slope))


def _elu(write: Writer, x: Operand, at: Site) -> Operand:
    return write("add", _positive(write, x), write("mul", _exp_less_one(write, x), at.attribute("alpha", 1.0)))


def _celu(write: Writer, x: Operand, at: Site) -> Operand:
    alpha = at.attribute("alpha", 1.0)
    return write("add", _positive(write, x), write("mul", _exp_less_one(write, x, alpha), alpha))


def _selu(write: Writer, x: Operand, at: Site) -> Operand:
    alpha, gamma = at.attribute("alpha", SELU_ALPHA), at.attribute("gamma", SELU_GAMMA)
    below = write("mul", _exp_less_one(write, x), alpha)
    return write("mul", write("add", _positive(write, x), below), gamma)


def _hard_sigmoid(write: Writer, x: Operand, alpha: float, beta: float) -> Operand:
    return write("min", write("max", write("add", write("mul", x, alpha), beta), 0.0), 1.0)


def _hard_swish(write: Writer, x: Operand, at: Site) -> Operand:
    return write("mul", x, _hard_sigmoid(write, x, 1 / 6, 0.5))


def softplus(write: Writer, x: Operand) -> Operand:
    """Write log(1 + exp(x)) so that no exp overflows."""
    small = write("exp", write("neg", write("abs", x)))
    return write("add", _positive(write, x), write("log", write("add", small, 1.0)))


def _gelu(write: Writer, x: Operand, at: Site) -> Operand:
    if at.attribute("approximate", "none") == "tanh":
        cube = write("mul", write("mul", write("mul", x, x), x), GELU_CUBE)
        inner = write("tanh", write("mul", write("add", x, cube), math.sqrt(2 / math.pi)))
    else:
        inner = write("erf", write("mul", x, math.sqrt(0.5)))
    return write("mul", write("mul", x, 0.5), write("add", inner, 1.0))


def _swish(name: str, default: float) -> Written:
    def written(write: Writer, x: Operand, at: Site) -> Operand:
        alpha = at.attribute(name, default)
        return write("mul", x, write("sigmoid", x if alpha == 1.0 else write("mul", x, alpha)))

    return written


def _sinh(write: Writer, x: Operand, at: Site) -> Operand:
    return write("mul", write("sub", write("exp", x), write("exp", write("neg", x))), 0.5)


def _cosh(write: Writer, x: Operand, at: Site) -> Operand:
    return write("mul", write("add", write("exp", x), write("exp", write("neg", x))), 0.5)


def _acosh(write: Writer, x: Operand, at: Site) -> Operand:
    root = write("sqrt", write("sub", write("mul", x, x), 1.0))
    return write("log", write("add", x, root))


def _atanh(write: Writer, x: Operand, at: Site) -> Operand:
    ratio = write("div", write("add", x, 1.0), write("sub", 1.0, x))
    return write("mul", write("log", ratio), 0.5)


def _half_angle(write: Writer, tangent: Operand) -> Operand:
    """Write the tangent of half the angle of a tangent."""
    root = write("sqrt", write("add", write("mul", tangent, tangent), 1.0))
    return write("div", tangent, write("add", root, 1.0))


def _angle(write: Writer, tangent: Operand, times: float) -> Operand:
    """Write so many times the angle of a tangent of at most pi/8."""
    square = write("mul", tangent, tangent)
    series: Operand | float = ARCTANGENT[-1]
    for coefficient in reversed(ARCTANGENT[:-1]):
        series = write("add", write("mul", square, series), coefficient)
    series = write("add", write("mul", square, series), 1.0)
    return write("mul", write("mul", tangent, series), times)


def _bounded(write: Writer, x: Operand) -> Operand:
    return write("min", write("max", x, -FAR), FAR)


def _atan(write: Writer, x: Operand, at: Site) -> Operand:
    return _angle(write, _half_angle(write, _half_angle(write, _bounded(write, x))), 4.0)


def _asin(write: Writer, x: Operand, at: Site) -> Operand:
    cosine = write("sqrt", write("mul", write("sub", 1.0, x), write("add", x, 1.0)))
    half = write("div", x, write("add", cosine, 1.0))
    return _angle(write, _half_angle(write, half), 4.0)


def _acos(write: Writer, x: Operand, at: Site) -> Operand:
    half = write("sqrt", write("div", write("sub", 1.0, x), write("add", x, 1.0)))
    return _angle(write, _half_angle(write, _half_angle(write, _bounded(write, half))), 8.0)


def _tan(write: Writer, x: Operand, at: Site) -> Operand:
    return write("div", write("sin", x), write("cos", x))


def _softsign(write: Writer, x: Operand, at: Site) -> Operand:
    return write("div", x, write("add", write("abs", x), 1.0))


def _clip(at: Site) -> Sequence[Tensor]:
    limits: list[tuple[Function, Tensor | float]] = []
    names: tuple[tuple[Function, str], ...] = (("max", "min"), ("min", "max"))
    for place, (function, attribute) in enumerate(names, 1):
        if at.has(place):
            limits.append((function, at.input(place)))
        elif at.attribute(attribute) is not None:
            limits.append((function, float(at.attribute(attribute))))
    if not limits:
        return [at.input(0)]
    write = Writer()
    inputs, result = [at.input(0)], write.input(0)
    for function, limit in limits:
        if isinstance(limit, Tensor):
            inputs.append(limit)
        result = write(function, result, write.input(len(inputs) - 1) if isinstance(limit, Tensor) else limit)
    return [at.apply(write.formula, *inputs)]


def _pow(at: Site) -> Sequence[Tensor] | None:
    exponent = at.constant(1)
    write = Writer()
    x = write.input(0)
    if exponent is None or exponent.size > 1:
        if at.input(1).element != "float32":
            return None
        write("pow", x, write.input(1))
        return [at.apply(write.formula, at.input(0), at.input(1))]
    number = float(exponent.reshape(-1)[0])
    if number == 2.0:
        write("mul", x, x)
    elif number == 3.0:
        write("mul", write("mul", x, x), x)
    elif number == 0.5:
        write("sqrt", x)
    elif number == -1.0:
        write("div", 1.0, x)
    else:
        write("pow", x, number)
    return [at.build.reshaped(at.apply(write.formula, at.input(0)), at.shape())]


def _prelu(at: Site) -> Sequence[Tensor]:
    write = Writer()
    x, slope = write.input(0), write.input(1)
    write("add", _positive(write, x), write("mul", write("min", x, 0.0), slope))
    return [at.apply(write.formula, at.input(0), at.input(1))]


RULES: Rules = {
    "Abs": _plain("abs"),
    "Acos": _unary(_acos),
    "Acosh": _unary(_acosh),
    "Add": _binary("add"),
    "Asin": _unary(_asin),
    "Atan": _unary(_atan),
    "Atanh": _unary(_atanh),
    "Ceil": _plain("ceil"),
    "Celu": _unary(_celu),
    "Clip": _clip,
    "Cos": _plain("cos"),
    "Cosh": _unary(_cosh),
    "Div": _binary("div"),
    "Elu": _unary(_elu),
    "Erf": _plain("erf"),
    "Exp": _plain("exp"),
    "Floor": _plain("floor"),
    "Gelu": _unary(_gelu),
    "HardSigmoid": _unary(
        lambda write, x, at: _hard_sigmoid(write, x, at.attribute("alpha", 0.2), at.attribute("beta", 0.5))
    ),
    "HardSwish": _unary(_hard_swish),
    "LeakyRelu": _unary(_leaky),
    "Log": _plain("log"),
    "Max": _variadic("max"),
    "Mean": _variadic("add", mean=True),
    "Min": _variadic("min"),
    "Mish": _unary(lambda write, x, at: write("mul", x, write("tanh", softplus(write, x)))),
    "Mul": _binary("mul"),
    "Neg": _plain("neg"),
    "PRelu": _prelu,
    "Pow": _pow,
    "QuickGelu": _unary(_swish("alpha", 1.702)),
    "Reciprocal": _unary(lambda write, x, at: write("div", 1.0, x)),
    "Relu": _unary(lambda write, x, at: _positive(write, x)),
    "Round": _plain("round"),
    "Selu": _unary(_selu),
    "Sigmoid": _plain("sigmoid"),
    "Sin": _plain("sin"),
    "Sinh": _unary(_sinh),
    "Softplus": _unary(lambda write, x, at: softplus(write, x)),
    "Softsign": _unary(_softsign),
    "Sqrt": _plain("sqrt"),
    "Sub": _binary("sub"),
    "Sum": _variadic("add"),
    "Swish": _unary(_swish("alpha", 1.0)),
    "Tan": _unary(_tan),
    "Tanh": _plain("tanh"),
}
"""Rules for float32 tensors."""
