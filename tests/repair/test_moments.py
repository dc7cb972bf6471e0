"""Moments that tie the original model to a compressed one, against float64 sums over all rows at once."""

from __future__ import annotations

import numpy as np
import pytest

from lrfdse.model.data import Dataset
from lrfdse.model.graph import load_model
from lrfdse.model.passes.cut import levels
from lrfdse.model.passes.factor import rewrite
from lrfdse.repair.moments import KEPT, moments


def check(found, rows, outputs):
    """Compare with centred moments of rows read and original outputs, both of shape (count, size)."""
    rows, outputs = rows.astype(np.float64), outputs.astype(np.float64)
    x, y = rows - rows.mean(axis=0), outputs - outputs.mean(axis=0)
    assert found.count == len(rows)
    np.testing.assert_allclose(found.mean, rows.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(found.covariance, x.T @ x / len(x), atol=1e-3)
    np.testing.assert_allclose(found.cross, y.T @ x / len(x), atol=1e-3)
    np.testing.assert_allclose(found.output_mean, outputs.mean(axis=0), atol=1e-4)
    assert found.output_variance == pytest.approx((y**2).sum() / len(y), rel=1e-4)


@pytest.mark.parametrize("batch", [7, 64])
@pytest.mark.parametrize("sizes", [(12, 8, 5), (12, 8, 20)])
def test_cross_moments(make, kit, sizes, batch):
    rng = np.random.default_rng(1)
    inputs, hidden, outputs = sizes
    w1, b1 = rng.normal(size=(hidden, inputs)).astype(np.float32), rng.normal(size=hidden).astype(np.float32)
    w2 = rng.normal(size=(outputs, hidden)).astype(np.float32)
    text = f"""g (float[n, {inputs}] x) => (float[n, {outputs}] y) {{
        a = Gemm <transB = 1> (x, v1, c1)  h = Relu (a)  y = Gemm <transB = 1> (h, v2) }}"""
    model = load_model(make(text, {"v1": w1, "c1": b1, "v2": w2}))
    factors = kit.svd_factors(w1.astype(np.float64), 2)
    x = rng.normal(size=(50, inputs)).astype(np.float32)
    found = moments(model, Dataset({"x": x}, None), batch=batch, version=rewrite(model, {"v1": factors}), cross=True)
    low = kit.reconstruct(factors, hidden, inputs)
    check(found["v1"], x, x @ w1.T)
    check(found["v2"], np.maximum(x @ low.T + b1, 0), np.maximum(x @ w1.T + b1, 0) @ w2.T)


def test_cross_moments_pool_uses_and_positions(make, kit):
    rng = np.random.default_rng(1)
    square = rng.normal(size=(6, 6)).astype(np.float32)
    text = "g (float[n, 3, 6] x) => (float[n, 3, 6] y) { a = MatMul (x, w)  h = Relu (a)  y = MatMul (h, w) }"
    model = load_model(make(text, {"w": square}))
    x = rng.normal(size=(5, 3, 6)).astype(np.float32)
    factors = kit.svd_factors(model.weight("w"), 2)
    found = moments(model, Dataset({"x": x}, None), version=rewrite(model, {"w": factors}), cross=True)["w"]
    low, flat = kit.reconstruct(factors, 6, 6).T, x.reshape(-1, 6)
    read = np.concatenate([flat, np.maximum(flat @ low, 0)])
    check(found, read, np.concatenate([flat, np.maximum(flat @ square, 0)]) @ square)


def test_without_a_rewritten_form_targets_are_the_layers_own(mlp):
    model = load_model(mlp)
    data = Dataset({"x": np.random.default_rng(0).normal(size=(40, 12)).astype(np.float32)}, None)
    plain, crossed = moments(model, data), moments(model, data, cross=True)
    for name, seen in crossed.items():
        np.testing.assert_array_equal(seen.second, plain[name].second)
        np.testing.assert_allclose(seen.cross, model.weight(name) @ seen.covariance, atol=1e-9)
        assert plain[name].cross is None


@pytest.mark.parametrize("count", [40, 3 * KEPT])
def test_some_rows_are_kept_whatever_the_batches(mlp, count):
    model = load_model(mlp)
    data = Dataset({"x": np.random.default_rng(0).normal(size=(count, 12)).astype(np.float32)}, None)
    first, other = (moments(model, data, batch=batch) for batch in (64, 7))
    for name, seen in first.items():
        assert seen.rows.dtype == np.float32 and len(seen.rows) == min(count, KEPT)
        np.testing.assert_allclose(seen.rows, other[name].rows, atol=1e-6)
    # Each is one of those that were read, none twice, and they are from all over.
    read, kept = data.inputs["x"], first[model.layers[0].name].rows
    places = [int(np.flatnonzero((read == row).all(axis=1))[0]) for row in kept]
    assert len(set(places)) == len(kept) and places == sorted(places)
    assert places[0] < count / 16 and places[-1] > count * 15 / 16


def test_levels_follow_the_graph(make):
    weights = {name: np.eye(4, dtype=np.float32) * k for k, name in enumerate("qkvof", 1)}
    text = """g (float[n, 4] x) => (float[n, 4] y) {
        a = MatMul (x, q)  b = MatMul (x, k)  c = MatMul (x, v)
        d = Add (a, b)  e = Add (d, c)  s = MatMul (e, o)  r = Add (s, x)  y = MatMul (r, f) }"""
    model = load_model(make(text, weights))

    def groups(names):
        return levels(
            model.original,
            {name: [s.source for s in model.sites[name]] for name in names},
            {name: [s.output for s in model.sites[name]] for name in names},
        )

    assert groups("qkvof") == [["q", "k", "v"], ["o"], ["f"]]
    assert groups("fq") == [["q"], ["f"]]
    assert groups("") == []


def test_layers_that_read_the_same_share_moments_in_any_number_of_threads(make):
    rng = np.random.default_rng(2)
    weights = {name: rng.normal(size=(6, 6)).astype(np.float32) for name in ("q", "k", "v", "o")}
    text = """g (float[n, 3, 6] x) => (float[n, 3, 6] y) {
        a = MatMul (x, q)  b = MatMul (x, k)  c = MatMul (x, v)  d = Add (a, b)  e = Mul (d, c)  y = MatMul (e, o) }"""
    model = load_model(make(text, weights))
    data = Dataset({"x": rng.normal(size=(50, 3, 6)).astype(np.float32)}, None)
    found = moments(model, data, threads=2)
    assert found["q"] is found["k"] is found["v"] and found["o"] is not found["q"]
    for name, seen in found.items():
        alone = moments(model, data, [name])[name]
        np.testing.assert_array_equal(seen.second, alone.second)
        np.testing.assert_array_equal(seen.mean, alone.mean)
        np.testing.assert_array_equal(seen.rows, alone.rows)
    rows = data.inputs["x"].reshape(-1, 6).astype(np.float64)
    np.testing.assert_allclose(found["v"].second, rows.T @ rows / len(rows), rtol=1e-12)
    middle = (rows @ weights["q"] + rows @ weights["k"]) * (rows @ weights["v"])
    np.testing.assert_allclose(found["o"].second, middle.T @ middle / len(middle), rtol=1e-4)
