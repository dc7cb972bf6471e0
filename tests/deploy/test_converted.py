"""Designs of ONNX models as TensorFlow Lite files: what LiteRT computes against onnxruntime on the ONNX model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from lrfdse.deploy.converted import converted
from lrfdse.deploy.forms import check_written
from lrfdse.deploy.tflite import tflite_file
from lrfdse.errors import InputError
from lrfdse.factorize.chain import dense_weight
from lrfdse.factorize.fit import Fitter
from lrfdse.formats.onnx import as_proto
from lrfdse.formats.tflite.flatbuffer import read_graph
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.storage import FLOAT32, INT8
from lrfdse.model.graph import load_model
from lrfdse.model.passes.factor import rewrite
from tests.formats.test_tflite import litert, ours

pytest.importorskip("ai_edge_litert")
EXAMPLE = Path(__file__).parents[2] / "examples" / "lenet300-fashion" / "model.onnx"


def loaded(tmp_path, text, weights, kinds=("fc",)):
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in weights.items())
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return load_model(path, kinds=kinds)


def names(content, model):
    return [operator.name for operator in read_graph(content, model.path).operators]


def close(content, model, feeds):
    """Assert that LiteRT computes all outputs of a model, and that these are not all the same."""
    for found, wanted in zip(litert(content, feeds), ours(model, feeds), strict=True):
        assert found.shape == wanted.shape and np.ptp(wanted) > 0
        assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()


@pytest.mark.parametrize("storage", [FLOAT32, INT8], ids=str)
def test_designs_of_the_example(storage):
    model = load_model(EXAMPLE)
    shapes = {"fc1": "tt:m=15x20,n=28x28,r=5", "fc2": "tt:m=10x10,n=15x20,r=4,lr", "fc3": "svd:r=4"}
    factors = {}
    for name, text in shapes.items():
        layer = model.layer(name)
        chosen = Factorization.parse(text, layer.outputs, layer.inputs)
        factors[name] = Fitter(model.weight(name), None).fit(chosen, storage)
    made = tflite_file(model, factors)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (1, 28, 28), np.uint8)
    close(made, as_proto(rewrite(model, factors)), [image])
    value = image.reshape(1, -1).astype(np.float64) / 255
    for name in shapes:
        value = value @ dense_weight(factors[name].cores).T + model.bias(name)
        value = value if name == "fc3" else np.maximum(value, 0)
    (found,) = litert(made, [image])
    assert np.abs(found - value).max() <= 1e-4 * np.abs(value).max()
    used = names(made, model)
    assert "TRANSPOSE" not in used and used.count("FULLY_CONNECTED") == 4 and used.count("BATCH_MATMUL") == 2
    assert used.count("DEQUANTIZE") == (6 if storage is INT8 else 0)
    stored = sum(t.data.nbytes for t in read_graph(made, model.path).tensors if t.kind == "INT8" and t.data is not None)
    assert stored == (sum(core.size for each in factors.values() for core in each.cores) if storage is INT8 else 0)


def test_a_repair_of_dense_int8_is_written_as_its_three_products():
    model = load_model(EXAMPLE)
    layer = model.layer("fc2")
    shape = Factorization.repaired(layer.outputs, layer.inputs, 4)
    factors = {"fc2": Fitter(model.weight("fc2"), None).fit(shape, INT8)}
    made = tflite_file(model, factors)
    image = np.random.default_rng(0).integers(0, 256, (1, 28, 28), np.uint8)
    close(made, as_proto(rewrite(model, factors)), [image])
    used = names(made, model)
    assert used.count("DEQUANTIZE") == 3 and used.count("FULLY_CONNECTED") == 5
    whole = [t.data for t in read_graph(made, model.path).tensors if t.kind == "INT8" and t.data is not None]
    assert sum(array.nbytes for array in whole) == shape.params


IMAGES = """
<ir_version: 8, opset_import: ["": 17]>
net (float[batch, 3, 9, 8] image) => (float[batch, 7] scores, float[batch, 6, 9, 8] features) {
  wide = Conv<pads=[1,1,1,1]>(image, w1, b1)
  cut = Clip(wide, zero, six)
  each = Conv<group=6, kernel_shape=[3,3], auto_pad="SAME_UPPER">(cut, w2)
  features = BatchNormalization(each, gain, shift, mean, variance)
  leaky = LeakyRelu<alpha=0.1>(features)
  pooled = MaxPool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(leaky)
  halved = AveragePool<kernel_shape=[2,2], count_include_pad=1, pads=[1,0,0,0]>(pooled)
  scaled = Mul(halved, columns)
  both = Concat<axis=1>(scaled, halved)
  padded = Pad(both, pads)
  strided = Conv<strides=[2,1], dilations=[1,2], group=2>(padded, w3, b3)
  active = Relu(strided)
  flat = Flatten(active)
  hidden = Gemm<transB=1>(flat, w4, b4)
  bounded = Tanh(hidden)
  means = GlobalAveragePool(active)
  few = Squeeze(means, spatial)
  joined = Concat<axis=-1>(bounded, few)
  logits = MatMul(joined, w5)
  scores = Softmax<axis=-1>(logits)
}
"""


def images(rng):
    shapes = {"w1": (6, 3, 3, 3), "b1": 6, "w2": (6, 1, 3, 3), "gain": 6, "shift": 6, "mean": 6, "columns": (1, 1, 3)}
    shapes |= {"w3": (8, 6, 3, 2), "b3": 8, "w4": (12, 32), "b4": 12, "w5": (20, 7)}
    found = {name: rng.normal(size=size).astype(np.float32) for name, size in shapes.items()}
    found |= {"variance": rng.uniform(0.5, 2, 6), "zero": np.array(0), "six": np.array(6)}
    whole = {"pads": np.array([0, 0, 1, 0, 0, 0, 0, 1], np.int64), "spatial": np.array([2, 3], np.int64)}
    return {name: array.astype(np.float32) for name, array in found.items()} | whole


def test_images_turn_at_the_borders_of_their_part_alone(tmp_path):
    rng = np.random.default_rng(0)
    model = loaded(tmp_path, IMAGES, images(rng), ("fc", "conv"))
    made = converted(model, model.original)
    close(made, as_proto(model.original), [rng.normal(size=(1, 3, 9, 8)).astype(np.float32)])
    used = names(made, model)
    # One into the part, one behind it, and one for the output in its midst.
    assert used.count("TRANSPOSE") == 3 and "RELU" not in used and "RELU6" not in used
    layer = next(layer for layer in model.layers if layer.kind == "conv" and layer.outputs == 6)
    factors = {layer.name: Fitter(model.weight(layer.name), None).fit(Factorization.svd(6, layer.inputs, 3), INT8)}
    assert names(tflite_file(model, factors), model).count("CONV_2D") == used.count("CONV_2D") + 1


SEQUENCE = """
<ir_version: 8, opset_import: ["": 13]>
net (float[batch, 5, 8] words, float[batch, 8, 4] other) => (float[batch, 5, 6] out, float[batch, 4, 5] turned,
  float[batch, 5, 8] same, float[batch, 2, 3] part) {
  same = Identity(words)
  mean = ReduceMean<axes=[-1], keepdims=1>(words)
  centred = Sub(words, mean)
  squares = Mul(centred, centred)
  variance = ReduceMean<axes=[2]>(squares)
  deviation = Sqrt(variance)
  normal = Div(centred, deviation)
  product = MatMul(normal, other)
  turned = Transpose<perm=[0,2,1]>(product)
  weights = Softmax<axis=1>(product)
  logs = LogSoftmax(turned)
  mixed = MatMul(weights, logs)
  left = MatMul(square, mixed)
  gate = Sigmoid(left)
  wide = MatMul(gate, matrix)
  more = Add(wide, bias)
  bounded = Clip(more, low, high)
  out = Relu(bounded)
  part = Slice(bounded, starts, ends, axes)
}
"""


def test_products_and_arithmetic_of_sequences(tmp_path):
    rng = np.random.default_rng(0)
    shapes = {"square": (5, 5), "matrix": (5, 6), "bias": 6}
    weights = {name: rng.normal(size=size).astype(np.float32) for name, size in shapes.items()}
    weights |= {"low": np.float32(-0.5).reshape(()), "high": np.float32(1.5).reshape(())}
    weights |= {"starts": np.array([1, -3]), "ends": np.array([3, 100]), "axes": np.array([1, 2])}
    model = loaded(tmp_path, SEQUENCE, weights)
    made = converted(model, model.original)
    feeds = [rng.normal(size=size).astype(np.float32) for size in ((1, 5, 8), (1, 8, 4))]
    close(made, as_proto(model.original), feeds)
    assert names(made, model).count("FULLY_CONNECTED") == 1


def test_what_cannot_be_written_is_named_at_once(tmp_path):
    text = """
    <ir_version: 8, opset_import: ["": 17]>
    net (float[batch, 8] x) => (float[batch, 4] y) {
      a = Erf(x)
      b = Erf(a)
      c = Softsign(b)
      y = MatMul(c, w)
    }
    """
    model = loaded(tmp_path, text, {"w": np.ones((8, 4), np.float32)})
    with pytest.raises(InputError, match=r"model\.onnx: operators that .*: 2 x Erf, Softsign; leave tflite out"):
        check_written(model, ("onnx", "tflite"))
    check_written(model, ("onnx",))
