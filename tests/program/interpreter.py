"""Runs a program in NumPy, in float64, by what the operators' docstrings say: an oracle that knows no emitter."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from lrfdse.base.privacy import load_onnxruntime
from lrfdse.ir.epilogue import Epilogue
from lrfdse.ir.indexed import Gather, OneHot, ScatterElements, ScatterND, TopK
from lrfdse.ir.operators import (
    Copy,
    Elementwise,
    Foreign,
    Interpolation,
    Normalization,
    Pool,
    Recurrence,
    Reduction,
    RunningSum,
    Softmax,
)
from lrfdse.ir.products import BatchedProduct, Convolution, FullyConnected, TransposedConvolution
from lrfdse.ir.program import Program
from lrfdse.ir.quantized import QuantizedConvolution, QuantizedProduct, Rounding

NAN = float("nan")


def run(program: Program, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the outputs by name. What nothing has written yet is NaN, so that a program that reads it is found out."""
    arrays: list[np.ndarray] = []
    for number, value in enumerate(program.values):
        if value.kind == "constant":
            content = np.array(program.constants[number])
            assert content.shape == (value.size,) and content.dtype == value.element
            arrays.append(content.astype(np.float64) if value.element == "float32" else content)
        elif value.element == "float32":
            arrays.append(np.full(value.size, NAN))
        else:
            arrays.append(np.zeros(value.size, value.element))
    for each in program.inputs:
        given = np.asarray(feeds[each.name])
        assert given.shape == each.shape and given.dtype == program.values[each.value].element
        arrays[each.value][...] = given.reshape(-1)
    constants = {number for number, value in enumerate(program.values) if value.kind in ("constant", "input")}
    with np.errstate(all="ignore"):
        for call in program.calls:
            ports = call.operator.ports
            read, written = [], []
            for port, number in zip(ports, call.arguments, strict=True):
                value = program.values[number]
                assert value.size >= port.size and value.element == port.element, (call, port, value)
                if port.role == "weight":
                    assert value.kind == "constant"
                if port.role == "output":
                    assert number not in constants and value.kind != "input"
                    written.append(arrays[number][: port.size])
                else:
                    assert value.kind != "output", "an output is written only"
                    read.append(arrays[number][: port.size])
            shared = [w for w in written for r in read if np.shares_memory(w, r)]
            assert not shared, f"{call} reads what it writes"
            _execute(call.operator, read, written)
    return {
        each.name: arrays[each.value].reshape(each.shape).astype(program.values[each.value].element)
        for each in program.outputs
    }


FUNCTIONS = {
    "abs": np.abs,
    "add": np.add,
    "ceil": np.ceil,
    "cos": np.cos,
    "div": np.divide,
    "erf": np.vectorize(math.erf, otypes=[float]),
    "exp": np.exp,
    "floor": np.floor,
    "log": np.log,
    "max": np.maximum,
    "min": np.minimum,
    "mul": np.multiply,
    "neg": np.negative,
    "pow": np.power,
    "round": np.rint,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "sin": np.sin,
    "sqrt": np.sqrt,
    "sub": np.subtract,
    "tanh": np.tanh,
}


JOINED = {
    "none": lambda _, update: update,
    "add": np.add,
    "mul": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
}


def _inside(index: int, extent: int) -> int:
    return min(max(int(index) + extent * (index < 0), 0), extent - 1)


def levels(x: np.ndarray, rounding: Rounding) -> np.ndarray:
    """Return the levels of an array, computed in float32 as `Rounding` says."""
    scaled = x.astype(np.float32) * (np.float32(1) / np.float32(rounding.scale))
    return np.clip(np.rint(scaled), rounding.least, rounding.most).astype(int)


def epilogued(value: np.ndarray, epilogue: Epilogue, further: Sequence[np.ndarray]) -> np.ndarray:
    """Apply an epilogue to a value of shape (rows, channels)."""
    rows, channels = value.shape
    shapes = {"same": (rows, channels), "channel": (1, channels), "row": (rows, 1), "scalar": (1, 1)}
    inputs = [each.reshape(shapes[source]) for each, source in zip(further, epilogue.sources, strict=True)]
    results: list[np.ndarray] = []
    for instruction in epilogue.instructions:
        operands = []
        for operand in instruction.operands:
            if operand.kind == "value":
                operands.append(value)
            elif operand.kind == "result":
                operands.append(results[operand.place])
            elif operand.kind == "number":
                operands.append(np.float64(operand.number))
            else:
                operands.append(inputs[operand.place])
        results.append(np.broadcast_to(FUNCTIONS[instruction.function](*operands), value.shape))
    return results[-1] if results else value


def _execute(op, read, written):
    if isinstance(op, FullyConnected):
        s = op.step
        y = np.einsum("jk,pkq->pjq", read[1].reshape(s.out, s.inner), read[0].reshape(s.batch, s.inner, s.columns))
        # A channel is the middle axis: it goes last for the epilogue.
        turned = y.transpose(0, 2, 1).reshape(-1, s.out)
        further = [
            each.reshape(s.batch, s.out, s.columns).transpose(0, 2, 1) if source == "same" else each
            for each, source in zip(read[2:], op.epilogue.sources, strict=True)
        ]
        done = epilogued(turned, op.epilogue, further).reshape(s.batch, s.columns, s.out)
        written[0][...] = done.transpose(0, 2, 1).reshape(-1)
    elif isinstance(op, BatchedProduct):

        def matrices(array, place, rows, columns):
            return np.lib.stride_tricks.as_strided(
                array,
                (op.batch, rows, columns),
                (place.batch * array.itemsize, place.row * array.itemsize, array.itemsize),
            )

        left = matrices(read[0], op.left, op.rows, op.inner)
        right = matrices(read[1], op.right, op.inner, op.columns)
        y = epilogued((left @ right).reshape(-1, op.columns), op.epilogue, read[2:])
        matrices(written[0], op.result, op.rows, op.columns)[...] = y.reshape(op.batch, op.rows, op.columns)
    elif isinstance(op, Convolution):
        w = op.window
        x = read[0].reshape(w.batch, *w.image, op.channels)
        weight = read[1].reshape(op.outputs, *w.kernel, op.channels // op.groups)
        y = np.zeros((w.batch, *w.out, op.outputs))
        each, made = op.channels // op.groups, op.outputs // op.groups
        for h, v, rows, columns, patch in _taps(w, x, 0.0):
            for g in range(op.groups):
                part = patch[..., g * each : (g + 1) * each]
                own = weight[g * made : (g + 1) * made, h, v]
                y[:, rows, columns, g * made : (g + 1) * made] += part @ own.T
        written[0][...] = epilogued(y.reshape(-1, op.outputs), op.epilogue, read[2:]).reshape(-1)
    elif isinstance(op, QuantizedProduct):
        y = levels(read[0], op.rounding).reshape(-1, op.step.inner) @ read[1].astype(int).reshape(-1, op.step.inner).T
        assert (read[2] == op.rounding.shift * read[1].astype(int).reshape(-1, op.step.inner).sum(1)).all()
        written[0][...] = epilogued(y.astype(np.float32), op.epilogue, read[3:]).reshape(-1)
    elif isinstance(op, QuantizedConvolution):
        whole = Convolution(op.window, op.channels, op.outputs, 1, op.epilogue)
        assert (read[2] == op.rounding.shift * read[1].astype(int).reshape(op.outputs, -1).sum(1)).all()
        _execute(whole, [levels(read[0], op.rounding).astype(float), read[1], *read[3:]], written)
    elif isinstance(op, TransposedConvolution):
        w = op.window
        x = read[0].reshape(w.batch, *w.out, op.channels)
        weight = read[1].reshape(op.channels, *w.kernel, op.outputs)
        y = np.zeros((w.batch, w.image[0] + w.pads[0] + w.pads[2], w.image[1] + w.pads[1] + w.pads[3], op.outputs))
        for h in range(w.kernel[0]):
            for v in range(w.kernel[1]):
                rows = [r * w.strides[0] + h * w.dilations[0] for r in range(w.out[0])]
                columns = [c * w.strides[1] + v * w.dilations[1] for c in range(w.out[1])]
                y[np.ix_(range(w.batch), rows, columns)] += x @ weight[:, h, v]
        y = y[:, w.pads[0] : w.pads[0] + w.image[0], w.pads[1] : w.pads[1] + w.image[1]]
        written[0][...] = epilogued(y.reshape(-1, op.outputs), op.epilogue, read[2:]).reshape(-1)
    elif isinstance(op, Elementwise):
        written[0][...] = epilogued(read[0].reshape(-1, op.channels), op.epilogue, read[1:]).reshape(-1)
    elif isinstance(op, Softmax):
        x = read[0].reshape(op.rows, op.size)
        shifted = x - x.max(1, keepdims=True)
        total = np.exp(shifted).sum(1, keepdims=True)
        written[0][...] = (shifted - np.log(total) if op.log else np.exp(shifted) / total).reshape(-1)
    elif isinstance(op, Normalization):
        x = read[0].reshape(op.rows, op.size)
        x = x - x.mean(1, keepdims=True) if op.centred else x
        y = x / np.sqrt((x * x).mean(1, keepdims=True) + op.epsilon)
        written[0][...] = epilogued(y, op.epilogue, read[1:]).reshape(-1)
    elif isinstance(op, Pool):
        written[0][...] = _pooled(op, read[0]).reshape(-1)
    elif isinstance(op, Reduction):
        x = read[0].reshape(op.outer, op.size, op.inner)
        reduced = {
            "sum": lambda: x.sum(1),
            "mean": lambda: x.mean(1),
            "max": lambda: x.max(1),
            "min": lambda: x.min(1),
            "prod": lambda: x.prod(1),
            "l1": lambda: np.abs(x).sum(1),
            "l2": lambda: np.sqrt((x * x).sum(1)),
            "sumsquare": lambda: (x * x).sum(1),
        }
        written[0][...] = reduced[op.kind]().reshape(-1)
    elif isinstance(op, Copy):
        if op.fill is not None:
            written[0][...] = op.fill
        index = np.indices(op.shape).reshape(len(op.shape), -1)
        source = op.source + np.array(op.strides, np.int64) @ index
        to = op.to + np.array(op.to_strides, np.int64) @ index
        assert source.min() >= 0 and source.max() < op.source_size and to.min() >= 0 and to.max() < op.size
        assert len(np.unique(to)) == len(to), "no element is written twice"
        written[0][to] = read[0][source]
    elif isinstance(op, Gather):
        x = read[0].reshape(op.outer, op.extent, op.inner)
        index = np.where(read[1] < 0, read[1] + op.extent, read[1]).clip(0, op.extent - 1)
        written[0][...] = x[:, index].reshape(-1)
    elif isinstance(op, Interpolation):
        x = read[0].reshape(op.batch, *op.image, op.channels)
        low, high, f = (np.array(each) for each in zip(*op.rows, strict=True))
        x = x[:, low] * (1 - f)[None, :, None, None] + x[:, high] * f[None, :, None, None]
        low, high, f = (np.array(each) for each in zip(*op.columns, strict=True))
        written[0][...] = (
            x[:, :, low] * (1 - f)[None, None, :, None] + x[:, :, high] * f[None, None, :, None]
        ).reshape(-1)
    elif isinstance(op, TopK):
        x = read[0].reshape(op.outer, op.size, op.inner)
        # Of equal elements the first is taken first, whichever way they are sorted.
        keys = np.unique(x, return_inverse=True)[1].reshape(x.shape)
        order = np.argsort(-keys if op.largest else keys, axis=1, kind="stable")[:, : op.count]
        written[0][...] = np.take_along_axis(x, order, 1).reshape(-1)
        written[1][...] = order.reshape(-1)
    elif isinstance(op, RunningSum):
        x = read[0].reshape(op.outer, op.size, op.inner)
        x = x[:, ::-1] if op.reverse else x
        y = np.cumsum(x, axis=1, dtype=x.dtype)
        y = np.concatenate([np.zeros_like(x[:, :1]), y[:, :-1]], 1) if op.exclusive else y
        written[0][...] = (y[:, ::-1] if op.reverse else y).reshape(-1)
    elif isinstance(op, OneHot):
        index = np.trunc(read[0]).reshape(op.outer, 1, op.inner)
        index = np.where(index < 0, index + op.depth, index)
        hot = index == np.arange(op.depth)[None, :, None]
        written[0][...] = np.where(hot, read[1][1], read[1][0]).reshape(-1)
    elif isinstance(op, ScatterND):
        y = np.array(read[0]).reshape(-1, op.inner)
        for index, update in zip(read[1].reshape(op.count, -1), read[2].reshape(op.count, -1), strict=True):
            row = np.ravel_multi_index([_inside(i, n) for i, n in zip(index, op.extents, strict=True)], op.extents)
            y[row] = JOINED[op.joining](y[row], update)
        written[0][...] = y.reshape(-1)
    elif isinstance(op, ScatterElements):
        y = np.array(read[0]).reshape(op.shape)
        index = read[1].reshape(op.updates)
        for place, update in np.ndenumerate(read[2].reshape(op.updates)):
            at = (*place[: op.axis], _inside(index[place], op.shape[op.axis]), *place[op.axis + 1 :])
            y[at] = JOINED[op.joining](y[at], update)
        written[0][...] = y.reshape(-1)
    elif isinstance(op, Recurrence):
        _recur(op, read, written)
    else:
        assert isinstance(op, Foreign)
        _foreign(op, read, written)


def _taps(w, x, fill):
    """Yield, for each element of a window: its place, which outputs it counts for, and what they read there."""
    for h in range(w.kernel[0]):
        for v in range(w.kernel[1]):
            rows = np.arange(w.out[0]) * w.strides[0] + h * w.dilations[0] - w.pads[0]
            columns = np.arange(w.out[1]) * w.strides[1] + v * w.dilations[1] - w.pads[1]
            inside = [np.flatnonzero((at >= 0) & (at < n)) for at, n in ((rows, w.image[0]), (columns, w.image[1]))]
            if not inside[0].size or not inside[1].size:
                continue
            r = slice(inside[0][0], inside[0][-1] + 1)
            c = slice(inside[1][0], inside[1][-1] + 1)
            yield h, v, r, c, x[:, rows[r]][:, :, columns[c]]


def _pooled(op, flat):
    w = op.window
    x = flat.reshape(w.batch, *w.image, op.channels)
    y = np.full((w.batch, *w.out, op.channels), -np.inf if op.kind == "max" else 0.0)
    count = np.zeros((*w.out, 1))
    for _, _, rows, columns, patch in _taps(w, x, 0.0):
        if op.kind == "max":
            y[:, rows, columns] = np.maximum(y[:, rows, columns], patch)
        else:
            y[:, rows, columns] += patch
        count[rows, columns] += 1
    if op.kind == "max":
        return y
    if op.counts_pads:
        # Of a last window that reaches beyond the padding, only what is inside of it counts.
        sizes = []
        for axis in (0, 1):
            starts = np.arange(w.out[axis]) * w.strides[axis] - w.pads[axis]
            taps = starts[:, None] + np.arange(w.kernel[axis]) * w.dilations[axis]
            sizes.append((taps < w.image[axis] + w.pads[axis + 2]).sum(1))
        count = (sizes[0][:, None] * sizes[1][None, :])[..., None]
    return y / count


def _recur(op, read, written):
    x = read[0].reshape(op.steps, op.batch, op.gates, op.hidden)
    weight, bias = read[1], read[2].reshape(op.gates, op.hidden)
    if op.rank:
        inner, outer = np.split(weight.ravel(), [op.rank * op.hidden])
        weight = outer.reshape(-1, op.rank) @ inner.reshape(op.rank, op.hidden)
    weight = weight.reshape(op.gates, op.hidden, op.hidden)
    h = read[3].reshape(op.batch, op.hidden)
    c = read[4].reshape(op.batch, op.hidden) if op.cell == "lstm" else None

    def sigmoid(v):
        return 1 / (1 + np.exp(-v))

    y = np.zeros((op.steps, op.batch, op.hidden))
    for t in reversed(range(op.steps)) if op.reverse else range(op.steps):
        if op.cell == "lstm":
            i, o, f, g = (x[t, :, k] + h @ weight[k].T + bias[k] for k in range(4))
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        else:
            z, r = (sigmoid(x[t, :, k] + h @ weight[k].T + bias[k]) for k in range(2))
            if op.reset_after:
                n = np.tanh(x[t, :, 2] + r * (h @ weight[2].T + bias[2]))
            else:
                n = np.tanh(x[t, :, 2] + (r * h) @ weight[2].T + bias[2])
            h = (1 - z) * n + z * h
        y[t] = h
    written[0][...] = y.reshape(-1)
    written[1][...] = h.reshape(-1)
    if op.cell == "lstm":
        written[2][...] = c.reshape(-1)


def _foreign(op, read, written):
    ort = load_onnxruntime()
    session = ort.InferenceSession(op.model, providers=["CPUExecutionProvider"])
    feeds = {
        port.name: array.reshape(port.shape).astype(element)
        for port, array, (_, element) in zip(session.get_inputs(), read, op.inputs, strict=True)
    }
    for array, result in zip(written, session.run(None, feeds), strict=True):
        array[...] = result.reshape(-1)
