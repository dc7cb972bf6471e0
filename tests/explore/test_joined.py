"""Products of one input as a layer, from a file to designs: one exploration, looked at from all sides."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
from onnx import numpy_helper

from lrfdse.cli import run

SPACE = """summary = "few designs"
max_cores = 2
unit_modes = false
directions = ["rl"]
max_compiled = 2
min_size = 12"""

WIDE, CLASSES = 48, 6

TEXT = f"""g (float[n, 4, {WIDE}] x) => (float[n, 4, {CLASSES}] scores)
    {{ q = MatMul (x, query)  k0 = MatMul (x, key)  k = Add (k0, shift)  v = MatMul (x, value)
       t = Transpose <perm = [0, 2, 1]> (k)  e = MatMul (q, t)  p = Softmax <axis = -1> (e)  a = MatMul (p, v)
       scores = MatMul (a, head) }}"""


@pytest.fixture(scope="module")
def explored(tmp_path_factory, shared_cache):
    here, folder, rng = tmp_path_factory.mktemp("joined"), tmp_path_factory.mktemp("network"), np.random.default_rng(0)
    # What queries, keys and values read of the input lies in a few directions.
    read = rng.normal(size=(WIDE, 6)) / np.sqrt(WIDE)
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {TEXT}')
    for name, place in (("query", 0), ("key", 1), ("value", 3)):
        array = (read @ rng.normal(size=(6, WIDE)) / 3 + 0.001 * rng.normal(size=(WIDE, WIDE))).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
        model.graph.node[place].name = f"{name}_product"
    for name, shape in (("shift", (WIDE,)), ("head", (WIDE, CLASSES))):
        array = rng.normal(size=shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    onnx.save(model, folder / "model.onnx")
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    for role in ("calib", "eval", "test"):
        x = rng.normal(size=(60, 4, WIDE)).astype(np.float32)
        labels = {} if role == "calib" else {"labels": session.run(None, {"x": x})[0].argmax(axis=-1)}
        np.savez(folder / f"{role}.npz", x=x, **labels)
    (here / "few.toml").write_text(SPACE)
    options = ["--space", str(here / "few.toml"), "--budget", "4", "--keep", "1", "--no-int8", "--effort", "quick"]
    where = ["--cache", str(shared_cache), "--output", str(here / "out"), "--max-drop", "5%", "--layers", "fc,joint"]
    assert run(["explore", str(folder), "--target", "aarch64", *options, *where]) == 0
    return folder, here / "out", json.loads((here / "out/front.json").read_text())


@pytest.mark.slow
def test_the_joint_layer_is_compressed(explored):
    document = explored[2]
    (layer,) = [each for each in document["layers"] if each["kind"] == "joint"]
    assert (layer["name"], layer["inputs"], layer["outputs"]) == ("query-key-value", WIDE, 3 * WIDE)
    # Any chain can stand in its place, as in that of a fully-connected layer.
    stages = {each["stage"]: each["designs"] for each in layer["funnel"]["stages"]}
    assert stages["raw designs"] > min(WIDE, 3 * WIDE)
    recommended = next(each for each in document["designs"] if each["id"] == document["recommended"])
    choice = recommended["plan"]["query-key-value"]["factorization"]
    assert choice != "dense"
    assert recommended["params"] < 0.5 * 3 * WIDE * WIDE


@pytest.mark.slow
def test_its_design_is_as_right_as_it_says(explored):
    folder, out, document = explored
    data = dict(np.load(folder / "test.npz"))
    recommended = next(each for each in document["designs"] if each["id"] == document["recommended"])
    path = out / "designs" / recommended["id"] / "model.onnx"
    onnx.checker.check_model(onnx.load(path), full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    right = session.run(None, {"x": data["x"]})[0].argmax(axis=-1) == data["labels"]
    assert np.mean(right) == pytest.approx(recommended["test_score"]["value"], abs=1e-6)


@pytest.mark.slow
def test_whole_models_know_all_three_operators(explored):
    document = explored[2]
    recommended = next(each for each in document["designs"] if each["id"] == document["recommended"])
    original, best = document["original"]["whole_model"], recommended["whole_model"]
    assert [each["layer"] for each in original["operators"]].count("query-key-value") == 3
    assert best["weight_bytes"] < original["weight_bytes"]
    assert not any("no latency of whole models" in note for note in document["notes"])
