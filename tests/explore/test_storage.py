"""Int8 as a choice of layers: one exploration with all storages, its document, its files, and who reads them."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

from lrfdse.base.privacy import load_onnxruntime
from lrfdse.cli import run
from lrfdse.ir.choice import Choice
from lrfdse.results.read import read_document

pytestmark = pytest.mark.slow
"""All of these read one exploration."""


@pytest.fixture(scope="module")
def output(tmp_path_factory, small_folder, small_space, shared_cache):
    folder = tmp_path_factory.mktemp("storage") / "out"
    options = {"--target": "riscv64", "--output": folder, "--space": small_space, "--cache": shared_cache}
    words = [str(word) for pair in options.items() for word in pair]
    more = ("--storage", "all", "--budget", "24", "--keep", "3", "--max-drop", "60%", "--no-int8", "--no-library")
    assert run(["explore", str(small_folder), *words, *more]) == 0
    return folder


@pytest.fixture(scope="module")
def document(output):
    return json.loads((output / "front.json").read_text())


def designs_of(document):
    return (*document["designs"], *document["dominated"], document["original"])


def test_every_candidate_is_there_in_every_storage_that_takes_it_with_its_bytes(document):
    explored = [layer for layer in document["layers"] if layer["kept_dense"] is None]
    assert explored
    for layer in explored:
        by_storage = {"float32": set(), "int8": set(), "qdq": set()}
        for option in layer["options"]:
            by_storage[option["storage"]].add(option["factorization"])
            text = option["factorization"] + ("" if option["storage"] == "float32" else f"@{option['storage']}")
            choice = Choice.parse(text, layer["outputs"], layer["inputs"])
            biases = option["params"] - choice.factorization.params
            assert option["weight_bytes"] == choice.bytes + 4 * biases
        failed = {(each["factorization"], each["storage"]) for each in layer["failures"]}
        assert by_storage["float32"] - by_storage["int8"] <= {name for name, _ in failed}
        assert len(by_storage["int8"]) > 3
        # Products of whole numbers are of one matrix or two.
        plain = {name for name in by_storage["int8"] if name == "dense" or name.startswith("svd:")}
        assert by_storage["qdq"] == plain and "dense" in plain and len(plain) > 3
        floats = {o["factorization"]: o for o in layer["options"] if o["storage"] == "float32"}
        for option in layer["options"]:
            if option["storage"] != "float32":
                # Rounding loses something, and little of it.
                assert option["output_error"] < floats[option["factorization"]]["output_error"] + 0.05


def test_a_design_takes_the_bytes_of_its_choices_and_scores_as_its_file_does(output, document, small_folder):
    layers = {layer["name"]: layer for layer in document["layers"]}
    mixed = 0
    for design in designs_of(document):
        options = [
            next(o for o in layers[name]["options"] if {k: o[k] for k in choice} == choice)
            for name, choice in design["plan"].items()
        ]
        assert design["weight_bytes"] == sum(option["weight_bytes"] for option in options)
        assert design["params"] == sum(option["params"] for option in options)
        whole = [choice for choice in design["plan"].values() if choice["storage"] != "float32"]
        if design["model"] is None or not whole:
            continue
        mixed += 1
        path = output / design["model"]
        proto = onnx.load(path)
        assert any(tensor.data_type == onnx.TensorProto.INT8 for tensor in proto.graph.initializer)
        arrays = np.load(small_folder / "test.npz")
        session = load_onnxruntime().InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
        right = (session.run(None, {"x": arrays["x"]})[0].argmax(axis=1) == arrays["labels"]).mean()
        assert design["test_score"]["value"] == pytest.approx(float(right))
        headers = list(path.parent.glob("kernels/*.h"))
        if len(headers) < len(layers):
            # Layers in whole numbers have no kernel of their own, nor is there a program to time the others by.
            assert len(headers) == sum(choice["storage"] != "qdq" for choice in design["plan"].values())
            assert not (path.parent / "bench").exists()
            continue
        stored = sum(each.stat().st_size for each in path.parent.glob("kernels/*.weights.bin"))
        assert design["weight_bytes"] <= stored < design["weight_bytes"] + 64 * 20 + design["weight_bytes"] / 2
    assert mixed


def test_the_smallest_design_is_of_int8_and_the_front_is_by_bytes(document):
    every = designs_of(document)
    least = min(every, key=lambda design: design["weight_bytes"])
    assert {choice["storage"] for choice in least["plan"].values()} & {"int8", "qdq"}
    front = [design for design in every if design["on_front"]]
    for one in front:
        for other in front:
            ahead = (
                other["weight_bytes"] < one["weight_bytes"],
                other["latency"][other["cache_regime"]]["us"] < one["latency"][one["cache_regime"]]["us"],
                other["eval_score"]["value"] > one["eval_score"]["value"],
            )
            assert one is other or not all(ahead)


def test_export_and_reports_take_such_designs(output, document):
    chosen = next(
        design
        for design in designs_of(document)
        if design["model"] and any(choice["storage"] == "int8" for choice in design["plan"].values())
    )
    headers = "\n".join(each.read_text() for each in (output / chosen["model"]).parent.glob("kernels/*.h"))
    assert "signed char" in headers and "@int8" in headers
    path = output / chosen["model"]
    before = path.read_bytes()
    path.unlink()
    assert run(["export", str(output), chosen["id"]]) == 0
    assert path.read_bytes() == before
    assert run(["show", str(output), "--max-size", str(chosen["weight_bytes"])]) == 0
    assert run(["check", str(output), "--max-size", str(document["original"]["weight_bytes"])]) == 0
    assert run(["report", str(output)]) == 0
    assert read_document(output).settings.storage == "all"
    page = (output / "report.html").read_text()
    assert "dense int8" in page and "dense qdq" in page


def test_the_baseline_in_whole_numbers_scores_as_its_file_does(output, document, small_folder):
    design = next(each for each in designs_of(document) if each["origin"] == "dense-qdq")
    assert run(["export", str(output), design["id"]]) == 0
    path = output / "designs" / design["id"] / "model.onnx"
    nodes = [node.op_type for node in onnx.load(path).graph.node]
    assert nodes.count("QuantizeLinear") == sum(choice["storage"] == "qdq" for choice in design["plan"].values()) > 0
    arrays = np.load(small_folder / "test.npz")
    session = load_onnxruntime().InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    right = (session.run(None, {"x": arrays["x"]})[0].argmax(axis=1) == arrays["labels"]).mean()
    assert design["test_score"]["value"] == pytest.approx(float(right))


def test_an_unknown_storage_is_refused_before_anything_runs(tmp_path, small_folder, capsys):
    words = ["--target", "riscv64", "--output", str(tmp_path / "out"), "--storage", "int4"]
    assert run(["explore", str(small_folder), *words]) == 2
    assert (
        "--storage takes float32, fp16, int8, both, qdq, all or some of them like float32,fp16, but got 'int4'"
        in capsys.readouterr().err
    )
    assert not (tmp_path / "out").exists()
