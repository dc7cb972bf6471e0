"""Writes an ONNX graph node by node, with random weights that keep activations of order one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

OPSET = 17
"""Version of ONNX's operators that graphs are written in: what PyTorch's exporter has written by default for years."""


class Graph:
    """A graph in the making: each method adds nodes and returns the name of the value that they give."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._inputs: list[Any] = []

    def input(self, name: str, *sizes: int, whole: bool = False) -> str:
        """Add an input of the model, of float32 or of int64."""
        from onnx import TensorProto, helper

        element = TensorProto.INT64 if whole else TensorProto.FLOAT
        self._inputs.append(helper.make_tensor_value_info(name, element, sizes))
        return name

    def constant(self, array: NDArray[Any]) -> str:
        """Add a constant."""
        from onnx import numpy_helper

        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def number(self, value: float) -> str:
        """Add a scalar."""
        return self.constant(np.array(value, np.float32).reshape(()))

    def integers(self, *values: int) -> str:
        """Add a vector of int64."""
        return self.constant(np.array(values, np.int64))

    def weight(self, *sizes: int, scale: float | None = None) -> str:
        """Add random normal numbers; by default such that a sum over all axes but the first keeps its scale."""
        scale = float(np.prod(sizes[1:])) ** -0.5 if scale is None else scale
        return self.constant((self._rng.standard_normal(sizes) * scale).astype(np.float32))

    def op(self, name: str, *given: str, **attributes: object) -> str:
        """Add an operator and return its first output."""
        return self.ops(name, 1, *given, **attributes)[0]

    def ops(self, name: str, outputs: int, *given: str, **attributes: object) -> list[str]:
        """Add an operator and return its outputs."""
        from onnx import helper

        number = len(self._nodes)
        made = [f"v{number}_{place}" for place in range(outputs)]
        self._nodes.append(helper.make_node(name, given, made, name=f"{name}_{number}", **attributes))
        return made

    def conv(
        self, x: str, channels: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1, gain: float = 2.0
    ) -> str:
        """Add a convolution of a square window with a bias; `gain` 2 makes up for a ReLU behind it."""
        fan = kernel * kernel * channels // groups
        weight = self.weight(outputs, channels // groups, kernel, kernel, scale=(gain / fan) ** 0.5)
        pads, strides = [kernel // 2] * 4, [stride, stride]
        bias = self.weight(outputs, scale=0.1)
        return self.op("Conv", x, weight, bias, kernel_shape=[kernel, kernel], pads=pads, strides=strides, group=groups)

    def linear(self, x: str, inputs: int, outputs: int) -> str:
        """Add a fully-connected layer as MatMul and Add."""
        product = self.op("MatMul", x, self.weight(inputs, outputs, scale=inputs**-0.5))
        return self.op("Add", product, self.weight(outputs, scale=0.1))

    def gemm(self, x: str, inputs: int, outputs: int) -> str:
        """Add a fully-connected layer as Gemm."""
        return self.op("Gemm", x, self.weight(outputs, inputs), self.weight(outputs, scale=0.1), transB=1)

    def relu6(self, x: str) -> str:
        """Add a clip to 0..6."""
        return self.op("Clip", x, self.number(0.0), self.number(6.0))

    def hard_swish(self, x: str) -> str:
        """Add x times a hard sigmoid."""
        return self.op("HardSwish", x)

    def pooled(self, x: str) -> str:
        """Add a mean over each channel, as a matrix."""
        return self.op("Flatten", self.op("GlobalAveragePool", x))

    def layer_norm(self, x: str, size: int) -> str:
        """Add a layer normalization over the last axis."""
        scale = self.constant(self._rng.uniform(0.5, 1.5, size).astype(np.float32))
        return self.op("LayerNormalization", x, scale, self.weight(size, scale=0.1), epsilon=1e-5)

    def gelu(self, x: str) -> str:
        """Add the exact GELU in single operators, as PyTorch exports it."""
        inner = self.op("Erf", self.op("Div", x, self.number(2**0.5)))
        return self.op("Mul", self.op("Mul", x, self.op("Add", inner, self.number(1.0))), self.number(0.5))

    def save(self, path: Path, outputs: Sequence[str]) -> Path:
        """Write the model and return its path."""
        import onnx
        from onnx import TensorProto, helper

        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self._nodes, path.stem, self._inputs, values, self._constants)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        onnx.save(onnx.shape_inference.infer_shapes(proto), path)
        return path
