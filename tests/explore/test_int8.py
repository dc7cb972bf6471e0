"""Int8 forms of an exploration: what is written is what was scored, and files are gone where none are wanted."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

from lrfdse.base.privacy import load_onnxruntime
from lrfdse.cli import run


@pytest.fixture(scope="module")
def folders(tmp_path_factory, small_folder, small_space, shared_cache):
    """A function that explores the small model into a folder."""
    output = tmp_path_factory.mktemp("int8") / "out"

    def explored(*more, data=True, where=output):
        model = small_folder if data else small_folder / "model.onnx"
        options = {"--target": "riscv64", "--output": where, "--space": small_space, "--cache": shared_cache}
        words = [str(word) for pair in options.items() for word in pair]
        run(["explore", str(model), *words, "--budget", "24", "--keep", "2", "--max-drop", "60%", *more])
        return where, json.loads((where / "front.json").read_text())

    return explored


def accuracy(path, file):
    arrays = np.load(file)
    session = load_onnxruntime().InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return float((session.run(None, {"x": arrays["x"]})[0].argmax(axis=1) == arrays["labels"]).mean())


@pytest.mark.slow
def test_every_design_that_is_kept_has_an_int8_file_of_the_bytes_and_scores_in_the_document(folders, small_folder):
    output, document = folders()
    designs = {d["id"]: d for d in (*document["designs"], *document["dominated"], document["original"])}
    kept = [design for design in designs.values() if design["model"]]
    assert len(kept) >= 2
    for design in kept:
        facts = design["int8"]
        path = output / facts["model"]
        assert path == output / "designs" / design["id"] / "model.int8.onnx"
        assert path.stat().st_size == facts["int8_bytes"] < facts["float_bytes"]
        assert (output / design["model"]).stat().st_size == facts["float_bytes"]
        assert {t.data_type for t in onnx.load(path).graph.initializer} >= {onnx.TensorProto.INT8}
        assert facts["eval_score"]["value"] == pytest.approx(accuracy(path, small_folder / "eval.npz"))
        assert facts["test_score"]["value"] == pytest.approx(accuracy(path, small_folder / "test.npz"))
    assert document["original"]["int8"]["float_bytes"] > document["original"]["int8"]["int8_bytes"]
    assert document["int8_baseline"]["test_score"]["value"] > 0.5
    assert document["settings"]["int8"] is True


@pytest.mark.slow
def test_export_makes_the_same_int8_file_again(folders):
    output, document = folders()
    best = next(d for d in document["designs"] if d["id"] == document["recommended"])
    path = output / best["int8"]["model"]
    before = path.read_bytes()
    path.unlink()
    assert run(["export", str(output), best["id"]]) == 0
    assert path.read_bytes() == before


@pytest.mark.slow
def test_no_int8_leaves_none_not_even_of_an_earlier_run(folders):
    output, document = folders("--no-int8")
    assert list(output.rglob("model.int8.onnx")) == [] and list(output.rglob("model.onnx"))
    assert document["original"]["int8"] is None and document["int8_baseline"] is None


@pytest.mark.slow
def test_without_data_bytes_are_known_and_scores_are_not(folders, tmp_path):
    _, document = folders("--accept-unverified", data=False, where=tmp_path / "blind")
    facts = document["original"]["int8"]
    assert facts["int8_bytes"] < facts["float_bytes"]
    assert facts["eval_score"] is None and facts["test_score"] is None
    assert document["int8_baseline"] is None, "without calibration data, ranges of activations are not known"
