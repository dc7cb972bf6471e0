"""The benchmark of sequences on a small model: how layers share the weights, and what is counted."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest

from benchmarks.sequences import SHARES, accuracy, lines_of, shared, weights
from lrfdse.model.graph import load_model


@pytest.fixture
def model(make):
    rng = np.random.default_rng(0)
    arrays = {
        "t": rng.normal(size=(200, 40)).astype(np.float32),
        "w": rng.normal(size=(40, 60)).astype(np.float32),
        "v": rng.normal(size=(60, 3)).astype(np.float32),
    }
    text = "g (int64[n] i) => (float[n, 3] logits) { e = Gather (t, i)  a = MatMul (e, w)  logits = MatMul (a, v) }"
    return load_model(make(text, arrays))


def test_every_plan_keeps_to_what_all_may_have(model):
    assert weights(model.content) == 200 * 40 + 40 * 60 + 60 * 3
    explored = model.layers[:2]
    plans = shared(model, explored, 2600.0)
    # Ways to make a whole of two shares.
    assert len(plans) == sum(abs(a + b - 1) < 1e-9 for a, b in itertools.product(SHARES, repeat=2))
    for plan in plans:
        (table,), (inner,) = plan["t"].factorization.ranks, plan["w"].factorization.ranks
        assert plan["v"].is_original
        used = table * (200 + 40) + inner * (40 + 60)
        assert 2600 - 240 - 100 < used <= 2600


def test_accuracy_is_that_of_the_file(model, tmp_path):
    e, w, v = (onnx.numpy_helper.to_array(each) for each in model.proto.graph.initializer)
    scores = e[:50] @ w @ v
    labels = scores.argmax(axis=1)
    labels[:10] = (labels[:10] + 1) % 3
    np.savez(tmp_path / "part.npz", i=np.arange(50), labels=labels)
    assert accuracy(model.content, tmp_path / "part.npz") == pytest.approx(80.0)


def test_the_page_says_what_was_lost():
    row = {"model": "lstm", "seed": 1, "design": "SVD", "weights": 5000, "fewer": 4.1, "macs": 12000}
    row |= {"eval": 88.0, "test": 87.65, "lost": 0.351, "ranks": "front 2"}
    lines = lines_of([row], {"date": "today"}, 4.0)
    assert "| lstm | 1 | SVD | 5,000 | 4.10x | 12,000 | 88.00 % | 87.65 % | 0.35 | front 2 |" in lines
    assert any("4 times fewer" in line for line in lines)
