"""Operators in float64 by NumPy, element by element where that is the definition."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import special

from lrfdse.ir.epilogue import Epilogue, Function, Operand
from lrfdse.ir.products import Recurrence
from lrfdse.ir.window import Window

Double = NDArray[np.float64]

FUNCTIONS: dict[Function, Callable[..., Double]] = {
    "abs": np.abs,
    "add": np.add,
    "ceil": np.ceil,
    "cos": np.cos,
    "div": np.divide,
    "erf": special.erf,
    "exp": np.exp,
    "floor": np.floor,
    "log": np.log,
    "max": np.maximum,
    "min": np.minimum,
    "mul": np.multiply,
    "neg": np.negative,
    "pow": np.power,
    "round": np.rint,
    "sigmoid": special.expit,
    "sin": np.sin,
    "sqrt": np.sqrt,
    "sub": np.subtract,
    "tanh": np.tanh,
}


def finished(y: Double, epilogue: Epilogue, further: list[NDArray[np.float32]], channel_axis: int = -1) -> Double:
    """Return what an epilogue makes of an array whose rows run along its last axis."""
    wide = []
    for source, array in zip(epilogue.sources, further, strict=True):
        exact = array.astype(np.float64)
        if source == "same":
            wide.append(exact.reshape(y.shape))
        elif source == "channel":
            shape = [1] * y.ndim
            shape[channel_axis] = -1
            wide.append(exact.reshape(shape))
        elif source == "row":
            wide.append(exact.reshape(*y.shape[:-1], 1))
        else:
            wide.append(exact.reshape(()))
    results: list[Double] = []

    def value(operand: Operand) -> Double:
        if operand.kind == "number":
            return np.float64(np.float32(operand.number))  # type: ignore[return-value]
        return {"value": [y], "result": results, "input": wide}[operand.kind][operand.place]

    for instruction in epilogue.instructions:
        operands = list(map(value, instruction.operands))
        results.append(FUNCTIONS[instruction.function](*operands))
    return np.broadcast_to(results[-1], y.shape) if results else y


def convolved(x: Double, weight: Double, window: Window, groups: int) -> Double:
    """Return the convolution of NHWC images; its weight: (outputs, kernel height, width, channels of a group)."""
    top, left, bottom, right = window.pads
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    outputs, channels = weight.shape[0], weight.shape[3]
    y = np.zeros((window.batch, *window.out, outputs))
    for r, c in itertools.product(*map(range, window.out)):
        for i, j in itertools.product(*map(range, window.kernel)):
            pixel = padded[
                :, r * window.strides[0] + i * window.dilations[0], c * window.strides[1] + j * window.dilations[1]
            ]
            for g in range(groups):
                of = slice(g * (outputs // groups), (g + 1) * (outputs // groups))
                y[:, r, c, of] += pixel[:, g * channels : (g + 1) * channels] @ weight[of, i, j].T
    return y


def transposed(x: Double, weight: Double, window: Window) -> Double:
    """Return the transposed convolution: every input pixel adds its weights to the outputs that it meets."""
    height, width = window.image
    y = np.zeros((window.batch, height, width, weight.shape[3]))
    for r, c in itertools.product(*map(range, window.out)):
        for i, j in itertools.product(*map(range, window.kernel)):
            to = r * window.strides[0] - window.pads[0] + i * window.dilations[0]
            at = c * window.strides[1] - window.pads[1] + j * window.dilations[1]
            if 0 <= to < height and 0 <= at < width:
                y[:, to, at] += x[:, r, c] @ weight[:, i, j]
    return y


def pooled(x: Double, window: Window, kind: str, counts_pads: bool) -> Double:
    """Return pooled NHWC images."""
    y = np.zeros((window.batch, *window.out, x.shape[3]))
    for r, c in itertools.product(*map(range, window.out)):
        taken, counted = [], 0
        for i, j in itertools.product(*map(range, window.kernel)):
            row = r * window.strides[0] - window.pads[0] + i * window.dilations[0]
            column = c * window.strides[1] - window.pads[1] + j * window.dilations[1]
            if 0 <= row < window.image[0] and 0 <= column < window.image[1]:
                taken.append(x[:, row, column])
            counted += row < window.image[0] + window.pads[2] and column < window.image[1] + window.pads[3]
        if kind == "max":
            y[:, r, c] = np.max(taken, axis=0)
        else:
            y[:, r, c] = np.sum(taken, axis=0) / (counted if counts_pads else len(taken))
    return y


def copied(
    x: NDArray[np.generic],
    shape: tuple[int, ...],
    source: int,
    strides: tuple[int, ...],
    to: int,
    to_strides: tuple[int, ...],
    y: NDArray[np.generic],
) -> None:
    """Copy element by element."""
    for index in itertools.product(*map(range, shape)):
        at = source + sum(i * stride for i, stride in zip(index, strides, strict=True))
        y[to + sum(i * stride for i, stride in zip(index, to_strides, strict=True))] = x[at]


def recurrent(o: Recurrence, x: Double, weight: Double, bias: Double, states: list[Double]) -> list[Double]:
    """Return all states of a cell, then the last ones, by ONNX's equations."""
    y = np.zeros((o.steps, o.batch, o.hidden))
    h, *cells = states
    for t in range(o.steps)[:: -1 if o.reverse else 1]:
        given = [x[t, :, gate] for gate in range(o.gates)]
        if o.cell == "lstm":
            i, out, f, c = (given[gate] + h @ weight[gate].T + bias[gate] for gate in range(4))
            cells = [special.expit(f) * cells[0] + special.expit(i) * np.tanh(c)]
            h = special.expit(out) * np.tanh(cells[0])
        else:
            z, r = (special.expit(given[gate] + h @ weight[gate].T + bias[gate]) for gate in range(2))
            if o.reset_after:
                new = np.tanh(given[2] + r * (h @ weight[2].T + bias[2]))
            else:
                new = np.tanh(given[2] + (r * h) @ weight[2].T + bias[2])
            h = (1 - z) * new + z * h
        y[t] = h
    return [y, h, *cells]
