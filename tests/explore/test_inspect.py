"""What inspect says of layers, with and without calibration data."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

from lrfdse.cli import run


def rank_of(matrix):
    values = np.linalg.svd(matrix, compute_uv=False)
    share = values / values.sum()
    share = share[share > 1e-12]
    return np.exp(-(share * np.log(share)).sum())


def test_effective_ranks_of_inputs_and_outputs_are_those_of_the_activations(deep_folder, tmp_path, capsys):
    assert run(["inspect", str(deep_folder), "--json", "--cache", str(tmp_path)]) == 0
    first, second = json.loads(capsys.readouterr().out)["layers"][:2]
    x = np.load(deep_folder / "calib.npz")["x"].astype(np.float64)
    weights = {}
    for tensor in onnx.load(deep_folder / "model.onnx").graph.initializer:
        weights[tensor.name] = onnx.numpy_helper.to_array(tensor).astype(np.float64)
    hidden = np.maximum(x @ weights["fc1.weight"].T + weights["fc1.bias"], 0)
    for layer, read, weight in ((first, x, weights["fc1.weight"]), (second, hidden, weights["fc2.weight"])):
        centred = read - read.mean(axis=0)
        assert layer["spectra"]["inputs"]["effective_rank"] == pytest.approx(rank_of(centred), rel=2e-2)
        assert layer["spectra"]["whitened"]["effective_rank"] == pytest.approx(rank_of(centred @ weight.T), rel=2e-2)


def test_without_data_only_the_weights_are_told(deep_folder, tmp_path, capsys):
    assert run(["inspect", str(deep_folder / "model.onnx"), "--json", "--cache", str(tmp_path)]) == 0
    layers = json.loads(capsys.readouterr().out)["layers"]
    assert all(layer["spectra"]["inputs"] is None for layer in layers)
    assert run(["inspect", str(deep_folder / "model.onnx"), "--cache", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "working" in printed and "inputs" not in printed


def test_data_of_another_model_are_refused(deep_folder, tmp_path, capsys):
    np.savez(tmp_path / "calib.npz", z=np.zeros((4, 3), np.float32))
    model, data = str(deep_folder / "model.onnx"), str(tmp_path / "calib.npz")
    assert run(["inspect", model, "--calib", data, "--cache", str(tmp_path / "cache")]) == 2
    error = capsys.readouterr().err.strip()
    assert "calib.npz" in error and len(error.splitlines()) == 1


def test_a_layer_whose_input_never_varies_is_kept_with_the_reason(make, tmp_path, capsys):
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(size=(24, 20)).astype(np.float32) for name in ("w", "style")}
    text = """g (float[n, 24] x, float[n, 24] s) => (float[n, 20] y) {
        a = MatMul (x, w)  b = MatMul (s, style)  y = Add (a, b) }"""
    path = make(text, weights)
    np.savez(tmp_path / "calib.npz", x=rng.normal(size=(40, 24)).astype(np.float32), s=np.ones((40, 24), np.float32))
    options = ["--calib", str(tmp_path / "calib.npz"), "--json", "--cache", str(tmp_path / "cache")]
    assert run(["inspect", str(path), *options]) == 0
    kept = {layer["name"]: layer["kept_dense"] for layer in json.loads(capsys.readouterr().out)["layers"]}
    assert kept == {"w": None, "style": "what it reads never varies on the calibration data"}
