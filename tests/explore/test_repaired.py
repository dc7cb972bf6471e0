"""Dense int8 with a repair as a choice: where it is offered, what it takes, and an exploration that chooses it."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lrfdse.base.privacy import load_onnxruntime
from lrfdse.base.store import Store
from lrfdse.cli import run
from lrfdse.explore.layers.fits import FitRequest, open_fits
from lrfdse.explore.layers.latencies import measured_kernel
from lrfdse.explore.layers.repaired import repairs_of
from lrfdse.ir.choice import Choice
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.kernel import KernelSpec, RepairedSpec
from lrfdse.ir.storage import INT8
from lrfdse.meters.meter import open_meter
from lrfdse.model.data import Dataset
from lrfdse.model.graph import load_model
from lrfdse.targets.catalog import load_target

INPUTS, HIDDEN, CLASSES = 64, 48, 6


def features(folder, large):
    """Write a network of features of which four are so many times as large as the others, and its own answers."""
    rng = np.random.default_rng(0)
    sizes = np.concatenate([np.full(4, large), np.ones(INPUTS - 4)])
    first = (rng.standard_normal((HIDDEN, INPUTS)) / sizes).astype(np.float32)
    second = rng.standard_normal((CLASSES, HIDDEN)).astype(np.float32)
    bias = rng.standard_normal(HIDDEN).astype(np.float32)
    nodes = [
        helper.make_node("Gemm", ["x", "fc1.weight", "fc1.bias"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["a"]),
        helper.make_node("Gemm", ["a", "fc2.weight"], ["y"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "features",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", INPUTS])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", CLASSES])],
        [
            numpy_helper.from_array(array, name)
            for name, array in {"fc1.weight": first, "fc1.bias": bias, "fc2.weight": second}.items()
        ],
    )
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx"
    )
    for role, count in (("calib", 512), ("eval", 500), ("test", 500)):
        x = (rng.standard_normal((count, INPUTS)) * sizes).astype(np.float32)
        labels = (np.maximum(x @ first.T + bias, 0) @ second.T).argmax(axis=1)
        np.savez(folder / f"{role}.npz", x=x, **({} if role == "calib" else {"labels": labels}))
    return folder


def fits_of(folder, cache, calibrated=True):
    model = load_model(folder / "model.onnx")
    rows = np.load(folder / "calib.npz")["x"]
    data = Dataset({"x": rows}, None) if calibrated else None
    return model, open_fits(FitRequest("auto"), model, data, [layer.name for layer in model.layers], Store(cache))


def test_repairs_are_offered_where_rounding_costs_and_bytes_stay_low(tmp_path):
    model, fits = fits_of(features(tmp_path / "in", 300.0), tmp_path / "cache")
    first, last = model.layers
    # Of rank 32, the repair would take more than half precision; of the last layer no rank of these is low.
    assert repairs_of(first, fits) == [Factorization.repaired(HIDDEN, INPUTS, 8)]
    assert repairs_of(first, fits, ranks=(2, 8, 16, 32)) == [
        Factorization.repaired(HIDDEN, INPUTS, rank) for rank in (2, 8, 16)
    ]
    assert repairs_of(last, fits) == []
    lost = fits.errors(first, Choice(Factorization.dense(HIDDEN, INPUTS), INT8)).output_error
    assert repairs_of(first, fits, least=lost) and not repairs_of(first, fits, least=1.01 * lost)
    left = fits.errors(first, Choice(Factorization.repaired(HIDDEN, INPUTS, 8), INT8)).output_error
    assert left < 0.1 * lost


def test_nothing_is_offered_where_rounding_costs_little_or_nobody_knows(tmp_path):
    folder = features(tmp_path / "in", 1.0)
    for calibrated in (True, False):
        model, fits = fits_of(folder, tmp_path / "cache", calibrated)
        assert repairs_of(model.layers[0], fits) == []
        # The rest of what is asked is met.
        assert bool(repairs_of(model.layers[0], fits, least=0.0)) == calibrated


@pytest.mark.slow
def test_its_latency_is_that_of_the_operators_of_its_library():
    target = load_target("riscv64")
    meter, f = open_meter("model", target), Factorization.dense(96, 100)
    found = measured_kernel(RepairedSpec(96, 100, 8, 1, bias=True, relu=True), target, meter, tries=1)
    plain = measured_kernel(KernelSpec(96, 100, f, 1, True, True, INT8), target, meter, tries=1)
    assert found.measurement.max_error < 0.01
    assert len(found.schedule.split("|")) == 3
    assert plain.measurement.warm.us < found.measurement.warm.us < 4 * plain.measurement.warm.us


@pytest.fixture(scope="module")
def output(tmp_path_factory, small_space, shared_cache):
    folder = tmp_path_factory.mktemp("repaired")
    options = {"--target": "riscv64", "--output": folder / "out", "--space": small_space, "--cache": shared_cache}
    words = [str(word) for pair in options.items() for word in pair]
    more = ("--storage", "int8", "--budget", "16", "--keep", "2", "--max-drop", "2%")
    assert run(["explore", str(features(folder / "in", 300.0)), *words, *more]) == 0
    return folder / "out"


@pytest.fixture(scope="module")
def document(output):
    return json.loads((output / "front.json").read_text())


@pytest.mark.slow
def test_what_dense_int8_loses_is_recommended_with_a_repair(document, output):
    found = {design["id"]: design for design in (*document["designs"], *document["dominated"])}
    best = found[document["recommended"]]
    assert best["plan"]["fc1"] == {"factorization": "dense+r=8", "storage": "int8"}
    dense = next(design for design in found.values() if design["origin"] == "dense-int8")
    original = document["original"]
    assert best["eval_score"]["value"] > original["eval_score"]["value"] - 0.02
    assert dense["eval_score"]["value"] < original["eval_score"]["value"] - 0.02
    assert best["weight_bytes"] < 0.5 * original["weight_bytes"]
    layer = next(each for each in document["layers"] if each["name"] == "fc1")
    option = next(each for each in layer["options"] if each["factorization"] == "dense+r=8")
    choice = Choice.parse("dense+r=8@int8", HIDDEN, INPUTS)
    assert option["weight_bytes"] == choice.bytes + 4 * HIDDEN
    assert option["params"] == choice.factorization.params + HIDDEN


@pytest.mark.slow
def test_its_file_holds_these_bytes_and_scores_as_it_is_said_to(document, output):
    best = next(each for each in document["designs"] if each["id"] == document["recommended"])
    path = output / best["model"]
    proto = onnx.load(path)
    stored = {each.name: numpy_helper.to_array(each) for each in proto.graph.initializer}
    # A bias that corrections add to the second layer is counted where it is there.
    assert sum(array.nbytes for array in stored.values()) == best["weight_bytes"]
    assert {each.key: each.value for each in proto.metadata_props}["lrfdse.fc1"] == "dense+r=8@int8"
    arrays = np.load(output.parent / "in" / "test.npz")
    session = load_onnxruntime().InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    right = (session.run(None, {"x": arrays["x"]})[0].argmax(axis=1) == arrays["labels"]).mean()
    assert best["test_score"]["value"] == pytest.approx(float(right))
    # It has no kernel of its own, nor a program that times it.
    assert not list(path.parent.glob("kernels/fc1*")) and not (path.parent / "bench").exists()
    assert (path.parent / "library").is_dir()


@pytest.mark.slow
def test_export_check_and_reports_take_such_a_design(document, output, capsys):
    best = next(each for each in document["designs"] if each["id"] == document["recommended"])
    path = output / best["model"]
    before = path.read_bytes()
    path.unlink()
    assert run(["export", str(output), best["id"]]) == 0
    assert path.read_bytes() == before
    assert run(["check", str(output), "--max-size", str(best["weight_bytes"])]) == 0
    capsys.readouterr()
    assert run(["show", str(output)]) == 0
    shown = capsys.readouterr().out
    assert "dense+r=8@int8" in shown
    assert run(["report", str(output)]) == 0
    assert "dense+r=8" in (output / "report.html").read_text()
