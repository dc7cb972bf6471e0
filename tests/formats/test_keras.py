"""Keras files and SavedModel folders in: names, outputs against Keras itself, and what cannot be read."""

from __future__ import annotations

import dataclasses
import importlib.util
import io
import json
import os
import shutil
import zipfile

import numpy as np
import pytest

from lrfdse.cli import run
from lrfdse.errors import InputError, ToolError
from lrfdse.explore.inputs import settings_for
from lrfdse.formats import FORMATS, format_of, model_at
from lrfdse.formats.keras.config import check_keras_file
from lrfdse.formats.keras.format import confirmed
from lrfdse.formats.keras.tensorflow import read_back
from lrfdse.formats.keras.tensorflow_runner import main as converted
from lrfdse.model.graph import load_model
from lrfdse.testing.formats import FormatContract
from tests.formats.test_tflite import ours

needs_tensorflow = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("tensorflow", "ai_edge_litert"))), reason="the keras extra is not installed"
)


def archive(*layers):
    """Return a Keras file of layers as its description names them, without weights."""
    content = io.BytesIO()
    config = layer("Sequential", "keras", layers=list(layers))
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("config.json", json.dumps(config))
        file.writestr("metadata.json", "{}")
    return content.getvalue()


def layer(kind, module="keras.layers", registered=None, **config):
    return {"module": module, "class_name": kind, "config": config, "registered_name": registered}


@pytest.fixture(scope="module")
def tf():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    return pytest.importorskip("tensorflow", reason="the keras extra is not installed")


@pytest.fixture(scope="module")
def keras(tf):
    return pytest.importorskip("keras", reason="the keras extra is not installed")


@pytest.fixture(scope="module")
def network(keras):
    """A network of images with two outputs, one of them of a model inside, with statistics that are not those of 0."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    image = keras.Input((8, 6, 3), name="image")
    x = layers.Conv2D(4, 3, activation="relu", padding="same", name="features")(image)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Dense(24, activation="relu", name="hidden")(layers.Flatten()(x))
    inner = keras.Sequential([keras.Input((24,)), layers.Dense(12, activation="gelu", name="wide")], name="inner")
    scores = layers.Dense(10, activation="softmax", name="dense")(inner(x))
    model = keras.Model(image, [scores, layers.Dense(2, name="place")(x)])
    rng = np.random.default_rng(0)
    norm = model.get_layer("norm")
    norm.set_weights([rng.uniform(0.5, 2.0, array.shape).astype(np.float32) for array in norm.get_weights()])
    return model


@pytest.fixture(scope="module")
def saved(network, tmp_path_factory):
    """The network as a Keras file, and as a SavedModel folder."""
    folder = tmp_path_factory.mktemp("saved")
    network.save(folder / "net.keras")
    network.export(folder / "net", verbose=False)
    return folder


def refusal(kind, folder):
    """Return why TensorFlow cannot convert a model, by what its process runs."""
    return converted(kind, folder)["refused"]


@needs_tensorflow
@pytest.mark.slow
class TestKeras(FormatContract):
    @pytest.fixture
    def file(self, saved):
        return saved / "net.keras"

    def test_what_is_written_computes_the_same(self, file, opened, tmp_path):
        with pytest.raises(InputError, match="are read, not written"):
            opened.write(opened.read(file)[0], tmp_path / "written.keras")
        assert not (tmp_path / "written.keras").exists()


@needs_tensorflow
@pytest.mark.slow
def test_a_keras_file_computes_what_keras_computes_under_its_names(network, saved):
    model = load_model(saved / "net.keras", kinds=("fc", "conv"))
    assert sorted(layer.name for layer in model.layers) == ["dense", "features", "hidden", "inner.wide", "place"]
    assert [str(port) for port in model.inputs] == ["image (batchx8x6x3, float32)"]
    assert [port.name for port in model.proto.graph.output] == network.output_names
    feed = np.random.default_rng(5).normal(size=(3, 8, 6, 3)).astype(np.float32)
    for one, other in zip(ours(model.proto, [feed]), network(feed, training=False), strict=True):
        np.testing.assert_allclose(one, other.numpy(), atol=1e-5)


@needs_tensorflow
@pytest.mark.slow
def test_a_saved_model_folder_is_a_model_with_its_data(network, saved, tmp_path, capsys):
    folder = tmp_path / "net"
    shutil.copytree(saved / "net", folder)
    np.savez(folder / "calib.npz", image=np.zeros((2, 8, 6, 3), np.float32))
    settings = settings_for(folder, "riscv64")
    assert (settings.model, settings.data.calib) == (folder, folder / "calib.npz")
    assert settings.output.name == "net-riscv64"
    assert run(["inspect", str(folder)]) == 0
    assert "hidden" in capsys.readouterr().out
    feed = np.random.default_rng(6).normal(size=(2, 8, 6, 3)).astype(np.float32)
    model = format_of(folder).read(folder)[0]
    for one, other in zip(ours(model, [feed]), network(feed, training=False), strict=True):
        np.testing.assert_allclose(one, other.numpy(), atol=1e-5)
    weights = folder / "variables" / "variables.data-00000-of-00001"
    weights.write_bytes(weights.read_bytes()[:-40])
    folder.rename(tmp_path / "given")
    assert refusal("saved_model", tmp_path).startswith("damaged: ")


@pytest.mark.slow
def test_saved_models_that_cannot_be_converted_say_why(tf, tmp_path):
    class Module(tf.Module):
        def __init__(self, function, *shape):
            super().__init__()
            self.weight = tf.Variable(tf.ones((4, 4)))
            spec = tf.TensorSpec(shape, tf.float32, name="x")
            self.call = tf.function(lambda x: function(tf.matmul(x, self.weight)), input_signature=[spec])

    def write(x):
        tf.io.write_file(str(tmp_path / "written"), "text")
        return x

    def said(function, shape=(None, 4)):
        folder = tmp_path / "given"
        shutil.rmtree(folder, ignore_errors=True)
        module = tf.Module() if function is None else Module(function, *shape)
        tf.saved_model.save(module, str(folder), signatures=None if function is None else module.call)
        return refusal("saved_model", tmp_path)

    assert "has no signature" in said(None)
    assert said(tf.nn.relu, (None, None, 4)) == "input 'x' has sizes (None, None, 4): only the first may be open"
    assert "TensorFlow Lite has no operators for: " in said(tf.linalg.logdet, (None, 4))
    assert "operator WriteFile of " in said(write) and "may reach files" in said(write)
    assert not (tmp_path / "written").exists()
    (tmp_path / "given" / "saved_model.pb").write_bytes(b"nonsense")
    assert "damaged" in refusal("saved_model", tmp_path)


@pytest.mark.slow
def test_keras_files_that_cannot_be_converted_say_why(keras, network, tmp_path):
    image = keras.Input((None, 4), name="words")
    keras.Model(image, keras.layers.Dense(3)(image)).save(tmp_path / "given.keras")
    assert refusal("keras", tmp_path) == "input 'words' has sizes (None, None, 4): only the first may be open"
    (tmp_path / "given.keras").write_bytes(archive(layer("Dense", units=3)))
    assert refusal("keras", tmp_path).startswith("damaged, or of a newer Keras: ")
    words = keras.Input((3,), dtype="string", name="words")
    keras.Model(words, keras.layers.StringLookup(vocabulary=["a", "b"])(words)).save(tmp_path / "given.keras")
    assert refusal("keras", tmp_path) == "input 'words' is of type string: only numbers can be fed"
    keras.Sequential([keras.layers.Dense(3)]).save(tmp_path / "given.keras")
    assert "call the model on a sample" in refusal("keras", tmp_path)


@needs_tensorflow
@pytest.mark.slow
def test_models_of_other_forms(keras, tmp_path):
    """A Sequential model, whose outputs have no names, and one that is fed and gives mappings."""
    layers = keras.layers
    row = keras.Sequential([keras.Input((6,), name="row"), layers.Dense(5, name="only")])
    first, second = keras.Input((6,), name="b"), keras.Input((6,), name="a")
    difference = layers.Subtract(name="gap")([layers.Dense(4)(first), layers.Dense(4)(second)])
    named = keras.Model({"b": first, "a": second}, {"z": difference, "y": layers.Dense(3, name="more")(difference)})
    for model, inputs, outputs in ((row, ["row"], ["only"]), (named, ["a", "b"], ["more", "gap"])):
        model.save(tmp_path / "given.keras")
        found = confirmed(read_back(tmp_path, converted("keras", tmp_path)), "keras", tmp_path / "given.keras")[0].graph
        assert ([port.name for port in found.input], [port.name for port in found.output]) == (inputs, outputs)


@needs_tensorflow
@pytest.mark.slow
def test_a_converter_that_changes_the_model_is_found(keras, tmp_path):
    keras.Sequential([keras.Input((6,), name="row"), keras.layers.Dense(5, name="only")]).save(tmp_path / "given.keras")
    whole = read_back(tmp_path, converted("keras", tmp_path))
    wrong = tuple((given, tuple(array + 0.01 for array in found)) for given, found in whole.runs)
    with pytest.raises(InputError, match=r"converter changed it: output 'only' differs by 0\.01 from what Keras"):
        confirmed(dataclasses.replace(whole, runs=wrong), "keras", tmp_path / "given.keras")


@pytest.mark.slow
def test_what_keras_itself_saves_passes_but_for_code(keras, network, saved, tmp_path):
    check_keras_file((saved / "net.keras").read_bytes(), saved / "net.keras")
    x = keras.Input((4,))
    keras.Model(x, keras.layers.Lambda(lambda y: y * 2.0, name="twice")(x)).save(tmp_path / "code.keras")
    with pytest.raises(InputError, match=r"code\.keras: Lambda layers hold Python code, which is not run: twice"):
        format_of(tmp_path / "code.keras").read(tmp_path / "code.keras")

    @keras.saving.register_keras_serializable("mine")
    class Odd(keras.layers.Layer):
        def call(self, y):
            return y * 2.0

    keras.Model(x, Odd()(x)).save(tmp_path / "odd.keras")
    with pytest.raises(InputError, match=r"custom layers or functions, whose code is not in the file: mine>Odd;"):
        format_of(tmp_path / "odd.keras").read(tmp_path / "odd.keras")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"\x89HDF\r\n\x1a\n" + bytes(99), r"an HDF5 file, as before Keras 3: .* save it as \.keras"),
        (archive(layer("Lambda", name="twice")), "Lambda layers hold Python code, which is not run: twice;"),
        (archive(layer("Dense", activation=layer("__lambda__", None))), "which is not run: __lambda__;"),
        (archive(layer("Odd", "mine", "Custom>Odd")), "whose code is not in the file: Custom>Odd;"),
        (archive(layer("TFSMLayer", filepath="/other")), "whose code is not in the file: keras.layers.TFSMLayer;"),
        (archive(layer("system", "os")), "whose code is not in the file: os.system;"),
        (archive(layer("function", "keras.utils")), "whose code is not in the file: keras.utils.function;"),
        (archive(layer("Odd", ["keras"])), "whose code is not in the file: "),
        (archive()[:150], "not a Keras model, or cut short"),
        (b"nonsense" * 99, "not a Keras model, or cut short"),
        (b"", "the file is empty"),
    ],
    ids=["hdf5", "lambda", "inner", "custom", "folder", "module", "helper", "no text", "cut", "nonsense", "empty"],
)
@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_file_is_refused_before_tensorflow_starts(content, text, suffix, tmp_path):
    path = tmp_path / f"model.{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=text) as caught:
        format_of(path).read(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_folders_are_told_apart(tmp_path):
    (tmp_path / "file.onnx").touch()
    assert model_at(tmp_path / "file.onnx") == tmp_path / "file.onnx"
    assert model_at(tmp_path / "missing") == tmp_path / "missing"
    with pytest.raises(InputError, match=r"the folder holds no model\.onnx, and no saved_model\.pb"):
        model_at(tmp_path)
    (tmp_path / "saved_model.pb").touch()
    assert model_at(tmp_path) == tmp_path and format_of(tmp_path) is FORMATS.get("saved_model")
    (tmp_path / "model.onnx").touch()
    assert model_at(tmp_path) == tmp_path / "model.onnx"


def test_links_in_a_saved_model_are_not_followed(tmp_path):
    (tmp_path / "other").write_bytes(b"text")
    folder = tmp_path / "net"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").touch()
    (folder / "variables" / "variables.index").symlink_to(tmp_path / "other")
    with pytest.raises(InputError, match=r"variables\.index: cannot be read: a symbolic link"):
        format_of(folder).read(folder)
    (folder / "variables").rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "variables.index").unlink()
    (tmp_path / "elsewhere" / "thesis").write_text("mine")
    for part in ("variables", "assets"):
        (folder / part).symlink_to(tmp_path / "elsewhere")
        with pytest.raises(InputError, match=f"{part}: cannot be read: a symbolic link"):
            format_of(folder).read(folder)
        (folder / part).unlink()
    (folder / "saved_model.pb").unlink()
    (folder / "saved_model.pb").symlink_to(tmp_path / "other")
    with pytest.raises(InputError, match=r"saved_model\.pb: cannot be read: a symbolic link"):
        format_of(folder).read(folder)
    with pytest.raises(InputError, match=r"other: not a SavedModel folder"):
        FORMATS.get("saved_model").read(tmp_path / "other")


def test_without_tensorflow_the_message_names_the_extra(monkeypatch, tmp_path):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "tensorflow" else find(name))
    path = tmp_path / "model.keras"
    path.write_bytes(archive(layer("Dense", units=3)))
    with pytest.raises(ToolError, match=r"is not installed: run `pip install 'lrfdse\[keras\]'`"):
        format_of(path).read(path)
