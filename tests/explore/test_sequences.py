"""An embedding, an LSTM and a head from a file to its designs: one exploration, looked at from all sides."""

from __future__ import annotations

import json
import math

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from lrfdse.cli import run
from lrfdse.explore.layers.embeddings import embedding_model
from lrfdse.ir.kernel import EmbeddingSpec
from lrfdse.ir.storage import FLOAT32, INT8

SPACE = "summary = 'few designs'\nmax_compiled = 2\nmin_size = 12\n"

TABLE, WIDTH, CELLS, STEPS, CLASSES = 90, 24, 12, 5, 6


def low_rank(rng, rows, columns, rank=5):
    weight = rng.normal(size=(rows, rank)) @ rng.normal(size=(rank, columns)) / np.sqrt(rank)
    return (weight + 0.02 * rng.normal(size=(rows, columns))).astype(np.float32)


def write(folder):
    """Write model.onnx, and calib.npz, eval.npz and test.npz labelled by the model itself."""
    rng = np.random.default_rng(0)
    weights = {
        "words.weight": low_rank(rng, TABLE, WIDTH),
        "cells.weight": low_rank(rng, 4 * CELLS, WIDTH)[None] / 3,
        "cells.recurrent": (rng.normal(size=(1, 4 * CELLS, CELLS)) / 8).astype(np.float32),
        "cells.bias": (rng.normal(size=(1, 8 * CELLS)) / 8).astype(np.float32),
        "head.weight": rng.normal(size=(CLASSES, CELLS)).astype(np.float32),
        "first": np.array([0]),
    }
    nodes = [
        helper.make_node("Gather", ["words.weight", "i"], ["e"], name="words"),
        helper.make_node("Transpose", ["e"], ["t"], perm=[1, 0, 2]),
        helper.make_node(
            "LSTM", ["t", "cells.weight", "cells.recurrent", "cells.bias"], ["", "h"], hidden_size=CELLS, name="cells"
        ),
        helper.make_node("Squeeze", ["h", "first"], ["s"]),
        helper.make_node("Gemm", ["s", "head.weight"], ["y"], transB=1, name="head"),
    ]
    i = helper.make_tensor_value_info("i", TensorProto.INT64, ["n", STEPS])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", CLASSES])
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "g", [i], [y], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    for role in ("calib", "eval", "test"):
        numbers = rng.integers(0, TABLE, (150, STEPS))
        labels = {} if role == "calib" else {"labels": session.run(None, {"i": numbers})[0].argmax(axis=1)}
        np.savez(folder / f"{role}.npz", i=numbers, **labels)
    return folder


@pytest.fixture(scope="module")
def explored(tmp_path_factory, shared_cache):
    here = tmp_path_factory.mktemp("sequences")
    (here / "few.toml").write_text(SPACE)
    model = write(tmp_path_factory.mktemp("network"))
    options = ["--space", str(here / "few.toml"), "--budget", "8", "--keep", "2", "--no-int8", "--storage", "both"]
    where = ["--cache", str(shared_cache), "--output", str(here / "out"), "--max-drop", "20%"]
    assert run(["explore", str(model), "--target", "aarch64", *options, *where]) == 0
    return model, here / "out"


@pytest.fixture(scope="module")
def document(explored):
    return json.loads((explored[1] / "front.json").read_text())


@pytest.mark.slow
def test_layers_are_of_their_kinds(document):
    facts = {layer["name"]: layer for layer in document["layers"]}
    assert {name: (each["kind"], each["table"], each["params"]) for name, each in facts.items()} == {
        "words": ("embedding", TABLE, TABLE * WIDTH),
        "cells": ("recurrent", None, 4 * CELLS * WIDTH + 8 * CELLS),
        "head": ("fc", None, CLASSES * CELLS),
    }
    assert facts["cells"]["rows"] == STEPS
    assert facts["cells"]["options"][0]["flops"] == 2 * STEPS * 4 * CELLS * WIDTH
    assert facts["words"]["options"][0]["flops"] == 0
    (rest,) = document["untouched"]
    assert (rest["op"], rest["params"]) == ("LSTM", 4 * CELLS * CELLS)
    assert "fully-connected layers, recurrent inputs and embeddings" in document["latency"]["covers"]


@pytest.mark.slow
def test_every_option_was_run_and_counts_what_it_stores(document):
    for layer in document["layers"]:
        for option in layer["options"][1:]:
            assert 0 <= option["kernel_error"] <= 1e-4
            if option["factorization"] == "dense":
                continue
            rank = int(option["factorization"].removeprefix("svd:r="))
            side = layer["table"] or layer["inputs"]
            assert option["params"] <= rank * (side + layer["outputs"]) + 8 * CELLS
        for option in layer["options"]:
            assert 0 < option["latency"]["warm"]["us"] <= option["latency"]["cold"]["us"]
    lookup, *others = next(each for each in document["layers"] if each["name"] == "words")["options"]
    # A product behind the lookup is more than the lookup, and so are the scales of a table in int8.
    assert all(option["latency"]["warm"]["us"] > lookup["latency"]["warm"]["us"] for option in others)


@pytest.mark.slow
def test_tables_in_int8_are_choices_and_recurrent_inputs_are_not(document):
    found = {layer["name"]: layer["options"] for layer in document["layers"]}
    whole = next(o for o in found["words"] if (o["factorization"], o["storage"]) == ("dense", "int8"))
    assert (whole["params"], whole["weight_bytes"]) == (TABLE * WIDTH, TABLE * WIDTH + 4 * WIDTH)
    for option in found["words"]:
        if option["storage"] == "int8" and option["factorization"] != "dense":
            rank = int(option["factorization"].removeprefix("svd:r="))
            # The table and its scales, what makes rows of it, and what is added behind.
            assert option["weight_bytes"] == TABLE * rank + 4 * (rank + rank * WIDTH + WIDTH)
    assert {option["storage"] for option in found["cells"]} == {"float32"}


@pytest.mark.slow
def test_kept_models_score_and_hold_what_is_reported(document, explored):
    folder, output = explored
    test = np.load(folder / "test.npz")
    kept = [each for each in document["designs"] if each["model"]]
    assert {name for each in kept for name, of in each["plan"].items() if of["factorization"] != "dense"} >= {"cells"}
    recurrent = 4 * CELLS * CELLS
    for design in kept:
        path = output / design["model"]
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        found = session.run(None, {"i": test["i"]})[0].argmax(axis=1)
        assert (found == test["labels"]).mean() == pytest.approx(design["test_score"]["value"], abs=1 / 150)
        stored = onnx.load(path).graph.initializer
        sizes = {TensorProto.FLOAT: 4, TensorProto.INT8: 1}
        held = sum(math.prod(each.dims) * sizes.get(each.data_type, 0) for each in stored)
        assert held - 4 * recurrent == design["weight_bytes"]


@pytest.mark.slow
def test_the_whole_model_is_compiled_and_only_products_have_kernels(document, explored):
    _, output = explored
    folder = output / "designs" / document["recommended"]
    assert sorted(path.stem for path in (folder / "kernels").glob("*.o")) == ["cells", "head"]
    assert (folder / "library").is_dir() and not (folder / "bench").exists()
    operators = document["original"]["whole_model"]["operators"]
    named = {(each["layer"], each["op"]) for each in operators if each["layer"]}
    assert {("words", "Gather"), ("cells", "FullyConnected"), ("head", "FullyConnected")} == named
    assert "Recurrence" in {each["op"] for each in operators}


@pytest.mark.slow
def test_a_board_that_could_time_only_a_part_is_refused(explored, tmp_path, capsys):
    model, _ = explored
    options = ["--runner", "true", "--output", str(tmp_path / "out"), "--cache", str(tmp_path)]
    assert run(["explore", str(model), "--target", "aarch64", *options]) == 2
    assert "'words' is an embedding" in capsys.readouterr().err


def test_inspect_names_the_kinds(tmp_path, capsys):
    assert run(["inspect", str(write(tmp_path)), "--cache", str(tmp_path / "cache")]) == 0
    told = capsys.readouterr().out
    assert "embedding" in told and "recurrent input" in told and f"{TABLE} x {WIDTH}" in told


@pytest.mark.parametrize("rank", [None, 3])
@pytest.mark.parametrize("storage", [FLOAT32, INT8], ids=str)
def test_the_model_that_is_timed_is_the_lookup_and_the_product(rank, storage):
    made = embedding_model(EmbeddingSpec(50, 8, rank, 6, True, True, storage))
    onnx.checker.check_model(made, full_check=True)
    tensors = {each.name: numpy_helper.to_array(each) for each in made.graph.initializer}
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": np.arange(6) * 7})
    assert tensors["table"].dtype == storage.element
    rows = tensors["table"][np.arange(6) * 7] * tensors.get("scale", np.float32(1))
    wanted = (rows if rank is None else rows @ tensors["factor"]) + tensors["bias"]
    np.testing.assert_allclose(found, np.maximum(wanted, 0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("storage", ["fp16", "qdq"])
def test_a_storage_that_no_layer_takes_is_refused(storage, tmp_path, capsys):
    options = ["--layers", "embedding", "--storage", storage, "--output", str(tmp_path / "out")]
    assert run(["explore", str(write(tmp_path)), "--target", "aarch64", "--cache", str(tmp_path), *options]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert f"--storage {storage} is for fully-connected layers" in told and "has embeddings alone" in told
    assert not (tmp_path / "out").exists()
