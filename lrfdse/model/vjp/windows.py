"""Pooling."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from lrfdse.model.vjp.call import Call, Rule, UncoveredError


def _spread_over_windows(call: Call, value: ir.Value, each: float) -> ir.Value:
    """Return sums over the windows that hold an element of what belongs to each, times `each`."""
    wide, made = call.sizes_of(call.input(0)), call.sizes_of(call.output)
    channels, kernel = wide[1], list(call.attribute("kernel_shape", []))
    strides = list(call.attribute("strides", [1] * len(kernel)))
    missing = [wide[2 + k] - (made[2 + k] - 1) * strides[k] - kernel[k] for k in range(len(kernel))]
    if min(missing) < 0 or any(rest >= stride for rest, stride in zip(missing, strides, strict=True)):
        raise UncoveredError(f"{call.node.op_type}: its windows do not lie as is usual")
    ones = np.full((channels, 1, *kernel), each, dtype=np.float32)
    weights = call.emit.constant(f"window.{'x'.join(map(str, ones.shape))}.{each}", ones)
    return call.op("ConvTranspose", value, weights, strides=strides, group=channels, output_padding=missing)


def _plain(call: Call) -> list[int]:
    """Return the sizes of a window; raise where windows have gaps or reach over the edges."""
    kernel = list(call.attribute("kernel_shape", []))
    padded = any(call.attribute("pads", [0])) or call.attribute("auto_pad", "NOTSET") != "NOTSET"
    if padded or call.attribute("ceil_mode", 0) or any(step != 1 for step in call.attribute("dilations", [1])):
        raise UncoveredError(f"{call.node.op_type}: its windows are padded or dilated")
    return kernel


def _average(call: Call, place: int) -> ir.Value:
    return _spread_over_windows(call, call.pull, 1.0 / math.prod(_plain(call)))


def _maximum(call: Call, place: int) -> ir.Value:
    """Give the cotangent of each window to its largest element; several that are equal share it."""
    kernel = _plain(call)
    if list(call.attribute("strides", [1] * len(kernel))) != kernel:
        raise UncoveredError("MaxPool: its windows overlap")
    highest = call.op("Equal", _spread_over_windows(call, call.output, 1.0), call.input(0))
    chosen = call.op("Where", highest, call.number(1.0), call.number(0.0))
    mean = call.op("AveragePool", chosen, kernel_shape=kernel, strides=kernel)
    share = call.op("Div", call.pull, call.op("Mul", mean, call.number(float(math.prod(kernel)))))
    return call.op("Mul", _spread_over_windows(call, share, 1.0), chosen)


WINDOWS: Mapping[str, Rule] = {"AveragePool": _average, "MaxPool": _maximum}
"""Operator to rule."""
