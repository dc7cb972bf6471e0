"""The sequence models that the benchmark trains: their ONNX form against NumPy with the gates in Keras' order."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(scope="module")
def scripts():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPTS)
        yield importlib.import_module("train_sequences")


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(x, inputs, recurrent, bias):
    """Return the last state; Keras orders the gates i, f, c, o (keras.layers.LSTMCell)."""
    state = cell = np.zeros((len(x), len(recurrent)))
    for step in range(x.shape[1]):
        i, f, c, o = np.split(x[:, step] @ inputs + state @ recurrent + bias, 4, axis=1)
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(c)
        state = sigmoid(o) * np.tanh(cell)
    return state


def gru(x, inputs, recurrent, bias):
    """Return the last state; Keras orders the gates z, r, h, and resets after the product (keras.layers.GRUCell)."""
    state = np.zeros((len(x), len(recurrent)))
    for step in range(x.shape[1]):
        of_x = np.split(x[:, step] @ inputs + bias[0], 3, axis=1)
        of_state = np.split(state @ recurrent + bias[1], 3, axis=1)
        z, r = (sigmoid(a + b) for a, b in zip(of_x[:2], of_state[:2], strict=True))
        state = z * state + (1 - z) * np.tanh(of_x[2] + r * of_state[2])
    return state


@pytest.mark.parametrize(("name", "cell", "gates"), [("lstm", lstm, 4), ("gru", gru, 3)])
def test_cells_compute_what_keras_does(scripts, name, cell, gates):
    rng = np.random.default_rng(0)
    s = scripts

    def normal(*shape):
        return (rng.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32)

    bias = normal(gates * s.CELLS) if name == "lstm" else normal(2, gates * s.CELLS)
    weights = [normal(s.WIDTH, s.HIDDEN), normal(s.HIDDEN), normal(s.HIDDEN, gates * s.CELLS)]
    weights += [normal(s.CELLS, gates * s.CELLS), bias, normal(s.CELLS, s.CLASSES), normal(s.CLASSES)]
    model = s.written_cells(name, weights)
    x = rng.random((3, s.STRIPS, s.WIDTH)).astype(np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"strips": x})
    front, front_bias, inputs, recurrent, cell_bias, head, head_bias = (w.astype(np.float64) for w in weights)
    state = cell(np.maximum(x @ front + front_bias, 0), inputs, recurrent, cell_bias)
    np.testing.assert_allclose(logits, state @ head + head_bias, atol=1e-5)


def test_texts_of_the_parts_are_different_paragraphs(scripts, tmp_path):
    file = tmp_path / "module.py"
    file.write_text(
        '"""One line of five short words.\n\nToo short.\n"""\n\n# a comment of more words than five\nx = 1\n'
    )
    assert scripts.paragraphs(file) == [
        ["one", "line", "of", "five", "short", "words"],
        ["comment", "of", "more", "words", "than", "five"],
    ]
