"""The recurrent matrix of an LSTM from a file to its designs: factors in a Scan, and a recurrence of low rank in C."""

from __future__ import annotations

import json
import math

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from lrfdse.cli import run

pytestmark = pytest.mark.slow

SPACE = "summary = 'few designs'\nmax_compiled = 2\nmin_size = 12\n"
INPUTS, CELLS, STEPS, CLASSES = 6, 24, 5, 6


def write(folder):
    """Write a model whose recurrent matrix has four directions, and data that it labels itself."""
    rng = np.random.default_rng(0)
    recurrent = rng.normal(size=(4 * CELLS, 4)) @ rng.normal(size=(4, CELLS)) / 4
    weights = {
        "cells.weight": rng.normal(size=(1, 4 * CELLS, INPUTS)).astype(np.float32),
        "cells.recurrent": recurrent[None].astype(np.float32),
        "cells.bias": (rng.normal(size=(1, 8 * CELLS)) / 8).astype(np.float32),
        "head.weight": rng.normal(size=(CLASSES, CELLS)).astype(np.float32),
        "first": np.array([0]),
    }
    names = ["t", "cells.weight", "cells.recurrent", "cells.bias"]
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        helper.make_node("LSTM", names, ["", "h"], hidden_size=CELLS, name="cells"),
        helper.make_node("Squeeze", ["h", "first"], ["s"]),
        helper.make_node("Gemm", ["s", "head.weight"], ["y"], transB=1, name="head"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", STEPS, INPUTS])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", CLASSES])
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "g", [x], [y], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    for role in ("calib", "eval", "test"):
        samples = rng.normal(size=(200, STEPS, INPUTS)).astype(np.float32)
        labels = {} if role == "calib" else {"labels": session.run(None, {"x": samples})[0].argmax(axis=1)}
        np.savez(folder / f"{role}.npz", x=samples, **labels)
    return folder


@pytest.fixture(scope="module")
def explored(tmp_path_factory, shared_cache):
    here = tmp_path_factory.mktemp("states")
    (here / "few.toml").write_text(SPACE)
    model = write(tmp_path_factory.mktemp("network"))
    options = ["--space", str(here / "few.toml"), "--budget", "6", "--no-int8", "--layers", "fc,state"]
    where = ["--cache", str(shared_cache), "--output", str(here / "out"), "--max-drop", "5%"]
    assert run(["explore", str(model), "--target", "riscv64", *options, *where]) == 0
    return model, here / "out"


@pytest.fixture(scope="module")
def document(explored):
    return json.loads((explored[1] / "front.json").read_text())


@pytest.fixture(scope="module")
def best(document):
    return next(each for each in document["designs"] if each["id"] == document["recommended"])


def test_the_layer_turns_with_the_steps(document):
    facts = next(each for each in document["layers"] if each["kind"] == "state")
    assert (facts["inputs"], facts["outputs"], facts["rows"]) == (CELLS, 4 * CELLS, STEPS)
    assert facts["options"][0]["flops"] == 2 * STEPS * 4 * CELLS * CELLS
    assert all(0 <= option["kernel_error"] <= 1e-4 for option in facts["options"][1:])
    # The input's matrix is a layer that nobody asked for.
    assert [each["op"] for each in document["untouched"]] == ["MatMul"]


def test_what_is_recommended_runs_as_it_is_reported(document, best, explored):
    """Four directions are all that there is: no label changes, and the file holds that much less."""
    folder, output = explored
    assert best["plan"]["cells.recurrent"]["factorization"].startswith("svd:r=")
    path = output / best["model"]
    test = np.load(folder / "test.npz")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = session.run(None, {"x": test["x"]})[0].argmax(axis=1)
    assert (found == test["labels"]).mean() == pytest.approx(best["test_score"]["value"], abs=1 / 200)
    assert best["test_score"]["value"] > 0.95
    model = onnx.load(path)
    assert "Scan" in {node.op_type for node in model.graph.node}
    sizes = (
        sum(math.prod(each.dims) for each in file.graph.initializer if each.data_type == TensorProto.FLOAT)
        for file in (onnx.load(folder / "model.onnx"), model)
    )
    before, after = sizes
    rank = int(best["plan"]["cells.recurrent"]["factorization"].removeprefix("svd:r="))
    assert before - after == 4 * CELLS * CELLS - rank * 5 * CELLS > 0


def test_the_whole_model_is_a_recurrence_of_low_rank(document, best):
    named = {each["layer"] for each in document["original"]["whole_model"]["operators"] if each["op"] == "Recurrence"}
    assert named == {"cells.recurrent"}
    costs = []
    for design in (document["original"], best):
        operators = design["whole_model"]["operators"]
        (cell,) = (each for each in operators if each["op"] == "Recurrence")
        costs.append((cell["latency"]["warm"]["us"], cell["flash_bytes"]))
    assert costs[1][0] < costs[0][0] and costs[1][1] < costs[0][1]


def test_what_designs_take_as_a_whole_is_estimated_with_their_gates(document, best):
    """The kernel of the layer has no gates; a whole model that nobody compiled has them all the same."""
    estimated = best["latency"]["warm"]["us"] + document["latency"]["rest"]["us"]
    assert estimated == pytest.approx(best["whole_model"]["latency"]["warm"]["us"], rel=0.25)
