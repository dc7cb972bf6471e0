"""Operators that move elements and do no arithmetic."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from lrfdse.model.constants import trace
from lrfdse.model.vjp.call import Call, Rule, UncoveredError


def _same(call: Call, place: int) -> ir.Value:
    return call.pull


def _reshaped(call: Call, place: int) -> ir.Value:
    return call.like(call.pull, call.input(0))


def _transpose(call: Call, place: int) -> ir.Value:
    rank = len(call.sizes_of(call.input(0)))
    order = list(call.attribute("perm", range(rank)[::-1]))
    return call.op("Transpose", call.pull, perm=[int(axis) for axis in np.argsort(order)])


def _size(call: Call, value: ir.Value, axis: int) -> ir.Value:
    """Return the size of a value along an axis, as a vector of one number that is taken when it runs."""
    return call.op("Gather", call.op("Shape", value), call.emit.integers([axis]), axis=0)


def _concat(call: Call, place: int) -> ir.Value:
    rank = len(call.sizes_of(call.output))
    axis = call.attribute("axis", 1) % rank
    if axis == 0:
        # That may be the axis of samples, of which a run may have any number.
        first = call.emit.integers([0])
        for each in range(place):
            first = call.op("Add", first, _size(call, call.input(each), 0))
        last = call.op("Add", first, _size(call, call.input(place), 0))
        return call.op("Slice", call.pull, first, last, call.emit.integers([0]))
    ends = np.cumsum([call.sizes_of(call.input(each))[axis] for each in range(len(call.node.inputs))])
    start = int(ends[place - 1]) if place else 0
    bounds = [call.emit.integers([each]) for each in (start, int(ends[place]), axis)]
    return call.op("Slice", call.pull, *bounds)


def _split(call: Call, place: int) -> ir.Value:
    axis = call.attribute("axis", 0)
    # An output that nothing reads has the cotangent 0, in its own shape.
    parts = [
        call.op("Mul", value, call.number(0.0)) if pull is None else pull
        for value, pull in zip(call.node.outputs, call.pulls, strict=True)
    ]
    return call.op("Concat", *parts, axis=axis)


def _gather(call: Call, place: int) -> ir.Value:
    """One index along an axis: the cotangent stands there, and 0 elsewhere."""
    index, sizes = trace(call.input(1)), call.sizes_of(call.input(0))
    axis = call.attribute("axis", 0) % len(sizes)
    if place or index is None or index.shape != ():
        raise UncoveredError("Gather: it takes more than one index")
    if axis == 0:
        # As above: how many there are is known when it runs.
        values = call.emit.constant("spot.values", np.array([0, 1], np.float32))
        chosen = call.op("OneHot", call.emit.integers([int(index.array())]), _size(call, call.input(0), 0), values)
        return call.op(
            "Mul", call.emit.unsqueeze(call.pull, [0]), call.emit.reshape(chosen, [-1] + [1] * (len(sizes) - 1))
        )
    here = np.zeros(sizes[axis], dtype=np.float32)
    here[int(index.array())] = 1.0
    row = here.reshape([-1 if each == axis else 1 for each in range(len(sizes))])
    spot = call.emit.constant(f"spot.{axis}.{len(sizes)}.{sizes[axis]}.{int(index.array())}", row)
    return call.op("Mul", call.emit.unsqueeze(call.pull, [axis]), spot)


SHAPES: Mapping[str, Rule] = {
    "Concat": _concat,
    "Flatten": _reshaped,
    "Gather": _gather,
    "Identity": _same,
    "Reshape": _reshaped,
    "Split": _split,
    "Squeeze": _reshaped,
    "Transpose": _transpose,
    "Unsqueeze": _reshaped,
}
"""Operator to rule."""
