"""The networks that the benchmark trains: their ONNX form against NumPy, and what their folders hold."""

from __future__ import annotations

import importlib
import itertools
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import onnxruntime
import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(scope="module")
def scripts():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPTS)
        yield importlib.import_module("fashion"), importlib.import_module("train_models")


@pytest.fixture(scope="module")
def fashion(scripts) -> ModuleType:
    return scripts[0]


@pytest.fixture(scope="module")
def train_models(scripts) -> ModuleType:
    return scripts[1]


def as_keras_does(images, convolutions, dense):
    """Run a network with kernels and orders of axes as Keras has them, in float64."""
    maps = images[..., None] / 255
    for kernel, bias in convolutions:
        padded = np.pad(maps, ((0, 0), (1, 1), (1, 1), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
        maps = np.maximum(np.einsum("nhwcij,ijco->nhwo", windows, kernel) + bias, 0)
        n, h, w, c = maps.shape
        maps = maps.reshape(n, h // 2, 2, w // 2, 2, c).max(axis=(2, 4))
    value = maps.reshape(len(images), -1)
    for place, (kernel, bias) in enumerate(dense):
        value = value @ kernel + bias
        value = value if place == len(dense) - 1 else np.maximum(value, 0)
    return value


@pytest.mark.parametrize(("channels", "widths"), [((), (784, 20, 10)), ((3, 5), (245, 12, 10)), ((4,), (784, 10))])
def test_onnx_computes_what_keras_layers_do(fashion, channels, widths):
    rng = np.random.default_rng(0)

    def drawn(*shape):
        return rng.normal(size=shape).astype(np.float32) / 4

    before = (1, *channels)
    convolutions = [(drawn(3, 3, a, b), drawn(b)) for a, b in zip(before, channels, strict=False)]
    dense = [(drawn(a, b), drawn(b)) for a, b in itertools.pairwise(widths)]
    images = rng.integers(0, 256, (4, 28, 28), np.uint8)
    model = fashion.build(fashion.onnx_layers(convolutions, dense), "network", "test")
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (logits,) = session.run(["logits"], {"image": images})
    np.testing.assert_allclose(logits, as_keras_does(images, convolutions, dense), rtol=1e-4, atol=1e-4)


def test_parameters_are_those_of_the_published_table(fashion):
    def params(network):
        count, before, side = 0, 1, 28
        for channels in network.channels:
            count, before, side = count + channels * (9 * before + 1), channels, side // 2
        width = before * side * side
        for units in (*network.hidden, 10):
            count, width = count + units * (width + 1), units
        return count

    found = {name: params(network) for name, network in fashion.NETWORKS.items()}
    assert found == {"lenet300": 266_610, "mlp1024": 1_863_690, "conv512": 1_630_090}


def test_calibration_is_drawn_from_what_was_trained_on(fashion, train_models, tmp_path):
    count = 9000
    images = np.zeros((count + 200, 28, 28), np.uint8)
    images[:, 0, 0], images[:, 0, 1] = np.arange(len(images)) % 256, np.arange(len(images)) // 256
    labels = (np.arange(len(images)) % 10).astype(np.uint8)
    fitted, held_out, test = (
        fashion.Data(images[a:b], labels[a:b]) for a, b in ((0, count), (count, count + 100), (count + 100, None))
    )
    train_models.write_data(tmp_path, fitted, held_out, test, seed=3)
    drawn = {}
    for name in ("calib", "calib8192"):
        with np.load(tmp_path / f"{name}.npz") as arrays:
            assert list(arrays) == ["image"]
            drawn[name] = {image.tobytes() for image in arrays["image"]}
    assert len(drawn["calib"]) == 2048 and len(drawn["calib8192"]) == 8192
    assert drawn["calib"] < drawn["calib8192"] <= {image.tobytes() for image in fitted.images}
    for name, part in (("eval", held_out), ("test", test)):
        with np.load(tmp_path / f"{name}.npz") as arrays:
            assert np.array_equal(arrays["image"], part.images) and np.array_equal(arrays["labels"], part.labels)


def test_other_seeds_draw_other_images(fashion, train_models, tmp_path):
    images = np.arange(9000, dtype=np.uint16).view(np.uint8).reshape(9000, 1, 2)
    data = fashion.Data(images, np.zeros(9000, np.uint8))
    drawn = []
    for seed in (1, 1, 2):
        train_models.write_data(tmp_path, data, data, data, seed)
        with np.load(tmp_path / "calib.npz") as arrays:
            drawn.append(arrays["image"].tobytes())
    assert drawn[0] == drawn[1] != drawn[2]


def test_absent_tensorflow_names_the_extra(fashion, monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", None)
    data = fashion.Data(np.zeros((1, 28, 28), np.uint8), np.zeros(1, np.uint8))
    with pytest.raises(SystemExit, match=r"lrfdse\[t3f\]"):
        fashion.fit(fashion.NETWORKS["lenet300"], data, data, 1, 1)
