"""Models of the usual kinds, small, with random weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper


class Graph:
    """Writes an ONNX graph node by node; weights are random."""

    def __init__(self, seed: int = 0, opset: int = 17) -> None:
        self.rng = np.random.default_rng(seed)
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, shape: Sequence[int | str], element: int = TensorProto.FLOAT) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, element, shape))
        return name

    def constant(self, array: np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def weight(self, *shape: int, scale: float | None = None) -> str:
        fan = int(np.prod(shape[1:])) if len(shape) > 1 else 1
        width = scale if scale is not None else 1 / np.sqrt(fan)
        return self.constant((self.rng.standard_normal(shape) * width).astype(np.float32))

    def number(self, value: float) -> str:
        return self.constant(np.array(value, np.float32))

    def integers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def op(self, name: str, *inputs: str, outputs: int = 1, **attributes: object) -> str:
        return self.ops(name, *inputs, outputs=outputs, **attributes)[0]

    def ops(self, name: str, *inputs: str, outputs: int = 1, **attributes: object) -> list[str]:
        made = [f"v{len(self.nodes)}_{place}" for place in range(outputs)]
        self.nodes.append(helper.make_node(name, inputs, made, name=f"{name}_{len(self.nodes)}", **attributes))
        return made

    def model(self, *outputs: str, element: int = TensorProto.FLOAT) -> ir.Model:
        values = [helper.make_tensor_value_info(name, element, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "graph", self.inputs, values, self.constants)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)])
        proto.ir_version = 8
        return ir.from_proto(proto)

    # What networks are made of.

    def conv(
        self, x: str, channels: int, outputs: int, kernel: int = 3, bias: bool = True, **attributes: object
    ) -> str:
        groups = int(attributes.get("group", 1))
        weights = [self.weight(outputs, channels // groups, kernel, kernel)] + ([self.weight(outputs)] if bias else [])
        attributes.setdefault("pads", [kernel // 2] * 4)
        return self.op("Conv", x, *weights, kernel_shape=[kernel, kernel], **attributes)

    def linear(self, x: str, inputs: int, outputs: int) -> str:
        product = self.op("MatMul", x, self.weight(inputs, outputs, scale=inputs**-0.5))
        return self.op("Add", product, self.weight(outputs, scale=0.1))

    def relu6(self, x: str) -> str:
        return self.op("Clip", x, self.number(0.0), self.number(6.0))

    def batch_norm(self, x: str, channels: int) -> str:
        scale, variance = (self.constant(self.rng.uniform(0.5, 1.5, channels).astype(np.float32)) for _ in range(2))
        return self.op("BatchNormalization", x, scale, self.weight(channels), self.weight(channels), variance)

    def erf_gelu(self, x: str) -> str:
        inner = self.op("Erf", self.op("Div", x, self.number(np.sqrt(2))))
        return self.op("Mul", self.op("Mul", x, self.op("Add", inner, self.number(1.0))), self.number(0.5))

    def layer_norm(self, x: str, size: int, spelled: bool = True) -> str:
        scale, shift = self.weight(size), self.weight(size)
        if not spelled:
            return self.op("LayerNormalization", x, scale, shift)
        centred = self.op("Sub", x, self.op("ReduceMean", x, axes=[-1]))
        variance = self.op("ReduceMean", self.op("Pow", centred, self.number(2.0)), axes=[-1])
        root = self.op("Sqrt", self.op("Add", variance, self.number(1e-5)))
        return self.op("Add", self.op("Mul", self.op("Div", centred, root), scale), shift)


def lenet5() -> ir.Model:
    g = Graph(1)
    x = g.input("image", ["N", 1, 28, 28])
    x = g.op("MaxPool", g.op("Relu", g.conv(x, 1, 6, 5)), kernel_shape=[2, 2], strides=[2, 2])
    x = g.op("MaxPool", g.op("Relu", g.conv(x, 6, 16, 5, pads=[0] * 4)), kernel_shape=[2, 2], strides=[2, 2])
    x = g.op("Flatten", x)
    for inputs, outputs, last in ((400, 120, False), (120, 84, False), (84, 10, True)):
        x = g.op("Gemm", x, g.weight(outputs, inputs), g.weight(outputs), transB=1)
        x = x if last else g.op("Relu", x)
    return g.model(g.op("Softmax", x))


def mobilenet(batch: int = 1) -> ir.Model:
    """Inverted residuals, batch normalization to be folded."""
    g = Graph(2)
    x = g.input("image", [batch, 3, 32, 32])
    x = g.relu6(g.batch_norm(g.conv(x, 3, 8, bias=False, strides=[2, 2]), 8))
    channels = 8
    for outputs, stride in ((8, 1), (12, 2), (12, 1)):
        wide = 4 * channels
        y = g.relu6(g.batch_norm(g.conv(x, channels, wide, 1, bias=False), wide))
        y = g.relu6(g.batch_norm(g.conv(y, wide, wide, 3, bias=False, group=wide, strides=[stride, stride]), wide))
        y = g.batch_norm(g.conv(y, wide, outputs, 1, bias=False), outputs)
        x = g.op("Add", x, y) if stride == 1 and channels == outputs else y
        channels = outputs
    x = g.relu6(g.conv(x, channels, 32, 1))
    x = g.op("Flatten", g.op("GlobalAveragePool", x))
    return g.model(g.op("Gemm", x, g.weight(10, 32), g.weight(10), transB=1))


def squeeze_excite(batch: int = 1) -> ir.Model:
    """A depthwise 5x5 with hard-swish and a gate by global pooling, as in MobileNetV3; asymmetric strides."""
    g = Graph(3, opset=14)
    x = g.input("image", [batch, 8, 12, 20])
    x = g.op("HardSwish", g.conv(x, 8, 16, 1))
    x = g.conv(x, 16, 16, 5, group=16, strides=[2, 1])
    x = g.op("Mul", x, g.op("HardSigmoid", x, alpha=1 / 6, beta=0.5))
    gate = g.op("GlobalAveragePool", x)
    gate = g.op("Relu", g.conv(gate, 16, 4, 1))
    gate = g.op("HardSigmoid", g.conv(gate, 4, 16, 1))
    x = g.op("Mul", x, gate)
    return g.model(g.conv(x, 16, 8, 1))


def resnet() -> ir.Model:
    g = Graph(4)
    x = g.input("image", [1, 3, 32, 32])
    x = g.op("Relu", g.batch_norm(g.conv(x, 3, 8, 7, strides=[2, 2]), 8))
    x = g.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for channels, outputs, stride in ((8, 8, 1), (8, 16, 2)):
        y = g.op("Relu", g.batch_norm(g.conv(x, channels, outputs, strides=[stride, stride]), outputs))
        y = g.batch_norm(g.conv(y, outputs, outputs), outputs)
        if stride > 1:
            x = g.batch_norm(g.conv(x, channels, outputs, 1, strides=[stride, stride], pads=[0] * 4), outputs)
        x = g.op("Relu", g.op("Add", y, x))
    x = g.op("ReduceMean", x, axes=[2, 3], keepdims=0)
    return g.model(g.op("Gemm", x, g.weight(10, 16), g.weight(10), transB=1))


def unet() -> ir.Model:
    g = Graph(5)
    x = g.input("image", [1, 3, 16, 24])
    a = g.op("Relu", g.conv(x, 3, 8))
    b = g.op("Relu", g.conv(g.op("MaxPool", a, kernel_shape=[2, 2], strides=[2, 2]), 8, 16))
    c = g.op("Relu", g.conv(g.op("AveragePool", b, kernel_shape=[2, 2], strides=[2, 2]), 16, 16))
    up = g.op("ConvTranspose", c, g.weight(16, 16, 2, 2), g.weight(16), kernel_shape=[2, 2], strides=[2, 2])
    b = g.op("LeakyRelu", g.conv(g.op("Concat", up, b, axis=1), 32, 8), alpha=0.1)
    scales = g.constant(np.array([1, 1, 2, 2], np.float32))
    up = g.op("Resize", b, "", scales, mode="linear", coordinate_transformation_mode="half_pixel")
    a = g.op("Relu", g.conv(g.op("Concat", up, a, axis=1), 16, 8))
    return g.model(g.op("Sigmoid", g.conv(a, 8, 1, 1)))


def bert(batch: int = 1, spelled: bool = True) -> ir.Model:
    """An encoder of two layers on token ids with a mask, as PyTorch exports it."""
    g = Graph(6)
    length, width, heads = 12, 32, 4
    ids = g.input("input_ids", [batch, length], TensorProto.INT64)
    mask = g.input("attention_mask", [batch, length], TensorProto.INT64)
    x = g.op("Add", g.op("Gather", g.weight(50, width, scale=1.0), ids), g.weight(1, length, width, scale=1.0))
    x = g.layer_norm(x, width, spelled)
    open_ = g.op("Unsqueeze", g.op("Unsqueeze", mask, g.integers(1)), g.integers(2))
    bias = g.op("Sub", g.number(1.0), g.op("Cast", open_, to=TensorProto.FLOAT))
    bias = g.op("Mul", bias, g.number(-10000.0))

    def split(y: str, order: Sequence[int]) -> str:
        shape = g.op("Concat", g.op("Shape", y, end=2), g.integers(heads, width // heads), axis=0)
        return g.op("Transpose", g.op("Reshape", y, shape), perm=order)

    for _ in range(2):
        q, k, v = (g.linear(x, width, width) for _ in range(3))
        scores = g.op("MatMul", split(q, [0, 2, 1, 3]), split(k, [0, 2, 3, 1]))
        scores = g.op("Add", g.op("Div", scores, g.number(np.sqrt(width / heads))), bias)
        context = g.op("MatMul", g.op("Softmax", scores, axis=-1), split(v, [0, 2, 1, 3]))
        context = g.op("Reshape", g.op("Transpose", context, perm=[0, 2, 1, 3]), g.integers(0, 0, width))
        x = g.layer_norm(g.op("Add", g.linear(context, width, width), x), width, spelled)
        y = g.linear(g.erf_gelu(g.linear(x, width, 4 * width)), 4 * width, width)
        x = g.layer_norm(g.op("Add", y, x), width, spelled)
    first = g.op("Gather", x, g.constant(np.array(0, np.int64)), axis=1)
    return g.model(x, g.op("Tanh", g.op("Gemm", first, g.weight(width, width), g.weight(width), transB=1)))


def recurrent(cell: str = "LSTM", direction: str = "bidirectional", **attributes: object) -> ir.Model:
    g = Graph(7)
    steps, batch, inputs, hidden = 7, 2, 5, 6
    gates = 4 if cell == "LSTM" else 3
    both = 2 if direction == "bidirectional" else 1
    x = g.input("x", [steps, batch, inputs])
    weights = [g.weight(both, gates * hidden, inputs), g.weight(both, gates * hidden, hidden)]
    weights.append(g.weight(both, 2 * gates * hidden, scale=0.3))
    outputs = 3 if cell == "LSTM" else 2
    made = g.ops(cell, x, *weights, outputs=outputs, hidden_size=hidden, direction=direction, **attributes)
    y = g.op("Reshape", g.op("Transpose", made[0], perm=[0, 2, 1, 3]), g.integers(steps, batch, both * hidden))
    return g.model(g.linear(y, both * hidden, 4), *made[1:])


def audio() -> ir.Model:
    """A keyword spotter: one-dimensional, dilated and depthwise convolutions."""
    g = Graph(8)
    x = g.input("samples", [1, 1, 200])
    x = g.op("Relu", g.op("Conv", x, g.weight(8, 1, 9), g.weight(8), strides=[4], pads=[4, 4]))
    x = g.op("Conv", x, g.weight(8, 1, 3), g.weight(8), group=8, dilations=[2], pads=[2, 2])
    x = g.op("Tanh", g.op("Conv", x, g.weight(12, 8, 1), g.weight(12)))
    x = g.op("Conv", x, g.weight(12, 6, 4), group=2, auto_pad="SAME_UPPER", strides=[2])
    x = g.op("MaxPool", x, kernel_shape=[3], strides=[2], ceil_mode=1)
    x = g.op("GlobalAveragePool", x)
    x = g.op("Gemm", g.op("Flatten", x), g.weight(5, 12), g.weight(5), transB=1)
    return g.model(g.op("LogSoftmax", x))


def feeds_of(model: ir.Model, seed: int = 0) -> Mapping[str, np.ndarray]:
    """Random inputs; an open first size is one sample."""
    rng = np.random.default_rng(seed)
    feeds = {}
    for value in model.graph.inputs:
        shape = [size if isinstance(size, int) else 1 for size in value.shape]
        if value.dtype == ir.DataType.FLOAT:
            feeds[value.name] = rng.standard_normal(shape).astype(np.float32)
        else:
            high = 50 if value.name == "input_ids" else 2
            feeds[value.name] = rng.integers(0, high, shape).astype(value.dtype.numpy())
    return feeds
