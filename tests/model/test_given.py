"""Models and data in memory, as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import pytest

from lrfdse.errors import InputError
from lrfdse.model.data import load_data
from lrfdse.model.given import data_file, model_file
from lrfdse.model.graph import load_model


def test_paths_are_left_alone(tmp_path):
    assert model_file("net.onnx", tmp_path / "model.onnx") == Path("net.onnx")
    assert data_file(Path("calib.npz"), "calib", tmp_path) == Path("calib.npz")
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_both_kinds_is_the_file_that_it_came_from(mlp, tmp_path):
    proto, wanted = onnx.load(mlp), load_model(mlp)
    before = proto.SerializeToString()
    for k, model in enumerate((proto, onnx_ir.load(mlp))):
        found = load_model(model_file(model, tmp_path / "made" / f"{k}.onnx"))
        assert [layer.name for layer in found.layers] == [layer.name for layer in wanted.layers]
        for layer in wanted.layers:
            np.testing.assert_array_equal(found.weight(layer.name), wanted.weight(layer.name))
    assert proto.SerializeToString() == before
    assert load_model(tmp_path / "made" / "0.onnx").sha256 == wanted.sha256


def test_weights_that_a_model_keeps_in_another_file_come_along(mlp, tmp_path):
    """The model goes on reading them where they are."""
    (tmp_path / "apart").mkdir()
    onnx.save(
        onnx.load(mlp), tmp_path / "apart" / "net.onnx", save_as_external_data=True, location="w", size_threshold=0
    )
    model = onnx_ir.load(tmp_path / "apart" / "net.onnx")
    written = model_file(model, tmp_path / "made" / "net.onnx")
    assert [path.name for path in written.parent.iterdir()] == ["net.onnx"]
    np.testing.assert_array_equal(load_model(written).weight("fc1"), load_model(mlp).weight("fc1"))
    assert any(isinstance(value.const_value, onnx_ir.ExternalTensor) for value in model.graph.initializers.values())


def test_a_model_whose_weights_are_gone_is_refused(mlp, tmp_path):
    (tmp_path / "apart").mkdir()
    onnx.save(
        onnx.load(mlp), tmp_path / "apart" / "net.onnx", save_as_external_data=True, location="w", size_threshold=0
    )
    model = onnx_ir.load(tmp_path / "apart" / "net.onnx")
    (tmp_path / "apart" / "w").unlink()
    with pytest.raises(InputError, match="the model cannot be written as one ONNX file"):
        model_file(model, tmp_path / "made.onnx")
    assert not (tmp_path / "made.onnx").exists()


@pytest.mark.parametrize(
    "given",
    [
        {"x": np.arange(36.0, dtype=np.float32).reshape(3, 12), "labels": np.array([0, 4, 2])},
        {"x": np.arange(36).reshape(3, 12), "y": np.array([[0], [4], [2]], np.uint8)},
    ],
)
def test_arrays_by_name_are_read_as_they_were_given(given, mlp, tmp_path):
    inputs = load_model(mlp).inputs
    path = data_file(given, "eval", tmp_path / "made")
    found = load_data(path, inputs)
    assert path == tmp_path / "made" / "eval.npz"
    assert found.labels is not None and found.labels.tolist() == [0, 4, 2]
    np.testing.assert_array_equal(found.inputs["x"], np.arange(36.0).reshape(3, 12))
    again = data_file(dict(given), "eval", tmp_path / "again")
    assert again.read_bytes() == path.read_bytes()


def test_an_array_alone_is_the_only_input(mlp, tmp_path):
    array = np.asfortranarray(np.arange(24.0, dtype=np.float32).reshape(2, 12))
    found = load_data(data_file(array, "calib", tmp_path), load_model(mlp).inputs)
    np.testing.assert_array_equal(found.inputs["x"], array)
    assert found.labels is None


def test_an_input_may_be_called_like_a_parameter_of_numpy(tmp_path):
    path = data_file({"file": np.ones(2), "allow_pickle": np.zeros(3)}, "calib", tmp_path)
    with np.load(path) as found:
        assert {name: found[name].tolist() for name in found} == {"file": [1, 1], "allow_pickle": [0, 0, 0]}
