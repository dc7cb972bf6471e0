"""A model that onnxruntime quantized, explored: its layers stay in int8, and count as such."""

from __future__ import annotations

import json
import shutil

import numpy as np
import onnx
import pytest

from lrfdse.base.privacy import load_onnxruntime
from lrfdse.cli import run
from lrfdse.model.data import load_data
from lrfdse.model.graph import load_model
from lrfdse.model.runtime import Runtime
from lrfdse.model.static_int8 import static_int8


@pytest.fixture(scope="module")
def quantized(tmp_path_factory, small_folder):
    """The small model in int8, with the same data."""
    folder = tmp_path_factory.mktemp("quantized")
    model = load_model(small_folder / "model.onnx")
    calib, runtime = load_data(small_folder / "calib.npz", model.inputs), Runtime()
    layout = runtime.layout(runtime.session(model.original), calib, 64)
    (folder / "model.onnx").write_bytes(static_int8(model, calib, layout))
    for part in ("calib", "eval", "test"):
        shutil.copy(small_folder / f"{part}.npz", folder)
    return folder


def test_inspect_says_what_is_in_int8(quantized, capsys):
    assert run(["inspect", str(quantized)]) == 0
    printed = capsys.readouterr().out
    assert "stored" in printed and printed.count("int8") >= 1


@pytest.mark.slow
def test_designs_of_a_quantized_model_are_in_int8_and_beside_an_original_in_int8(
    quantized, small_space, shared_cache, tmp_path
):
    output = tmp_path / "out"
    options = {"--target": "riscv64", "--output": output, "--space": small_space, "--cache": shared_cache}
    words = [str(word) for pair in options.items() for word in pair]
    more = ("--budget", "8", "--keep", "1", "--max-drop", "60%", "--no-library", "--no-int8")
    assert run(["explore", str(quantized), *words, *more]) == 0
    document = json.loads((output / "front.json").read_text())
    explored = [layer for layer in document["layers"] if layer["kept_dense"] is None]
    assert explored and all(layer["storage"] == "int8" for layer in document["layers"])
    for layer in document["layers"]:
        weights, biases = layer["inputs"] * layer["outputs"], layer["params"] - layer["inputs"] * layer["outputs"]
        assert layer["weight_bytes"] == weights + 4 * layer["outputs"] + 4 * biases
    assert document["original"]["weight_bytes"] == sum(layer["weight_bytes"] for layer in document["layers"])
    for layer in explored:
        first, *rest = layer["options"]
        assert first["factorization"] == "dense" and first["weight_bytes"] == layer["weight_bytes"]
        assert rest and {option["storage"] for option in rest} == {"int8"}
    best = next(d for d in document["designs"] if d["id"] == document["recommended"])
    assert best["weight_bytes"] < document["original"]["weight_bytes"]
    path = output / "designs" / best["id"] / "model.onnx"
    large = [t for t in onnx.load(path).graph.initializer if np.prod(t.dims) > 100]
    assert large and all(t.data_type == onnx.TensorProto.INT8 for t in large)
    data = np.load(quantized / "test.npz")
    (name,) = set(data.files) - {"labels"}
    session = load_onnxruntime().InferenceSession(str(path))
    scores = session.run(None, {name: data[name]})[0]
    assert (scores.argmax(axis=1) == data["labels"]).mean() == pytest.approx(best["test_score"]["value"], abs=0.02)
