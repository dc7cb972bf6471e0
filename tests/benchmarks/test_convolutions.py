"""The networks of the benchmark of convolutions: one definition, the same function in Keras and in ONNX."""

from __future__ import annotations

import math
import os

import numpy as np
import onnx
import onnxruntime
import pytest

from benchmarks.convolutions.__main__ import other_macs, section
from benchmarks.convolutions.compress import Found
from benchmarks.convolutions.nets import NETWORKS, SIDE, KerasWriter, in_onnx
from lrfdse.model.graph import load_model


class Drawn:
    """A writer that draws the arrays which a network needs; a value is its number of channels."""

    def __init__(self):
        self.rng, self.arrays = np.random.default_rng(0), {}

    def conv(self, x, name, outputs, kernel, stride=1, relu=True):
        self.arrays[name] = [self.rng.normal(size=(kernel, kernel, x, outputs)).astype(np.float32) / kernel]
        return self._norm(name, outputs)

    def depthwise(self, x, name, stride):
        self.arrays[name] = [self.rng.normal(size=(3, 3, x, 1)).astype(np.float32)]
        return self._norm(name, x)

    def add(self, x, y, relu):
        assert x == y
        return y

    def classify(self, x, name):
        self.arrays[name] = [self.rng.normal(size=(x, 10)).astype(np.float32), np.ones(10, np.float32)]
        return 10

    def _norm(self, name, channels):
        low, high = (0.5, -1.0, -1.0, 0.5), (1.5, 1.0, 1.0, 2.0)
        arrays = [self.rng.uniform(a, b, channels).astype(np.float32) for a, b in zip(low, high, strict=True)]
        self.arrays[f"{name}.norm"] = arrays
        return channels


def drawn(name):
    writer = Drawn()
    NETWORKS[name](writer, 1)
    return writer.arrays


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_onnx_computes_what_keras_does(name):
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    keras = pytest.importorskip("keras")
    arrays = drawn(name)
    x = keras.Input((SIDE, SIDE, 1))
    model = keras.Model(x, NETWORKS[name](KerasWriter(), x))
    for layer in model.layers:
        if layer.get_weights():
            layer.set_weights(arrays[layer.name])
    images = np.random.default_rng(1).random((3, SIDE, SIDE, 1), dtype=np.float32)
    session = onnxruntime.InferenceSession(
        in_onnx(name, arrays).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (found,) = session.run(None, {"x": images.transpose(0, 3, 1, 2)})
    expected = np.asarray(model(images, training=False))
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", NETWORKS)
def test_macs_of_layers_and_of_the_rest_are_those_of_all_nodes(tmp_path, name):
    made = in_onnx(name, drawn(name))
    onnx.save(made, tmp_path / "m.onnx")
    layers = load_model(tmp_path / "m.onnx", kinds=("fc", "conv")).layers
    inferred = onnx.shape_inference.infer_shapes(made)
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in inferred.graph.value_info}
    sizes = {tensor.name: tensor.dims for tensor in made.graph.initializer}
    convolutions = [node for node in made.graph.node if node.op_type == "Conv"]
    every = 10 * sizes["fc.weight"][1] + sum(
        math.prod(sizes[node.input[1]]) * math.prod(shapes[node.output[0]][2:]) for node in convolutions
    )
    assert sum(layer.flops // 2 for layer in layers) + other_macs(tmp_path / "m.onnx") == every


def test_the_verdict_is_of_the_plan_that_the_evaluation_data_choose():
    def found(way, evaluation, test):
        return Found(way, 500, 100, evaluation, test, {})

    class Small:
        explored, dense_macs = ("a", "b"), 1000

    rows = [
        (1.0, Found("original", 1000, 200, 0.92, 0.91, {})),
        (2.0, found("svd", 0.90, 0.91)),
        (2.0, found("chains", 0.915, 0.904)),
        (3.0, found("chains", 0.99, 0.99)),
    ]
    text = "\n".join(section("net", Small(), rows))
    assert "**chains**, which loses 0.60 points of test accuracy: the goal of at most 0.5 is missed" in text
    assert "| 2x | svd | 0.00 | 100 | 91.00 | +0.00 |" in text
