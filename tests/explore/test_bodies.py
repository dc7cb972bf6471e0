"""Layers in a loop and in a branch from a file to designs: one exploration, looked at from all sides."""

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
include = ["cell", "never"]
max_compiled = 2
min_size = 12"""

STEPS, READ, HELD, CLASSES = 5, 40, 40, 6

TEXT = f"""g (float[n, {STEPS}, {READ}] x, int64 mode) => (float[n, {CLASSES}] scores)
    <int64 turns = {{{STEPS}}}, bool go = {{1}}, int64 wide = {{1}}, int64[1] zero = {{0}},
    int64 last = {{{STEPS - 1}}}>
    {{ xt = Transpose <perm = [1, 0, 2]> (x)  s = Shape (x)  nb = Gather (s, zero)
    width = Constant <value_ints = [{HELD}]> ()  sh = Concat <axis = 0> (nb, width)  h0 = ConstantOfShape (sh)
    h = Loop (turns, go, h0) <body = step (int64 i, bool on, float[n, {HELD}] a) => (bool on2, float[n, {HELD}] a2)
        {{ on2 = Identity (on)  xi = Gather <axis = 0> (xt, i)  z = Concat <axis = 1> (xi, a)
        m = MatMul (z, cell)  a2 = Tanh (m) }}>
    end = Gather <axis = 0> (xt, last)  both = Concat <axis = 1> (end, h)  k = MatMul (both, twin)
    t = Equal (mode, wide)
    r = If (t) <
        then_branch = yes () => (float[n, {HELD}] p) {{ p = MatMul (k, never) }},
        else_branch = no () => (float[n, {HELD}] q) {{ q = Identity (k) }}>
    scores = MatMul (r, head) }}"""


def low_rank(rng, rows, columns, rank=3):
    weight = rng.normal(size=(rows, rank)) @ rng.normal(size=(rank, columns)) / np.sqrt(rows * rank)
    return (weight + 0.002 * rng.normal(size=(rows, columns))).astype(np.float32)


@pytest.fixture(scope="module")
def explored(tmp_path_factory, shared_cache):
    here, folder, rng = tmp_path_factory.mktemp("bodies"), tmp_path_factory.mktemp("network"), np.random.default_rng(0)
    weights = {
        "cell": low_rank(rng, READ + HELD, HELD),
        "twin": low_rank(rng, READ + HELD, HELD),
        "never": low_rank(rng, HELD, HELD),
        "head": rng.normal(size=(HELD, CLASSES)).astype(np.float32),
    }
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {TEXT}')
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    onnx.save(model, folder / "model.onnx")
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    for role in ("calib", "eval", "test"):
        x, mode = rng.normal(size=(60, STEPS, READ)).astype(np.float32), np.array(0)
        labels = {} if role == "calib" else {"labels": session.run(None, {"x": x, "mode": mode})[0].argmax(axis=1)}
        np.savez(folder / f"{role}.npz", x=x, mode=np.zeros(len(x), np.int64), **labels)
    (here / "few.toml").write_text(SPACE)
    options = ["--space", str(here / "few.toml"), "--budget", "4", "--keep", "1", "--no-int8", "--effort", "quick"]
    where = ["--cache", str(shared_cache), "--output", str(here / "out"), "--max-drop", "20%"]
    assert run(["explore", str(folder), "--target", "aarch64", *options, *where]) == 0
    return folder, here / "out", json.loads((here / "out/front.json").read_text())


@pytest.mark.slow
def test_a_branch_that_data_never_take_stays_as_it_is(explored):
    layers = {layer["name"]: layer for layer in explored[2]["layers"]}
    assert layers["never"]["kept_dense"] == "the calibration data never reach it inside of 'r'"
    assert layers["cell"]["kept_dense"] is None
    assert layers["cell"]["rows"] == STEPS and layers["twin"]["rows"] == 1


@pytest.mark.slow
def test_a_turn_takes_what_the_same_product_takes_outside(explored):
    layers = {layer["name"]: layer for layer in explored[2]["layers"]}
    cell, twin = (layers[name]["options"][0]["latency"] for name in ("cell", "twin"))
    assert cell["warm"]["us"] == pytest.approx(STEPS * twin["warm"]["us"], rel=1e-5)
    assert cell["cold"]["us"] == pytest.approx(twin["cold"]["us"] + (STEPS - 1) * twin["warm"]["us"], rel=1e-5)


@pytest.mark.slow
def test_designs_are_as_right_as_they_say(explored):
    folder, out, document = explored
    data = dict(np.load(folder / "test.npz"))
    recommended = next(each for each in document["designs"] if each["id"] == document["recommended"])
    assert recommended["plan"]["cell"]["factorization"] != "dense"
    path = out / "designs" / recommended["id"] / "model.onnx"
    onnx.checker.check_model(onnx.load(path), full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    right = [
        session.run(None, {"x": x[None], "mode": np.array(mode)})[0].argmax() == label
        for x, mode, label in zip(data["x"], data["mode"], data["labels"], strict=True)
    ]
    assert np.mean(right) == pytest.approx(recommended["test_score"]["value"], abs=1 / 60)


@pytest.mark.slow
def test_a_loop_is_no_program_yet_and_says_so(explored):
    assert any("Loop (control flow)" in note for note in explored[2]["notes"])


def test_a_board_is_refused_that_would_time_one_turn(tmp_path, shared_cache, capsys):
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {TEXT}')
    rng = np.random.default_rng(0)
    sizes = {"cell": (READ + HELD, HELD), "twin": (READ + HELD, HELD), "never": (HELD, HELD), "head": (HELD, CLASSES)}
    arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in sizes.items()}
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    onnx.save(model, tmp_path / "model.onnx")
    where = ["--cache", str(shared_cache), "--output", str(tmp_path / "out"), "--runner", "command:true"]
    (tmp_path / "few.toml").write_text(SPACE)
    where += ["--space", str(tmp_path / "few.toml")]
    assert run(["explore", str(tmp_path / "model.onnx"), "--target", "aarch64", *where]) == 2
    assert "'cell' is run in turns, in a loop" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
