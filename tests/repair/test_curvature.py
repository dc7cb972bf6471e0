"""Output weightings against the analytic formula and against finite differences in float64."""

from __future__ import annotations

import numpy as np
import pytest

from lrfdse.errors import InputError
from lrfdse.model.data import Dataset, random_data
from lrfdse.model.graph import load_model
from lrfdse.model.runtime import Layout, Runtime
from lrfdse.model.samples import Place, Rows
from lrfdse.quality.divergence import divergences, evenly_spread, scores_of, softmax
from lrfdse.quality.objective import OutputLoss, SideBySide, names_of, objective_for
from lrfdse.repair.curvature import compute_weightings, within_reach
from lrfdse.repair.downstream import BACKWARD, DownstreamModel
from lrfdse.repair.observe import observe

RNG = np.random.default_rng(5)
W1, B1 = RNG.normal(size=(8, 12)).astype(np.float32) / 3, RNG.normal(size=8).astype(np.float32) / 3
W2, B2 = RNG.normal(size=(5, 8)).astype(np.float32), RNG.normal(size=5).astype(np.float32)
WEIGHTS = {"v1": W1, "c1": B1, "v2": W2, "c2": B2}


def network(activation, chances=False):
    end = "y = Softmax (z)" if chances else "y = Identity (z)"
    return f"""g (float[n, 12] x) => (float[n, 5] y) {{
        a = Gemm <transB = 1> (x, v1, c1)
        h = {activation} (a)
        z = Gemm <transB = 1> (h, v2, c2)
        {end}
    }}"""


def curvature(scores, loss):
    """Return F of every sample."""
    size = scores.shape[1]
    if loss == "squared":
        return np.broadcast_to(np.eye(size), (len(scores), size, size))
    chances = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return chances[:, :, None] * np.eye(size) - chances[:, :, None] * chances[:, None, :]


def data(count=60, seed=1):
    return Dataset({"x": np.random.default_rng(seed).normal(size=(count, 12)).astype(np.float32)}, None)


@pytest.mark.parametrize(("budget", "found"), [(1.7e6, {}), (1.8e6, {"w"})])
def test_filters_behind_a_layer_count_at_every_pixel(make, budget, found):
    """A gate of four numbers a sample, behind which a convolution takes 6 x 64 x 36 MACs; 32 samples, 4 units."""
    rng = np.random.default_rng(0)
    shapes = {"w": (4, 4), "k": (6, 4, 3, 3)}
    arrays = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    text = """g (float[n, 4, 8, 8] x) => (float[n, 6] y) {
        p = GlobalAveragePool (x)  f = Flatten (p)  s = MatMul (f, w)  u = Unsqueeze (s, last)  m = Mul (x, u)
        c = Conv <pads = [1, 1, 1, 1]> (m, k)  t = Tanh (c)  q = GlobalAveragePool (t)  y = Flatten (q) }"""
    model = load_model(make(text, arrays | {"last": np.array([2, 3])}))
    samples = Dataset({"x": rng.standard_normal((32, 4, 8, 8)).astype(np.float32)}, None)
    assert set(compute_weightings(model, samples, loss="squared", budget=budget)) == set(found)


@pytest.mark.parametrize("loss", ["softmax", "squared"])
def test_relu_network_has_the_analytic_weighting(make, loss):
    samples = data()
    found = compute_weightings(load_model(make(network("Relu"), WEIGHTS)), samples, loss=loss)
    a = samples.inputs["x"].astype(np.float64) @ W1.T + B1
    slope = W2[None] * (a > 0)[:, None, :]
    f = curvature(np.maximum(a, 0) @ W2.T + B2, loss)
    wanted = np.einsum("sku,skl,slv->uv", slope, f, slope) / len(a)
    np.testing.assert_allclose(found["v1"], wanted, atol=0.05 * np.abs(wanted).max())
    np.testing.assert_allclose(found["v2"], f.mean(axis=0), atol=1e-5)
    if loss == "squared":
        mask = (a > 0).astype(float)
        np.testing.assert_allclose(wanted, (W2.T @ W2) * (mask.T @ mask) / len(a), atol=1e-5)


def test_smooth_network_agrees_with_central_differences_in_float64(make):
    samples = data(20)
    found = compute_weightings(load_model(make(network("Tanh"), WEIGHTS)), samples)["v1"]
    a = samples.inputs["x"].astype(np.float64) @ W1.T + B1
    slope = np.stack([(np.tanh(a + h) - np.tanh(a - h)) @ W2.T / 2e-5 for h in 1e-5 * np.eye(8)], axis=-1)
    f = curvature(np.tanh(a) @ W2.T + B2, "softmax")
    wanted = np.einsum("sku,skl,slv->uv", slope, f, slope) / len(a)
    np.testing.assert_allclose(found, wanted, atol=0.03 * np.abs(wanted).max())


def test_probabilities_have_the_weighting_of_their_logits(make):
    one = compute_weightings(load_model(make(network("Tanh"), WEIGHTS)), data())
    other = compute_weightings(load_model(make(network("Tanh", chances=True), WEIGHTS, name="p.onnx")), data())
    for name in ("v1", "v2"):
        np.testing.assert_allclose(other[name], one[name], atol=0.01 * np.abs(one[name]).max())


def test_a_weighting_predicts_what_a_small_change_costs(make):
    model, samples = load_model(make(network("Relu"), WEIGHTS)), data(200)
    weighting = compute_weightings(model, samples, samples=200)["v1"]
    change = np.random.default_rng(0).normal(size=8) * 0.02
    a = samples.inputs["x"].astype(np.float64) @ W1.T + B1

    def scores(a):
        return (np.maximum(a, 0) @ W2.T + B2)[:, None, :]

    cost = divergences(scores(a + change), scores(a), "softmax").mean()
    assert cost == pytest.approx(change @ weighting @ change / 2, rel=0.1)


def test_rows_of_one_sample_add_up(make):
    text = (
        "g (float[n, 4, 12] x) => (float[n, 8] y) { a = MatMul (x, w)  y = ReduceMean <axes = [1], keepdims = 0> (a) }"
    )
    x = np.random.default_rng(2).normal(size=(400, 4, 12)).astype(np.float32)
    found = compute_weightings(
        load_model(make(text, {"w": np.ascontiguousarray(W1.T)})), Dataset({"x": x}, None), loss="squared", samples=400
    )["w"]
    # Every row has the derivative I / 4, so four rows give I / 4.
    np.testing.assert_allclose(found, np.eye(8) / 4, atol=0.05)


def test_uses_of_a_shared_weight_add_up(make):
    square = (W1[:, :8] / 2).astype(np.float32)
    text = "g (float[n, 8] x) => (float[n, 8] y) { a = MatMul (x, w)  h = Tanh (a)  y = MatMul (h, w) }"
    x = np.random.default_rng(2).normal(size=(30, 8)).astype(np.float32)
    found = compute_weightings(load_model(make(text, {"w": square})), Dataset({"x": x}, None), loss="squared")["w"]
    a = x.astype(np.float64) @ square
    slope = square.T[None] * (1 - np.tanh(a) ** 2)[:, None, :]
    wanted = np.eye(8) + np.einsum("sku,skv->uv", slope, slope) / len(a)
    np.testing.assert_allclose(found, wanted, atol=0.02)


def test_features_on_the_last_axis_but_one(make):
    text = """g (float[n, 12, 1] x) => (float[n, 5, 1] y) { a = MatMul (v, x)  h = Tanh (a)  y = MatMul (u, h) }"""
    x = np.random.default_rng(2).normal(size=(30, 12, 1)).astype(np.float32)
    found = compute_weightings(load_model(make(text, {"v": W1, "u": W2})), Dataset({"x": x}, None), loss="squared")
    slope = W2[None] * (1 - np.tanh(x[:, :, 0].astype(np.float64) @ W1.T) ** 2)[:, None, :]
    wanted = np.einsum("sku,skv->uv", slope, slope) / len(x)
    np.testing.assert_allclose(found["v"], wanted, atol=0.03 * np.abs(wanted).max())


def test_a_fixed_batch_gives_the_same(make):
    fixed = network("Tanh").replace("float[n,", "float[20,")
    one = compute_weightings(load_model(make(network("Tanh"), WEIGHTS)), data(40))["v1"]
    other = compute_weightings(load_model(make(fixed, WEIGHTS, name="fixed.onnx")), data(40))["v1"]
    np.testing.assert_allclose(other, one, rtol=1e-2, atol=1e-3 * np.abs(one).max())


@pytest.mark.parametrize("chances", [False, True])
@pytest.mark.parametrize(("units", "tolerance"), [(8, 0.02), (40, 1e-5)], ids=["by differences", "by backward passes"])
def test_the_jacobian_of_given_values(make, units, tolerance, chances):
    """Finite differences of 8 units cost less than backward passes of 5 scores, and of 40 units more."""
    rng = np.random.default_rng(3)
    w1, w2 = rng.normal(size=(units, 12)).astype(np.float32), rng.normal(size=(5, units)).astype(np.float32) / 2
    weights = {"v1": w1, "c1": np.zeros(units, np.float32), "v2": w2, "c2": B2}
    model = load_model(make(network("Tanh", chances), weights))
    side = SideBySide((OutputLoss("y", "softmax"),), {"y": (1, 5)})
    values = rng.normal(size=(7, 1, units)).astype(np.float32)
    rows, layout = Rows.of(values[:, 0], Place(0), -1, 7), Layout(7, False, {"y": Place(0)})
    downstream = DownstreamModel(
        model.original, model.sites["v1"][0], side, np.dtype(np.float32), Runtime(), rows, layout, values, data(7)
    )
    assert not downstream.direct
    assert downstream.passes == min(units, 10)
    hidden = np.tanh(values[:, 0].astype(np.float64))
    wanted = w2[None] * (1 - hidden**2)[:, None, :]
    if chances:
        # Scores are logarithms of the probabilities.
        p = softmax(hidden @ w2.T + B2)
        wanted = wanted - np.einsum("sk,sku->su", p, wanted)[:, None, :]
    found = downstream.jacobian(values, data(7), np.random.default_rng(0))
    assert found.shape == (7, 5, units)
    np.testing.assert_allclose(found, wanted, atol=tolerance * max(1.0, np.abs(wanted).max()))


@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_the_jacobian_through_a_recurrence_is_that_of_its_steps(make, cell):
    """A chain rule by hand: one state, one step after the other, in float64."""
    rng, gates, steps = np.random.default_rng(8), {"LSTM": 4, "GRU": 3}[cell], 4
    wide, after = 12 * gates, {"LSTM": "", "GRU": ", linear_before_reset = 1"}[cell]
    arrays = {
        "w": rng.normal(size=(5, wide)),
        "eye": rng.normal(size=(1, gates, wide)),
        "r": rng.normal(size=(1, gates, 1)),
    }
    text = f"""g (float[{steps}, n, 5] x) => (float[1, n, 1] y) {{ a = MatMul (x, w)
        all, y = {cell} <hidden_size = 1{after}> (a, eye, r) }}"""
    model = load_model(make(text, {name: array.astype(np.float32) for name, array in arrays.items()}))
    site, runtime = model.sites["w"][0], Runtime()
    x = rng.normal(size=(3, steps, 5)).astype(np.float32)
    samples = Dataset({"x": x}, None, axes={"x": 1})
    objective = objective_for(model.original, "squared")
    found = observe(runtime, model.working.graph, samples, {site.output: site.out_axis}, names_of(objective))
    values = found.rows[site.output]
    downstream = DownstreamModel(
        model.working.graph,
        site,
        SideBySide.of(objective, found.outputs),
        values.dtype,
        runtime,
        found.forms[site.output],
        found.layout,
        values,
        samples,
    )
    assert downstream.passes == BACKWARD
    signs = np.random.default_rng(3).choice([-1.0, 1.0], (3, steps))
    slopes = downstream.jacobian(values, samples, np.random.default_rng(3))[:, 0]
    given = values.astype(np.float64) @ arrays["eye"][0].T
    wanted = np.array([signs[k] @ by_step(cell, given[k], arrays["r"][0, :, 0]) for k in range(3)]) @ arrays["eye"][0]
    np.testing.assert_allclose(slopes, wanted, atol=2e-5 * np.abs(wanted).max())


def by_step(cell, given, r):
    """Return derivatives of the last state by what each step gives to the gates, (steps, gates), forward in time."""
    hidden, inner = 0.0, 0.0
    dh, di = np.zeros(given.shape), np.zeros(given.shape)
    for step, row in enumerate(given):
        product, here = hidden * r, np.zeros((len(given), len(r), len(r)))
        here[step] = np.eye(len(r))
        through = dh[:, :, None] * r
        if cell == "LSTM":
            total, moved = row + product, here + through
            i, o, f = 1 / (1 + np.exp(-total[:3]))
            c = np.tanh(total[3])
            dio = [g * (1 - g) * moved[..., k] for k, g in enumerate((i, o, f))]
            di = dio[2] * inner + f * di + dio[0] * c + i * (1 - c * c) * moved[..., 3]
            inner = f * inner + i * c
            dh = dio[1] * np.tanh(inner) + o * (1 - np.tanh(inner) ** 2) * di
            hidden = o * np.tanh(inner)
        else:
            z, s = 1 / (1 + np.exp(-(row + product)[:2]))
            dz, ds = (g * (1 - g) * (here + through)[..., k] for k, g in enumerate((z, s)))
            n = np.tanh(row[2] + s * product[2])
            dn = (1 - n * n) * (here[..., 2] + ds * product[2] + s * through[..., 2])
            dh = dz * (hidden - n) + (1 - z) * dn + z * dh
            hidden = (1 - z) * n + z * hidden
    return dh


def test_what_costs_too_much_is_absent(make):
    model = load_model(make(network("Relu"), WEIGHTS))
    assert set(compute_weightings(model, data(), budget=100.0)) == {"v2"}


def test_an_output_without_numbers_is_refused(make):
    text = "g (float[n, 12] x) => (int64[n, 1] y) { a = MatMul (x, w)  y = ArgMax <axis = 1> (a) }"
    model = load_model(make(text, {"w": np.ascontiguousarray(W1.T)}))
    with pytest.raises(InputError, match="floating point"):
        compute_weightings(model, random_data(model.inputs, 4, 0))


def test_divergence_against_its_definition():
    rng = np.random.default_rng(0)
    scores, reference = rng.normal(size=(2, 6, 3, 4)) * 5
    p, q = (np.exp(s) / np.exp(s).sum(-1, keepdims=True) for s in (reference, scores))
    np.testing.assert_allclose(divergences(scores, reference, "softmax"), (p * np.log(p / q)).sum((1, 2)), atol=1e-12)
    np.testing.assert_allclose(softmax(scores), q, atol=1e-12)
    np.testing.assert_allclose(softmax(scores_of(q, "softmax")), q, atol=1e-12)


def test_spread_takes_samples_from_all_over():
    few = evenly_spread(Dataset({"x": np.arange(100)}, np.arange(100)), 7)
    assert few.count == 7 and few.inputs["x"].tolist() == few.labels.tolist()
    assert few.inputs["x"][0] == 0 and few.inputs["x"][-1] > 80 and len(set(few.inputs["x"])) == 7


@pytest.mark.parametrize("samples", [20, 60])
@pytest.mark.parametrize("rows", [0, 3])
def test_what_is_out_of_reach_is_known_without_a_derivative(make, rows, samples):
    shape = f"n, {rows}, 12" if rows else "n, 12"
    text = f"""g (float[{shape}] x) => (float[{shape.replace("12", "5")}] y) {{
        a = MatMul (x, v1)  h = Tanh (a)  b = MatMul (h, v2)  i = Tanh (b)  y = MatMul (i, v3) }}"""
    weights = {"v1": (12, 8), "v2": (8, 7), "v3": (7, 5)}
    rng = np.random.default_rng(6)
    model = load_model(make(text, {n: rng.normal(size=sizes).astype(np.float32) for n, sizes in weights.items()}))
    given = Dataset({"x": rng.normal(size=(samples, *([rows] if rows else []), 12)).astype(np.float32)}, None)
    seen = set()
    for budget in np.geomspace(1e2, 1e6, 25):
        computed = set(compute_weightings(model, given, loss="squared", budget=budget))
        assert set(within_reach(model, given, dict.fromkeys(weights, budget), loss="squared")) == computed
        seen.add(len(computed))
    # The budgets take in none but the last, where it costs nothing, and all.
    assert len(seen) >= 3 and max(seen) == 3
