"""Functions of single elements, of one tensor or of two that are broadcast."""

from __future__ import annotations

import numpy as np

from lrfdse.formats.tflite.builder import Rule, Rules, Site, UnsupportedError
from lrfdse.formats.tflite.flatbuffer import Tensor


def operands(site: Site, places: int) -> tuple[list[str], bool]:
    """Return the values of inputs that are broadcast, and whether they have channels first.

    They do where every computed one of them is an image that has that form already: then nothing is turned.
    """
    tensors = [site.input(place) for place in range(places)]
    computed = [tensor for tensor in tensors if tensor.index not in site.g.constants]
    if not computed or not all(len(tensor.shape) == 4 and site.g.is_first(tensor.index) for tensor in computed):
        return [site.plain(place) for place in range(places)], False
    return [_first(site, tensor) for tensor in tensors], True


def _first(site: Site, tensor: Tensor) -> str:
    """Return a tensor as it is broadcast against images with channels first."""
    if tensor.index not in site.g.constants or len(tensor.shape) == 4:
        return site.g.channels_first(tensor.index)
    array = site.g.constants[tensor.index]
    wide = array.reshape((1,) * (4 - array.ndim) + array.shape).transpose(0, 3, 1, 2)
    return site.g.constant(wide if array.ndim else array, f"{tensor.name}/channels-first")


def _simple(op_type: str, places: int) -> Rule:
    def rule(site: Site) -> None:
        values, first = operands(site, places)
        site.finish(site.op(op_type, values), first)

    return rule


def _activation(kind: str) -> Rule:
    def rule(site: Site) -> None:
        values, first = operands(site, 1)
        site.finish(site.activated(values[0], kind), first)

    return rule


def _leaky_relu(site: Site) -> None:
    values, first = operands(site, 1)
    site.finish(site.op("LeakyRelu", values, alpha=float(site.option("alpha"))), first)


def _elu(site: Site) -> None:
    values, first = operands(site, 1)
    site.finish(site.op("Elu", values, alpha=1.0), first)


def _prelu(site: Site) -> None:
    values, first = operands(site, 2)
    site.finish(site.op("PRelu", values), first)


def _rsqrt(site: Site) -> None:
    values, first = operands(site, 1)
    site.finish(site.op("Reciprocal", [site.op("Sqrt", values)]), first)


def _square(site: Site) -> None:
    values, first = operands(site, 1)
    site.finish(site.op("Mul", [values[0], values[0]]), first)


def _squared_difference(site: Site) -> None:
    values, first = operands(site, 2)
    difference = site.op("Sub", values)
    site.finish(site.op("Mul", [difference, difference]), first)


def _gelu(site: Site) -> None:
    """Write x times the normal distribution of x, exactly or by tanh as the model has it."""
    (x,), first = operands(site, 1)
    one, half = site.number(1.0), site.number(0.5)
    if site.option("approximate", False):
        cube = site.op("Mul", [site.op("Mul", [x, x]), x])
        inner = site.op("Add", [x, site.op("Mul", [cube, site.number(0.044715)])])
        bent = site.op("Tanh", [site.op("Mul", [inner, site.number(float(np.sqrt(2 / np.pi)))])])
    else:
        bent = site.op("Erf", [site.op("Mul", [x, site.number(float(np.sqrt(0.5)))])])
    site.finish(site.op("Mul", [site.op("Mul", [x, half]), site.op("Add", [bent, one])]), first)


def _softmax(site: Site) -> None:
    beta, value = float(site.option("beta", 1.0)), site.plain()
    if beta != 1.0:
        value = site.op("Mul", [value, site.number(beta)])
    site.finish(site.op("Softmax", [value], axis=-1))


def _log_softmax(site: Site) -> None:
    site.finish(site.op("LogSoftmax", [site.plain()], axis=-1))


def _unchanged(site: Site) -> None:
    """Levels are real numbers here: what makes one of the other moves nothing."""
    source, target = site.input(), site.output()
    kinds = {tensor.kind for tensor in (source, target) if not tensor.is_level}
    if kinds - {"FLOAT32", "FLOAT16"}:
        raise UnsupportedError(f"it makes {target.kind} of {source.kind}")
    site.g.alias(target.index, source.index)


def _cast(site: Site) -> None:
    from onnx import TensorProto

    if site.input().is_level or site.output().is_level:
        raise UnsupportedError("it casts levels")
    values, first = operands(site, 1)
    kind = {"FLOAT16": "FLOAT", "FLOAT32": "FLOAT", "FLOAT64": "DOUBLE"}.get(site.output().kind, site.output().kind)
    site.finish(site.op("Cast", values, to=TensorProto.DataType.Value(kind)), first)


def _not_equal(site: Site) -> None:
    values, first = operands(site, 2)
    site.finish(site.op("Not", [site.op("Equal", values)]), first)


_ONE = {
    "LOGISTIC": "Sigmoid",
    "TANH": "Tanh",
    "HARD_SWISH": "HardSwish",
    "EXP": "Exp",
    "LOG": "Log",
    "SQRT": "Sqrt",
    "ABS": "Abs",
    "NEG": "Neg",
    "SIN": "Sin",
    "COS": "Cos",
    "FLOOR": "Floor",
    "CEIL": "Ceil",
    "ROUND": "Round",
    "SIGN": "Sign",
    "LOGICAL_NOT": "Not",
}
"""Functions of one tensor that ONNX has under another name."""

_TWO = {
    "ADD": "Add",
    "SUB": "Sub",
    "MUL": "Mul",
    "DIV": "Div",
    "MINIMUM": "Min",
    "MAXIMUM": "Max",
    "POW": "Pow",
    "EQUAL": "Equal",
    "LESS": "Less",
    "LESS_EQUAL": "LessOrEqual",
    "GREATER": "Greater",
    "GREATER_EQUAL": "GreaterOrEqual",
    "LOGICAL_AND": "And",
    "LOGICAL_OR": "Or",
}
"""The same of two tensors."""

RULES: Rules = {
    **{name: _simple(op_type, 1) for name, op_type in _ONE.items()},
    **{name: _simple(op_type, 2) for name, op_type in _TWO.items()},
    **{name: _activation(name) for name in ("RELU", "RELU6", "RELU_N1_TO_1")},
    "SELECT": _simple("Where", 3),
    "SELECT_V2": _simple("Where", 3),
    "NOT_EQUAL": _not_equal,
    "LEAKY_RELU": _leaky_relu,
    "ELU": _elu,
    "PRELU": _prelu,
    "RSQRT": _rsqrt,
    "SQUARE": _square,
    "SQUARED_DIFFERENCE": _squared_difference,
    "GELU": _gelu,
    "SOFTMAX": _softmax,
    "LOG_SOFTMAX": _log_softmax,
    "QUANTIZE": _unchanged,
    "DEQUANTIZE": _unchanged,
    "CAST": _cast,
}
"""The rules of this family."""
