"""Sums and means along axes, and what is normalized by them."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from lrfdse.model.vjp.call import Call, Rule, UncoveredError


def _over(call: Call) -> list[int]:
    """Return the axes of a reduction; raise where it may reduce that of samples."""
    axes, rank = call.integers("axes", 1), len(call.sizes_of(call.input(0)))
    axes = None if axes is None else sorted(axis % rank for axis in axes)
    if not axes or axes[0] == 0:
        raise UncoveredError(f"{call.node.op_type}: along the first axis, which may be that of samples")
    return axes


def _sum(call: Call, place: int) -> ir.Value:
    axes = _over(call)
    pull = call.pull if call.attribute("keepdims", 1) else call.emit.unsqueeze(call.pull, axes)
    return call.spread(pull, call.input(0))


def _mean(call: Call, place: int) -> ir.Value:
    sizes, count = call.sizes_of(call.input(0)), 1
    for axis in _over(call):
        count *= sizes[axis]
    return call.op("Mul", _sum(call, place), call.number(1.0 / count))


def _pooled(call: Call, place: int) -> ir.Value:
    count = 1
    for size in call.sizes_of(call.input(0))[2:]:
        count *= size
    return call.op("Mul", call.spread(call.pull, call.input(0)), call.number(1.0 / count))


def _softmax_axis(call: Call) -> int:
    rank = len(call.sizes_of(call.output))
    axis = int(call.attribute("axis", 1 if call.emit.opset < 13 else -1)) % rank
    if call.emit.opset < 13 and axis != rank - 1:
        raise UncoveredError("Softmax: it is over several axes")
    return axis


def _softmax(call: Call, place: int) -> ir.Value:
    mean = call.total(call.op("Mul", call.pull, call.output), [_softmax_axis(call)])
    return call.op("Mul", call.output, call.op("Sub", call.pull, mean))


def _log_softmax(call: Call, place: int) -> ir.Value:
    total = call.total(call.pull, [_softmax_axis(call)])
    return call.op("Sub", call.pull, call.op("Mul", call.op("Exp", call.output), total))


def _layer_normalization(call: Call, place: int) -> ir.Value:
    if place:
        raise UncoveredError("LayerNormalization: its scale is computed")
    x, sizes = call.input(0), call.sizes_of(call.input(0))
    axes = list(range(call.attribute("axis", -1) % len(sizes), len(sizes)))
    count = 1
    for axis in axes:
        count *= sizes[axis]

    def mean(value: ir.Value) -> ir.Value:
        return call.op("Mul", call.total(value, axes), call.number(1.0 / count))

    centred = call.op("Sub", x, mean(x))
    variance = mean(call.op("Mul", centred, centred))
    deviation = call.op("Sqrt", call.op("Add", variance, call.number(call.attribute("epsilon", 1e-5))))
    unit = call.op("Div", centred, deviation)
    pull = call.op("Mul", call.pull, call.input(1))
    shared = call.op("Add", mean(pull), call.op("Mul", unit, mean(call.op("Mul", pull, unit))))
    return call.op("Div", call.op("Sub", pull, shared), deviation)


def _batch_normalization(call: Call, place: int) -> ir.Value:
    if place or call.attribute("training_mode", 0) or len(call.node.outputs) > 1:
        raise UncoveredError("BatchNormalization: it is that of training, or its scale is computed")
    variance = call.op("Add", call.input(4), call.number(call.attribute("epsilon", 1e-5)))
    factor = call.op("Div", call.input(1), call.op("Sqrt", variance))
    column = call.emit.reshape(factor, [-1] + [1] * (len(call.sizes_of(call.input(0))) - 2))
    return call.op("Mul", call.pull, column)


REDUCTIONS: Mapping[str, Rule] = {
    "BatchNormalization": _batch_normalization,
    "GlobalAveragePool": _pooled,
    "LayerNormalization": _layer_normalization,
    "LogSoftmax": _log_softmax,
    "ReduceMean": _mean,
    "ReduceSum": _sum,
    "Softmax": _softmax,
}
"""Operator to rule."""
