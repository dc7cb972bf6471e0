"""Half precision as a choice of layers: one exploration, its files, and targets that cannot widen it."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

from lrfdse.base.privacy import load_onnxruntime
from lrfdse.cli import run
from lrfdse.ir.choice import Choice

STORED = ("float32", "fp16")


@pytest.fixture(scope="module")
def output(tmp_path_factory, small_folder, small_space, shared_cache):
    folder = tmp_path_factory.mktemp("half") / "out"
    options = {"--target": "riscv64", "--output": folder, "--space": small_space, "--cache": shared_cache}
    words = [str(word) for pair in options.items() for word in pair]
    more = ("--storage", "float32,fp16", "--budget", "10", "--keep", "3", "--max-drop", "60%")
    assert run(["explore", str(small_folder), *words, *more, "--no-int8", "--no-library"]) == 0
    return folder


@pytest.fixture(scope="module")
def document(output):
    return json.loads((output / "front.json").read_text())


@pytest.mark.slow
def test_candidates_take_two_bytes_a_weight_and_lose_as_little_as_in_float32(document):
    explored = [layer for layer in document["layers"] if layer["kept_dense"] is None]
    assert explored
    for layer in explored:
        floats, halves = ({o["factorization"]: o for o in layer["options"] if o["storage"] == s} for s in STORED)
        assert set(floats) == set(halves) and len(halves) > 3
        for name, half in halves.items():
            choice = Choice.parse(f"{name}@fp16", layer["outputs"], layer["inputs"])
            assert choice.bytes == 2 * choice.factorization.params
            assert half["weight_bytes"] == choice.bytes + 4 * (half["params"] - choice.factorization.params)
            assert half["output_error"] == pytest.approx(floats[name]["output_error"], abs=1e-3)


@pytest.mark.slow
def test_files_hold_float16_and_score_as_the_document_says(output, document, small_folder, capsys):
    design = next(each for each in document["designs"] if each["origin"] == "dense-fp16")
    assert run(["export", str(output), design["id"]]) == 0
    folder = output / "designs" / design["id"]
    stored = [each.data_type for each in onnx.load(folder / "model.onnx").graph.initializer]
    halves = sum(choice["storage"] == "fp16" for choice in design["plan"].values())
    assert stored.count(onnx.TensorProto.FLOAT16) == halves > 0
    arrays = np.load(small_folder / "test.npz")
    session = load_onnxruntime().InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    right = (session.run(None, {"x": arrays["x"]})[0].argmax(axis=1) == arrays["labels"]).mean()
    assert design["test_score"]["value"] == pytest.approx(float(right))
    headers = "\n".join(each.read_text() for each in folder.glob("kernels/*.h"))
    assert "const unsigned short *restrict w0" in headers
    assert "Also Zfhmin and Zvfhmin, by which" in " ".join(headers.replace("\n *", " ").split())
    assert "Zfhmin and Zvfhmin" in (folder / "kernels.txt").read_text()
    assert "dense fp16" in (output / "report.html").read_text()
    assert run(["check", str(output), "--max-size", str(document["original"]["weight_bytes"])]) == 0


@pytest.mark.slow
def test_the_library_keeps_two_bytes_a_weight(output, document, tmp_path, capsys):
    design = next(each for each in document["designs"] if each["origin"] == "dense-fp16")
    assert run(["export", str(output), design["id"]]) == 0
    model = output / "designs" / design["id"] / "model.onnx"
    capsys.readouterr()
    assert run(["build", str(model), "--target", "riscv64", "--meter", "none", "-o", str(tmp_path / "made")]) == 0
    assert "differ from onnxruntime's" in capsys.readouterr().out
    facts = json.loads((tmp_path / "made" / "net.json").read_text())
    # Constants begin at lines of the cache.
    assert design["weight_bytes"] <= facts["weight_bytes"] < design["weight_bytes"] + 64 * 20
    header = (tmp_path / "made" / "net.h").read_text()
    assert "Also Zfhmin and Zvfhmin, by which" in " ".join(header.replace("\n *", " ").split())


@pytest.mark.parametrize("target", ["riscv64-u74", "riscv64-p670", "riscv64-c908"])
def test_a_target_that_cannot_widen_it_is_refused_before_anything_runs(tmp_path, small_folder, capsys, target):
    words = ["--target", target, "--output", str(tmp_path / "out"), "--storage", "both,fp16"]
    assert run(["explore", str(small_folder), *words]) == 2
    error = capsys.readouterr().err
    assert f"--storage both,fp16: target {target} has no instruction that makes float32 of float16" in error
    assert not (tmp_path / "out").exists()
