"""What an exploration says of whole models, from its settings to the library in the folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lrfdse.cli import run
from lrfdse.deploy.folders import mark, remove_other_designs
from lrfdse.explore.plans.trials import SearchRequest
from lrfdse.explore.requests import with_rest
from lrfdse.explore.whole import OriginalWhole, with_gates
from lrfdse.explore.whole_cost import cost_of, rest_of
from lrfdse.ir.latency import Latency
from lrfdse.ir.layer import Layer, Use
from lrfdse.library.facts import SCHEMA, LibraryFacts, MeterFacts, OperatorFacts
from lrfdse.library.folder import MANIFEST, clear_library, write_library
from lrfdse.results.settings import Limits

FLOAT, RANK, CLASSES = TensorProto.FLOAT, 3, 4


def took(us):
    return Latency(us, 0.9 * us, 1.1 * us)


def operator(nodes, us, macs=100, weights=400):
    return OperatorFacts("net_f", "FullyConnected", nodes, "s", macs, weights, 0, (), took(us), took(2 * us))


def facts(*operators):
    total = sum(each.warm.us for each in operators)
    return LibraryFacts(
        schema_version=SCHEMA,
        version="0",
        name="net",
        model="m.onnx",
        model_sha256="",
        target="riscv64",
        core="",
        inputs=(),
        outputs=(),
        arena_bytes=640,
        arena_bound=640,
        weight_bytes=900,
        weights_in="library",
        code_bytes=124,
        macs=200,
        operators=operators,
        meter=MeterFacts("model", "modelled", {}),
        warm=took(total),
        cold=took(2 * total),
        checked=True,
        max_error=0.0,
        tolerance=1e-4,
    )


def layer(name, *nodes):
    return Layer(name, 4, 4, tuple(Use(node, 1, False, False) for node in nodes), 0, "d")


def test_operators_are_those_of_layers_also_where_a_bias_was_joined():
    """A node whose name only begins like a layer's, and one without weights, are none of the layer's."""
    made = facts(
        operator(("fc1/MatMulAddFusion", "relu"), 30.0),
        operator(("fc10",), 10.0),
        operator(("fc2", "add"), 40.0),
        operator(("fc1/softmax",), 20.0, macs=0),
    )
    cost = cost_of(made, [layer("a", "fc1"), layer("b", "fc2", "fc3")], "designs/x/library")
    assert [each.layer for each in cost.operators] == ["a", None, "b", None]
    assert cost.share_of(["a"]) == (1, pytest.approx(0.3))
    assert cost.share_of(["a", "b"]) == (2, pytest.approx(0.7))
    assert cost.share_of(["a", "lost"]) is None
    assert (cost.flash_bytes, cost.code_bytes, cost.weight_bytes, cost.arena_bytes) == (1024, 124, 900, 640)
    assert (cost.meter, cost.kind, cost.library) == ("model", "modelled", "designs/x/library")
    assert cost.latency.warm.us == pytest.approx(100.0) and cost.latency.cold.us == pytest.approx(200.0)


def test_the_rest_is_what_no_layer_computes():
    made = facts(operator(("fc1",), 30.0), operator(("conv",), 60.0), operator(("fc2",), 10.0))
    layers = [layer("a", "fc1"), layer("b", "fc2")]
    rest, lost = rest_of(cost_of(made, layers, None), layers)
    assert (rest.us, rest.low_us, rest.high_us) == pytest.approx((60.0, 54.0, 66.0)) and not lost
    layers.append(layer("c", "fc3"))
    assert rest_of(cost_of(made, layers, None), layers) == (
        None,
        "no operator of the whole model is known to be layer c",
    )


def test_recurrences_are_the_products_of_layers_and_gates_that_stay():
    """Two directions of one node, in order; a third recurrence has a matrix that is no layer."""

    def recurrence(node, us):
        return OperatorFacts("net_f", "Recurrence", (node,), "s", 100, 400, 0, (), took(us), took(2 * us))

    def states(name, node):
        return Layer(name, 16, 4, (Use(node, 1, True, False, turns=5),), 0, "d", "state")

    made = facts(operator(("rnn",), 10.0), recurrence("rnn", 30.0), recurrence("rnn", 50.0), recurrence("other", 7.0))
    layers = [layer("w", "rnn"), states("forward", "rnn.state.0"), states("back", "rnn.state.1")]
    cost = cost_of(made, layers, None)
    assert [each.layer for each in cost.operators] == ["w", "forward", "back", None]
    rest, lost = rest_of(cost, layers)
    assert rest.us == pytest.approx(7.0) and not lost
    one = cost_of(facts(recurrence("rnn", 30.0), recurrence("rnn.state", 20.0)), [states("r", "rnn.state")], None)
    assert [each.layer for each in one.operators] == ["r", None]
    results = [
        SimpleNamespace(layer=layers[0], options=[SimpleNamespace(warm=took(9.0))]),
        SimpleNamespace(layer=layers[1], options=[SimpleNamespace(warm=took(20.0))]),
        SimpleNamespace(layer=layers[2], options=[SimpleNamespace(warm=took(55.0))]),
    ]
    found = with_gates(OriginalWhole(cost, rest), results)
    # Of the first direction 10 us are gates; a product that takes longer alone leaves none.
    assert found.rest.us == pytest.approx(17.0)
    assert found.rest.low_us <= found.rest.us <= found.rest.high_us


def test_a_limit_on_the_whole_model_is_one_on_its_layers():
    asked = SearchRequest(limits=Limits(max_latency_us=80.0, max_model_latency_us=100.0))
    assert with_rest(asked, 60.0).limits.max_latency_us == 40.0 and with_rest(asked, 60.0).rest_us == 60.0
    assert with_rest(asked, 10.0).limits.max_latency_us == 80.0
    assert with_rest(asked, None) == asked


def test_a_library_goes_and_files_of_others_stay(tmp_path):
    folder = tmp_path / "library"
    write_library(folder, {"net.h": b"", "net.json": b""}, "net.json")
    (folder / "mine.txt").write_text("")
    clear_library(folder)
    assert {path.name for path in folder.iterdir()} == {"mine.txt", MANIFEST}
    write_library(folder, {"net.h": b"", "net.json": b""}, "net.json")
    (folder / "mine.txt").unlink()
    clear_library(folder)
    assert not folder.exists()


def test_a_library_behind_a_link_is_not_touched(tmp_path):
    write_library(tmp_path / "elsewhere", {"net.h": b"", "net.json": b""}, "net.json")
    (tmp_path / "library").symlink_to(tmp_path / "elsewhere")
    clear_library(tmp_path / "library")
    assert (tmp_path / "elsewhere" / "net.h").exists()


@pytest.mark.parametrize("linked", [False, True])
def test_a_design_that_is_no_longer_kept_goes_with_its_library(linked, tmp_path):
    folder, elsewhere = tmp_path / "designs" / "aaaaaaaa", tmp_path / "elsewhere"
    folder.mkdir(parents=True)
    elsewhere.mkdir()
    (elsewhere / "net.h").write_text("")
    if linked:
        (folder / "library").symlink_to(elsewhere)
    else:
        elsewhere.rename(folder / "library")
    mark(folder, ["library/net.h"], exported=False)
    remove_other_designs(tmp_path / "designs", [])
    assert folder.exists() == linked == (elsewhere / "net.h").exists()


def low_rank(rng, outputs, inputs):
    """A matrix that three ranks hold almost whole."""
    found = rng.standard_normal((outputs, RANK)) @ rng.standard_normal((RANK, inputs)) / np.sqrt(inputs * RANK)
    return (found + 1e-4 * rng.standard_normal((outputs, inputs))).astype(np.float32)


def saved(folder, nodes, shape, weights, rng, opsets=()):
    """Write a model of `nodes` from x to y, and data that compressed versions hardly differ on."""
    folder.mkdir()
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", FLOAT, ["n", *shape])],
        [helper.make_tensor_value_info("y", FLOAT, ["n", CLASSES])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, folder / "model.onnx")
    for role in ("calib", "eval"):
        np.savez(folder / f"{role}.npz", x=rng.standard_normal((48, *shape)).astype(np.float32))
    return folder


RELU = [helper.make_node("Relu", ["a"], ["b"], name="relu")]
DETERMINANT = [
    helper.make_node("Unsqueeze", ["a", "last"], ["wide"], name="wider"),
    helper.make_node("Unsqueeze", ["wide", "last"], ["matrices"], name="square"),
    helper.make_node("Det", ["matrices"], ["b"], name="determinant"),
]
"""What onnxruntime runs and no library can."""


def mlp(folder, middle=RELU):
    rng = np.random.default_rng(0)
    weights = {"w1": low_rank(rng, 48, 64), "w2": low_rank(rng, CLASSES, 48)}
    if middle is DETERMINANT:
        weights["last"] = np.array([2])
    nodes = [
        helper.make_node("Gemm", ["x", "w1"], ["a"], name="fc1", transB=1),
        *middle,
        helper.make_node("Gemm", ["b", "w2"], ["y"], name="fc2", transB=1),
    ]
    return saved(folder, nodes, (64,), weights, rng)


def cnn(folder):
    rng = np.random.default_rng(1)
    kernel = rng.standard_normal((4, 1, 3, 3)).astype(np.float32) / 3
    weights = {"k": kernel, "w1": low_rank(rng, 48, 4 * 6 * 6), "w2": low_rank(rng, CLASSES, 48)}
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"], name="conv"),
        helper.make_node("Relu", ["c"], ["r"], name="relu1"),
        helper.make_node("Flatten", ["r"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "w1"], ["a"], name="fc1", transB=1),
        helper.make_node("Relu", ["a"], ["b"], name="relu2"),
        helper.make_node("Gemm", ["b", "w2"], ["y"], name="fc2", transB=1),
    ]
    return saved(folder, nodes, (1, 8, 8), weights, rng)


def explore(folder, output, space, cache, *more):
    limits = ["--max-drop", "40%", "--budget", "8", "--keep", "1"]
    words = ["--target", "riscv64", "--output", output, "--space", space, "--cache", cache, *limits, *more]
    assert run(["explore", str(folder), *map(str, words)]) == 0
    return json.loads((output / "front.json").read_text())


def design_of(document, identity):
    return next(each for each in (*document["designs"], *document["dominated"]) if each["id"] == identity)


@pytest.mark.slow
@pytest.mark.parametrize("build", [mlp, cnn])
def test_an_exploration_ends_with_whole_models(build, small_space, shared_cache, tmp_path, capsys):
    model, output = build(tmp_path / "net"), tmp_path / "out"
    document = explore(model, output, small_space, shared_cache)
    best = design_of(document, document["recommended"])
    costs = {"original": document["original"]["whole_model"], "best": best["whole_model"]}
    assert best["id"] != document["original"]["id"]
    for cost in costs.values():
        assert (cost["meter"], cost["kind"]) == ("model", "modelled")
        assert cost["flash_bytes"] == cost["code_bytes"] + cost["weight_bytes"]
        assert 0 < cost["latency"]["warm"]["us"] <= cost["latency"]["cold"]["us"]
        parts = sum(each["latency"]["warm"]["us"] for each in cost["operators"])
        assert 0 < parts <= cost["latency"]["warm"]["us"] * (1 + 1e-6)
    assert costs["best"]["weight_bytes"] < costs["original"]["weight_bytes"]
    layers = [each["layer"] for each in costs["original"]["operators"] if each["layer"]]
    assert len(layers) == 2 and (build is mlp or costs["original"]["operators"][0]["layer"] is None)
    listed = {document["original"]["id"], best["id"], document["svd_at_equal_size"]}
    for each in (*document["designs"], *document["dominated"]):
        assert (each["whole_model"]["latency"]["warm"] is not None) == (each["id"] in listed)
    rest = document["latency"]["rest"]["us"]
    taken = sum(each["latency"]["warm"]["us"] for each in costs["original"]["operators"] if each["layer"])
    assert rest == pytest.approx(costs["original"]["latency"]["warm"]["us"] - taken)
    for each in (document["original"], *document["designs"], *document["dominated"]):
        charged = each["latency"][each["cache_regime"]]["us"]
        assert each["whole_model"]["estimated"]["us"] == pytest.approx(rest + charged, rel=1e-5)
    # Kernels were metered alone, with caches of their own; of a microsecond, calls are a large part.
    assert best["whole_model"]["estimated"]["us"] == pytest.approx(costs["best"]["latency"]["warm"]["us"], rel=0.5)
    library = output / costs["best"]["library"]
    said = json.loads((library / "net.json").read_text())
    assert said["warm"]["us"] == pytest.approx(costs["best"]["latency"]["warm"]["us"])
    assert said["arena_bytes"] == costs["best"]["arena_bytes"] and said["checked"] and said["max_error"] < 1e-4
    found = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    ran = subprocess.run(["make", "-C", str(library), "check"], env=found, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert sum(line.startswith("Whole model ") for line in capsys.readouterr().out.splitlines()) == 1
    limit = costs["best"]["latency"]["warm"]["us"]
    checked = ["check", str(output), "--strict", "--max-model-latency"]
    assert run([*checked, f"{1.01 * limit}us"]) == 0
    assert run([*checked, f"{0.99 * limit}us"]) == 1
    assert run(["show", str(output), "--max-model-latency", f"{rest}us"]) == 3
    assert run(["show", str(output), "--max-model-latency", "1s"]) == 0
    assert f"> {best['id']}" in capsys.readouterr().out
    kept = {path.name for path in library.iterdir()}
    assert explore(model, output, small_space, shared_cache) == document
    assert {path.name for path in library.iterdir()} == kept
    words = ["explore", str(model), "--target", "riscv64", "-o", str(tmp_path / "other"), "--max-model-latency"]
    assert run([*words, f"{0.5 * rest}us", "--cache", str(shared_cache)]) == 2
    assert "everything but the fully-connected layers takes" in capsys.readouterr().err
    assert run([*words, "1s", "--no-library", "--cache", str(shared_cache)]) == 2
    assert "leave --no-library out" in capsys.readouterr().err
    left = explore(model, output, small_space, shared_cache, "--no-library")
    assert left["original"]["whole_model"]["latency"]["warm"] is None and not (library / "net.json").exists()
    assert left["recommended"] == best["id"] and {"example"} <= {path.name for path in library.iterdir()}
    assert explore(model, output, small_space, shared_cache) == document
    assert (library / "net.json").exists()


@pytest.mark.slow
def test_a_model_that_cannot_be_compiled_whole_is_explored_all_the_same(small_space, shared_cache, tmp_path):
    document = explore(mlp(tmp_path / "net", DETERMINANT), tmp_path / "out", small_space, shared_cache)
    (note,) = (each for each in document["notes"] if "whole model" in each)
    assert "Det" in note and "determinant" in note and str(tmp_path) not in note
    assert document["recommended"] is not None
    assert document["original"]["whole_model"]["latency"]["warm"] is None
    assert not list((tmp_path / "out").glob("designs/*/library"))
