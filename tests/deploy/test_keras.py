"""Designs of Keras models in their own format and in TensorFlow Lite, against the ONNX model of the same design."""

from __future__ import annotations

import os
import zipfile

import numpy as np
import pytest

from lrfdse.deploy.forms import check_forms, form_file, forms_of
from lrfdse.errors import InputError
from lrfdse.factorize.tt import tt_svd
from lrfdse.formats.chain import Product
from lrfdse.formats.keras.replace import Chain, replaced
from lrfdse.formats.onnx import as_proto
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.factors import Factors
from lrfdse.model.graph import load_model
from lrfdse.model.passes.factor import rewrite
from tests.formats.test_tflite import litert, ours

SHAPES = {
    "features": "tt:m=4x1x1,n=1x9x3,r=3x2",
    "hidden": "tt:m=4x6,n=8x24,r=5,lr",
    "inner.wide": "tt:m=3x5,n=5x5,r=3",
    "words": "tt:m=2x3,n=3x2,r=3",
    "dense": "svd:r=3",
}
"""Column and row filters behind a normalization; left to right; padded; of several rows; a pair."""


@pytest.fixture(scope="module")
def keras():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    pytest.importorskip("ai_edge_litert")
    pytest.importorskip("tensorflow", reason="the keras extra is not installed")
    return pytest.importorskip("keras", reason="the keras extra is not installed")


@pytest.fixture(scope="module")
def design(keras, tmp_path_factory):
    """A Keras file with a model inside the model, and factors for five of its layers."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    image = keras.Input((8, 6, 3), name="image")
    x = layers.Conv2D(4, 3, padding="same", use_bias=False, name="features")(image)
    norm = layers.BatchNormalization(name="norm")
    x = layers.ReLU()(norm(x))
    y = layers.Dense(6, activation="tanh", name="words")(layers.Reshape((32, 6))(x))
    x = layers.Dense(24, activation="relu", name="hidden")(
        layers.Flatten()(layers.Add()([y, layers.Reshape((32, 6))(x)]))
    )
    inner = keras.Sequential([keras.Input((24,)), layers.Dense(12, activation="gelu", name="wide")], name="inner")
    scores = layers.Dense(10, activation="softmax", name="dense")(inner(x))
    model = keras.Model(image, [scores, layers.Dense(2, name="place")(x)])
    rng = np.random.default_rng(0)
    norm.set_weights([rng.uniform(0.5, 2.0, array.shape).astype(np.float32) for array in norm.get_weights()])
    path = tmp_path_factory.mktemp("design") / "net.keras"
    model.save(path)
    read = load_model(path, kinds=("fc", "conv"))
    factors = {}
    for name, text in SHAPES.items():
        layer = read.layer(name)
        shape = Factorization.parse(text, layer.outputs, layer.inputs)
        weight = np.zeros((shape.outputs, shape.inputs))
        weight[: layer.outputs, : layer.inputs] = read.weight(name)
        shift = rng.normal(size=layer.outputs) / 3
        factors[name] = Factors(shape, tt_svd(weight, shape), shift, 0.0, None)
    return read, factors


@pytest.mark.slow
def test_keras_and_litert_compute_the_design(keras, design, tmp_path):
    model, factors = design
    feed = np.random.default_rng(3).normal(size=(3, 8, 6, 3)).astype(np.float32)
    wanted = ours(as_proto(rewrite(model, factors)), [feed])
    original = ours(model.proto, [feed])
    assert max(np.abs(one - other).max() for one, other in zip(wanted, original, strict=True)) > 1e-2
    path = tmp_path / "model.keras"
    path.write_bytes(form_file("keras", model, factors))
    loaded = keras.models.load_model(path, safe_mode=True)
    found = [tensor.numpy() for tensor in loaded(feed, training=False)]
    flat = litert(form_file("tflite", model, factors), [feed])
    for one, two, other in zip(found, flat, wanted, strict=True):
        assert np.abs(one - other).max() <= 1e-4 * np.abs(other).max()
        assert np.abs(two - other).max() <= 1e-4 * np.abs(other).max()
    kinds = [type(layer).__name__ for layer in loaded.get_layer("inner").get_layer("wide").layers]
    assert kinds.count("EinsumDense") == 1 and kinds.count("Dense") == 1 and kinds[-1] == "Activation"
    with zipfile.ZipFile(path) as file:
        assert "registered_name" in (text := file.read("config.json").decode()) and "Custom>" not in text
    # What was written is a Keras file that can be explored as any other.
    assert {"dense", "place"} < {layer.name.split(".")[0] for layer in load_model(path).layers}


@pytest.mark.slow
def test_a_file_of_keras_2_is_written_by_tf_keras(keras, tmp_path):
    old = pytest.importorskip("tf_keras", reason="the t3f extra is not installed")
    layers = old.layers
    model = old.Sequential(
        [old.Input((12,), name="row"), layers.Dense(8, "relu", name="hidden"), layers.Dense(4, name="out")]
    )
    path, made = tmp_path / "old.keras", tmp_path / "made.keras"
    model.save(path)
    read = load_model(path)
    shape = Factorization.parse("tt:m=2x4,n=4x3,r=3", 8, 12)
    factors = {"hidden": Factors(shape, tt_svd(read.weight("hidden"), shape), None, 0.0, None)}
    made.write_bytes(form_file("keras", read, factors))
    feed = np.random.default_rng(3).normal(size=(3, 12)).astype(np.float32)
    (wanted,) = ours(as_proto(rewrite(read, factors)), [feed])
    found = old.models.load_model(made)(feed).numpy()
    assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()
    # Another weight than the design's is no layer to replace.
    other = Chain("hidden", (Product(np.ones((8, 12), np.float32)),), read.weight("hidden") + 1.0, (12, 8), None)
    with pytest.raises(InputError, match=r"'hidden' does not hold the weight that the design was made of"):
        replaced(path.read_bytes(), [other], (1, 1), path)


def test_the_formats_of_a_model(tmp_path):
    flat, net, plain = (tmp_path / name for name in ("net.tflite", "net.keras", "net.onnx"))
    assert [forms_of(path, ()) for path in (flat, net, plain)] == [("onnx", "tflite"), ("onnx",), ("onnx",)]
    assert forms_of(net, ("tflite", "keras")) == ("onnx", "tflite", "keras") and forms_of(flat, ("onnx",)) == ("onnx",)
    for path in (flat, net, plain, tmp_path):
        check_forms(path, ("onnx", "tflite"))
    for path in (flat, plain, tmp_path):
        with pytest.raises(InputError, match=r"--format keras: .* is no \.keras file"):
            check_forms(path, ("keras",))
