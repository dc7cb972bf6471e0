"""Two small networks for Fashion-MNIST, defined once: built in Keras to be trained, and in ONNX to be compressed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SIDE = 28
CLASSES = 10

_EPSILON = 1e-3
"""What Keras' batch normalization adds to a variance by default."""

Arrays = Mapping[str, list[NDArray[np.float32]]]
"""Name of a layer to its arrays as Keras has them."""

T = TypeVar("T")


class Writer(Protocol[T]):
    """Adds layers to a network; every convolution is followed by a batch normalization."""

    def conv(self, x: T, name: str, outputs: int, kernel: int, stride: int = 1, relu: bool = True) -> T:
        """Add a convolution, "same" padded."""
        ...

    def depthwise(self, x: T, name: str, stride: int) -> T:
        """Add a 3x3 depthwise convolution and a ReLU, "same" padded."""
        ...

    def add(self, x: T, y: T, relu: bool) -> T:
        """Add two branches."""
        ...

    def classify(self, x: T, name: str) -> T:
        """Average over all pixels, then a fully-connected layer to the classes."""
        ...


def mobilenet(write: Writer[T], x: T) -> T:
    """Inverted residuals as in MobileNetV2 (Sandler et al. 2018), expansion 4, for 28x28 pixels."""
    x, channels = write.conv(x, "stem", 16, 3, 2), 16
    blocks = ((24, 1), (24, 1), (32, 2), (32, 1), (32, 1), (64, 1), (64, 1))
    for number, (outputs, stride) in enumerate(blocks, 1):
        y = write.conv(x, f"block{number}.expand", 4 * channels, 1)
        y = write.depthwise(y, f"block{number}.depthwise", stride)
        y = write.conv(y, f"block{number}.project", outputs, 1, relu=False)
        x, channels = (write.add(x, y, relu=False) if stride == 1 and outputs == channels else y), outputs
    return write.classify(write.conv(x, "head", 128, 1), "fc")


def resnet(write: Writer[T], x: T) -> T:
    """Residual blocks as in ResNet (He et al. 2016), for 28x28 pixels."""
    x, channels = write.conv(x, "stem", 16, 3, 2), 16
    for number, (outputs, stride) in enumerate(((16, 1), (32, 2), (32, 1), (64, 1)), 1):
        y = write.conv(x, f"block{number}.conv1", outputs, 3, stride)
        y = write.conv(y, f"block{number}.conv2", outputs, 3, relu=False)
        if stride != 1 or outputs != channels:
            x = write.conv(x, f"block{number}.shortcut", outputs, 1, stride, relu=False)
        x, channels = write.add(x, y, relu=True), outputs
    return write.classify(x, "fc")


NETWORKS = {"mobilenet": mobilenet, "resnet": resnet}
"""The networks by name."""


class KerasWriter:
    """Builds a network in Keras."""

    def __init__(self) -> None:
        import keras

        self._layers: Any = keras.layers

    def conv(self, x: Any, name: str, outputs: int, kernel: int, stride: int = 1, relu: bool = True) -> Any:
        """Add a convolution."""
        made = self._layers.Conv2D(outputs, kernel, stride, padding="same", use_bias=False, name=name)
        return self._finished(made(x), name, relu)

    def depthwise(self, x: Any, name: str, stride: int) -> Any:
        """Add a 3x3 depthwise convolution."""
        made = self._layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False, name=name)
        return self._finished(made(x), name, True)

    def add(self, x: Any, y: Any, relu: bool) -> Any:
        """Add two branches."""
        total = self._layers.Add()([x, y])
        return self._layers.ReLU()(total) if relu else total

    def classify(self, x: Any, name: str) -> Any:
        """Average and classify."""
        return self._layers.Dense(CLASSES, name=name)(self._layers.GlobalAveragePooling2D()(x))

    def _finished(self, x: Any, name: str, relu: bool) -> Any:
        x = self._layers.BatchNormalization(epsilon=_EPSILON, momentum=0.95, name=f"{name}.norm")(x)
        return self._layers.ReLU()(x) if relu else x


class OnnxWriter:
    """Builds a network in ONNX from trained arrays, the normalizations inside the convolutions."""

    def __init__(self, arrays: Arrays) -> None:
        self._arrays = arrays
        self._nodes: list[onnx.NodeProto] = []
        self._tensors: list[onnx.TensorProto] = []

    def conv(self, x: str, name: str, outputs: int, kernel: int, stride: int = 1, relu: bool = True) -> str:
        """Add a convolution."""
        (weight,) = self._arrays[name]
        return self._conv(x, name, weight.transpose(3, 2, 0, 1), stride, 1, relu)

    def depthwise(self, x: str, name: str, stride: int) -> str:
        """Add a 3x3 depthwise convolution."""
        (weight,) = self._arrays[name]
        return self._conv(x, name, weight.transpose(2, 3, 0, 1), stride, weight.shape[2], True)

    def add(self, x: str, y: str, relu: bool) -> str:
        """Add two branches."""
        total = self._node("Add", [x, y], f"{y}.sum")
        return self._node("Relu", [total], f"{total}.relu") if relu else total

    def classify(self, x: str, name: str) -> str:
        """Average and classify."""
        weight, bias = self._arrays[name]
        mean = self._node("Flatten", [self._node("GlobalAveragePool", [x], "mean")], "features")
        return self._node(
            "Gemm", [mean, self._stored(f"{name}.weight", weight.T), self._stored(f"{name}.bias", bias)], "y", transB=1
        )

    def model(self, name: str) -> onnx.ModelProto:
        """Return the model, checked."""
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, SIDE, SIDE])
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", CLASSES])
        graph = helper.make_graph(self._nodes, name, [x], [y], self._tensors)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(made, full_check=True)
        return made

    def _conv(self, x: str, name: str, weight: NDArray[np.float32], stride: int, groups: int, relu: bool) -> str:
        gamma, beta, mean, variance = self._arrays[f"{name}.norm"]
        scale = gamma / np.sqrt(variance + _EPSILON)
        stored = self._stored(f"{name}.weight", weight * scale[:, None, None, None])
        bias = self._stored(f"{name}.bias", beta - mean * scale)
        attributes = {"auto_pad": "SAME_UPPER", "strides": [stride, stride], "group": groups}
        y = self._node("Conv", [x, stored, bias], f"{name}.out", **attributes)
        return self._node("Relu", [y], f"{name}.relu") if relu else y

    def _stored(self, name: str, array: NDArray[Any]) -> str:
        self._tensors.append(numpy_helper.from_array(np.ascontiguousarray(array, dtype=np.float32), name))
        return name

    def _node(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self._nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output


def in_onnx(name: str, arrays: Arrays) -> onnx.ModelProto:
    """Return a network of `NETWORKS` with trained arrays as an ONNX model: images (n, 1, 28, 28) in, logits out."""
    writer = OnnxWriter(arrays)
    NETWORKS[name](writer, "x")
    return writer.model(name)
