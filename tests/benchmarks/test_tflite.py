"""The page on TensorFlow Lite and Keras: what runtimes compute in real numbers, and how far it is from the designs."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.tflite import SUBJECTS, Computed, difference, in_litert, in_onnxruntime, lines_of
from lrfdse.formats.onnx import file_content
from lrfdse.model.graph import load_model
from tests.formats.tflite_models import mlp


def test_what_litert_computes_is_what_was_read_of_the_file(tmp_path):
    pytest.importorskip("ai_edge_litert")
    path = tmp_path / "net.tflite"
    path.write_bytes(mlp(np.random.default_rng(0)))
    inputs = np.random.default_rng(1).standard_normal((3, 24)).astype(np.float32)
    found = in_litert(path.read_bytes(), inputs)
    reference = in_onnxruntime(file_content(load_model(path).original), inputs)
    assert [each.shape for each in found.outputs] == [(3, 10)] and found.steps == [0.0]
    assert difference(found, reference)["relative"] < 1e-5
    # Another model is told apart.
    path.write_bytes(mlp(np.random.default_rng(2)))
    assert difference(in_litert(path.read_bytes(), inputs), reference)["relative"] > 0.1


def test_levels_are_compared_in_steps():
    found = difference(
        Computed([np.array([[1.0, 0.0]]), np.array([[8.0]])], [0.5, 0.0]), [np.zeros((1, 2)), np.full((1, 1), 4.0)]
    )
    assert found == {"relative": 1.0, "steps": 2.0}


def test_the_page():
    subject = SUBJECTS["alexa.tflite"]
    shared = {"keras": None, "plan": {}}
    designs = [
        {
            "id": "original",
            "recommended": False,
            "bytes": 2048,
            "loss": 0.0,
            "litert": {"relative": 1e-7},
            "us": 12.5,
            **shared,
        },
        {
            "id": "ab",
            "recommended": True,
            "bytes": 1024,
            "loss": 0.01,
            "litert": {"relative": 0.1, "steps": 0.5},
            "us": None,
            **shared,
        },
    ]
    row = {
        "model": subject.name,
        "package": "p 1",
        "layers": 3,
        "explored": 2,
        "metric": "fidelity",
        "designs": designs,
    }
    lines = lines_of([row], {"date": "today"}, ["other: needs x"], "riscv64")
    assert "| alexa.tflite | p 1 | 2 of 3 | original | 2 | | 1.0e-07 | | 12.5 |" in lines
    assert "| | | | ab (recommended) | 1 | +1.00 | 0.50 steps | | |" in lines
    assert "Metrics: fidelity of alexa.tflite." in lines and "Not run: other: needs x." in lines
