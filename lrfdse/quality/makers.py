"""Which operators make an output, those that hand numbers on passed over, and whether class scores come of them."""

from __future__ import annotations

import onnx_ir as ir

from lrfdse.model.bodies import bodies_of, is_branching
from lrfdse.model.constants import is_standard, trace

_PASSED = ("Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Cast", "Transpose")
"""Operators that hand numbers on as they are."""

_POOLED = (
    "AveragePool",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "MaxPool",
    "ReduceMax",
    "ReduceMean",
    "ReduceSum",
)
"""Operators that join the scores of several positions."""

_MOVED = (
    "CastLike",
    "DepthToSpace",
    "DequantizeLinear",
    "Dropout",
    "Expand",
    "Gather",
    "GatherElements",
    "GatherND",
    "Pad",
    "QuantizeLinear",
    "Resize",
    "Slice",
    "SpaceToDepth",
    "Split",
    "Tile",
    "Upsample",
)
"""Operators that take, repeat or round numbers, and read their places from further inputs."""

_JOINED = ("Add", "Concat", "Max", "Mean", "Sub", "Sum", "Where")
"""Operators of several inputs: class scores come of those that are none of a constant, if scores do of each."""

_LINEAR = (
    "Conv",
    "ConvInteger",
    "ConvTranspose",
    "Einsum",
    "Gemm",
    "MatMul",
    "MatMulInteger",
    "QLinearConv",
    "QLinearMatMul",
)
"""Operators that make class scores of features."""

_SCORES = (*_LINEAR, "LogSoftmax", "Softmax")


_IMAGES = (
    "AveragePool",
    "BatchNormalization",
    "Conv",
    "ConvTranspose",
    "DepthToSpace",
    "InstanceNormalization",
    "MaxPool",
    "Resize",
    "SpaceToDepth",
    "Upsample",
)
"""Operators whose outputs hold samples, channels, and positions behind them, in this order."""

_ONE_BY_ONE = ("Add", "Cast", "Clip", "Div", "Identity", "LeakyRelu", "Mul", "PRelu", "Relu", "Sub", "Sum", "Tanh")
"""Operators that leave every number where it is."""

_OVER_AXIS = ("Hardmax", "LogSoftmax", "Softmax")
"""Operators that make scores of classes along an axis."""

_EACH_AXIS = 13
"""Opset from which these take one axis; before, all axes behind it, too (onnx/docs/Changelog.md)."""


def maker_of(model: ir.Model, name: str) -> str | None:
    """Return the operator that makes an output, those that hand it on passed over; None of one of another domain.

    Of an If, it is what makes the output in both branches, if that is the same.
    """
    return _maker(_output(model, name))


def _maker(value: ir.Value | None) -> str | None:
    while value is not None and (node := value.producer()) is not None:
        if not is_standard(node):
            return None
        if is_branching(node):
            place = list(node.outputs).index(value)
            made = {_maker(body.outputs[place]) for body in bodies_of(node)}
            return made.pop() if len(made) == 1 else None
        if node.op_type not in _PASSED:
            return node.op_type
        value = node.inputs[0]
    return None


def positions_last(model: ir.Model, name: str) -> str | None:
    """Return why the last axis of an output holds positions, and no classes; None where nothing says that it does.

    Networks that label every pixel have samples, classes, rows and columns: the largest number of a row of pixels is
    no decision. Parameters as for `no_scores_from`.
    """
    value = _output(model, name)
    if value is None or value.shape is None:
        return None
    rank = len(value.shape)
    axis = rank - 1
    while value is not None and (node := value.producer()) is not None and is_standard(node):
        kind = node.op_type
        if kind in _OVER_AXIS:
            return _over_another(node, axis, rank, model)
        if kind in _IMAGES:
            return f"{kind} makes it, whose last axis holds positions and no classes" if axis > 1 else None
        if kind == "Transpose":
            order = node.attributes.get("perm")
            axis = rank - 1 - axis if order is None else list(order.as_ints())[axis]
            value = node.inputs[0]
        elif kind in _ONE_BY_ONE:
            computed = [each for each in node.inputs if each is not None and trace(each) is None]
            value = next((each for each in computed if each.shape is None or len(each.shape) == rank), None)
        else:
            return None
    return None


def _over_another(node: ir.Node, axis: int, rank: int, model: ir.Model) -> str | None:
    """Return that a Softmax goes along another axis than one that is given, or None where it does not."""
    given = node.attributes.get("axis")
    opset = model.opset_imports.get("", model.opset_imports.get("ai.onnx", _EACH_AXIS))
    over = given.as_int() if given is not None else (-1 if opset >= _EACH_AXIS else 1)
    over %= rank
    if over == axis or (opset < _EACH_AXIS and over < axis):
        return None
    return f"{node.op_type} over axis {over} makes it, so that its last axis holds positions and no classes"


def no_scores_from(model: ir.Model, name: str) -> str | None:
    """Return an operator that makes an output, or a part of it, and makes no class scores; None where none is known.

    Class scores come of linear layers and of Softmax, perhaps with a bias added, scaled by one number, moved, pooled
    over positions, or taken from branches. Of operators of other domains, of loops and of inputs nothing is said.

    Parameters
    ----------
    model
        The model.
    name
        Name of the output.
    """
    start = _output(model, name)
    left, seen = [start], {start}
    while left:
        value = left.pop()
        node = None if value is None else value.producer()
        if value is None or node is None or not is_standard(node) or node.op_type in _SCORES:
            continue
        sources = _sources(node, value)
        if sources is None:
            return node.op_type
        fresh = [each for each in sources if each not in seen]
        left += fresh
        seen.update(fresh)
    return None


def _sources(node: ir.Node, value: ir.Value) -> list[ir.Value] | None:
    """Return the values that a node hands on as `value`; none of loops, and None where it makes other numbers."""
    if is_branching(node):
        place = list(node.outputs).index(value)
        return [body.outputs[place] for body in bodies_of(node)]
    if node.op_type in ("Loop", "Scan"):
        return []
    computed = [each for each in node.inputs if each is not None and trace(each) is None]
    if node.op_type in (*_PASSED, *_POOLED, *_MOVED):
        return computed[:1]
    if node.op_type == "Where":
        return [each for each in computed if each is not node.inputs[0]]
    if node.op_type in _JOINED:
        return computed
    if node.op_type in ("Div", "Mul"):
        return computed if _scales(node) else [each for each in computed if _is_of_levels(each)][:1] or None
    return None


def _scales(node: ir.Node) -> bool:
    """Return whether a Mul or Div has a single constant number for one of its two operands."""
    constants = [found for value in node.inputs if (found := trace(value)) is not None]
    return len(constants) == 1 and all(size == 1 for size in constants[0].shape)


def _is_of_levels(value: ir.Value) -> bool:
    """Return whether a value is a product of whole numbers, which a Mul turns into floats."""
    node = value.producer()
    while node is not None and is_standard(node) and node.op_type == "Cast" and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return node is not None and is_standard(node) and node.op_type in ("ConvInteger", "MatMulInteger")


def _output(model: ir.Model, name: str) -> ir.Value | None:
    return next((value for value in model.graph.outputs if value.name == name), None)
