"""Networks on Fashion-MNIST: the data, training in Keras, the ONNX model, its accuracy.

Training needs the `t3f` extra (``pip install 'lrfdse[t3f]'``); the data are the Debian package dataset-fashion-mnist.
The first 55 000 training images are trained on, the last 5 000 are held out. The weights are those of the last epoch,
so that neither the held-out nor the test images choose anything.
"""

from __future__ import annotations

import gzip
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

FOLDER = Path("/usr/share/datasets/fashion-mnist")
CLASSES = 10
BATCH = 128
TRAINING = 55_000
SIDE = 28


class Data(NamedTuple):
    """Images of shape (n, 28, 28) and labels of shape (n,)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]


class Dense(NamedTuple):
    """A layer ``y = x weight.T + bias``; weight has shape (outputs, inputs)."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]


class Conv(NamedTuple):
    """A convolution that keeps the sides, ReLU, maxima over 2x2; weight has shape (outputs, inputs, k, k)."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]


@dataclass(frozen=True)
class Network:
    """What is trained: 3x3 convolutions of so many channels, hidden layers of so many units, the classes."""

    name: str
    channels: tuple[int, ...]
    hidden: tuple[int, ...]
    epochs: int


NETWORKS = {
    network.name: network
    for network in (
        Network("lenet300", (), (300, 100), 20),
        Network("mlp1024", (), (1024, 1024), 15),
        Network("conv512", (32, 64), (512,), 5),
    )
}


def read_data(folder: Path, part: str) -> Data:
    """Read the IDX files of one part ("train" or "t10k"); leave with the command that installs them when absent."""
    arrays = []
    for kind, header in (("images-idx3", 16), ("labels-idx1", 8)):
        path = folder / f"{part}-{kind}-ubyte.gz"
        if not path.is_file():
            sys.exit(
                f"{path}: not found. On Debian: apt-get install dataset-fashion-mnist; "
                "elsewhere: --data DIR with the four .gz files of Fashion-MNIST"
            )
        with gzip.open(path) as file:
            arrays.append(np.frombuffer(file.read(), np.uint8, offset=header))
    return Data(arrays[0].reshape(-1, SIDE, SIDE), arrays[1])


def divided(train: Data) -> tuple[Data, Data]:
    """Return the images that are trained on and those held out."""
    return Data(*(a[:TRAINING] for a in train)), Data(*(a[TRAINING:] for a in train))


def fit(network: Network, train: Data, held_out: Data, epochs: int, seed: int) -> list[Dense | Conv]:
    """Train in Keras and return the layers of the last epoch.

    One thread and deterministic kernels: the same machine and versions give the same weights; other versions of
    TensorFlow or another CPU may round differently.
    """
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        import keras
        import tensorflow as tf
    except ImportError:
        sys.exit("training needs TensorFlow: pip install 'lrfdse[t3f]'")

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(seed)

    convolutions = [keras.layers.Conv2D(n, 3, padding="same", activation="relu") for n in network.channels]
    dense = [
        *(keras.layers.Dense(width, activation="relu") for width in network.hidden),
        keras.layers.Dense(CLASSES),
    ]
    first: list[Any] = [keras.Input((SIDE, SIDE))]
    if convolutions:
        first.append(keras.layers.Reshape((SIDE, SIDE, 1)))
    pooled = [each for conv in convolutions for each in (conv, keras.layers.MaxPooling2D())]
    model = keras.Sequential([*first, *pooled, keras.layers.Flatten(), *dense])
    steps = epochs * -(-len(train.images) // BATCH)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps - steps // 10, warmup_target=1e-3, warmup_steps=steps // 10
    )
    model.compile(
        optimizer=keras.optimizers.AdamW(schedule, weight_decay=0.01),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    scaled = [Data(part.images / np.float32(255), part.labels) for part in (train, held_out)]
    model.fit(*scaled[0], batch_size=BATCH, epochs=epochs, validation_data=tuple(scaled[1]), verbose=2)
    return onnx_layers([layer.get_weights() for layer in convolutions], [layer.get_weights() for layer in dense])


def onnx_layers(
    convolutions: Sequence[Sequence[NDArray[np.float32]]], dense: Sequence[Sequence[NDArray[np.float32]]]
) -> list[Dense | Conv]:
    """Turn Keras' kernels, ``(k, k, inputs, outputs)`` and ``(inputs, outputs)``, into ONNX' order.

    Keras flattens images with the channels last, ONNX with the channels first: the inputs of the first dense layer
    behind a convolution change places.
    """
    layers: list[Dense | Conv] = []
    for kernel, bias in convolutions:
        layers.append(Conv(np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)), bias))
    for place, (kernel, bias) in enumerate(dense):
        ordered = kernel
        if place == 0 and convolutions:
            side = SIDE >> len(convolutions)
            maps = kernel.reshape(side, side, -1, kernel.shape[1])
            ordered = maps.transpose(2, 0, 1, 3).reshape(kernel.shape)
        layers.append(Dense(np.ascontiguousarray(ordered.T), bias))
    return layers


def build(layers: Sequence[Dense | Conv], name: str, producer: str) -> onnx.ModelProto:
    """Return the ONNX model: uint8 images (N, 28, 28) in, logits (N, 10) out, normalisation inside."""
    graph = _Graph()
    convolutions = [layer for layer in layers if isinstance(layer, Conv)]
    dense = [layer for layer in layers if isinstance(layer, Dense)]
    graph.initializers.append(numpy_helper.from_array(np.float32(255), "white"))
    graph.node("Cast", ["image"], "pixels", "cast", to=TensorProto.FLOAT)
    value = graph.node("Div", ["pixels", "white"], "scaled", "scale")
    if convolutions:
        graph.initializers.append(numpy_helper.from_array(np.array([-1, 1, SIDE, SIDE], np.int64), "maps.shape"))
        value = graph.node("Reshape", [value, "maps.shape"], "maps", "maps")
    for index, layer in enumerate(convolutions, start=1):
        value = graph.layer("Conv", value, layer, f"conv{index}", f"conv{index}.output", pads=[1] * 4)
        value = graph.node("Relu", [value], f"conv{index}.relu", f"conv{index}.relu")
        shape = {"kernel_shape": [2, 2], "strides": [2, 2]}
        value = graph.node("MaxPool", [value], f"pool{index}.output", f"pool{index}", **shape)
    value = graph.node("Flatten", [value], "flat", "flatten", axis=1)
    for index, layer in enumerate(dense, start=1):
        last = index == len(dense)
        value = graph.layer("Gemm", value, layer, f"fc{index}", "logits" if last else f"fc{index}.output", transB=1)
        if not last:
            value = graph.node("Relu", [value], f"relu{index}.output", f"relu{index}")
    made = helper.make_graph(
        graph.nodes,
        name,
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", len(dense[-1].bias)])],
        graph.initializers,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name=producer)
    onnx.checker.check_model(model, full_check=True)
    return model


class _Graph:
    """Nodes and initializers in the order in which they are written."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def node(self, op: str, inputs: list[str], output: str, name: str, **attributes: Any) -> str:
        """Add a node and return its output."""
        self.nodes.append(helper.make_node(op, inputs, [output], name=name, **attributes))
        return output

    def layer(self, op: str, value: str, layer: Dense | Conv, name: str, output: str, **attributes: Any) -> str:
        """Add a node with its weight and bias."""
        for field, array in layer._asdict().items():
            self.initializers.append(numpy_helper.from_array(array, f"{name}.{field}"))
        return self.node(op, [value, f"{name}.weight", f"{name}.bias"], output, name, **attributes)


def accuracy(model: Path, part: Data) -> float:
    """Return the percentage of images that the model classifies correctly in onnxruntime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    right = 0
    for start in range(0, len(part.images), 500):
        (logits,) = session.run(["logits"], {"image": part.images[start : start + 500]})
        right += int(np.sum(logits.argmax(axis=1) == part.labels[start : start + 500]))
    return 100 * right / len(part.images)
