"""Steps of several layers together, against a network of convolutions written in NumPy, in float64."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from lrfdse.factorize.chain import dense_weight
from lrfdse.factorize.fit import Fitter
from lrfdse.ir.factorization import Factorization
from lrfdse.model.data import Dataset
from lrfdse.model.graph import load_model
from lrfdse.model.passes.factor import rewrite
from lrfdse.model.runtime import Runtime
from lrfdse.quality.objective import OutputLoss, SideBySide, objective_for
from lrfdse.repair.correct import Corrector
from lrfdse.repair.gathered import Gatherer
from lrfdse.repair.member import ANCHOR, NEARNESS, Anchor, Member
from lrfdse.repair.moments import moments
from lrfdse.repair.refine import DAMPING
from lrfdse.repair.together import Together, solved

# A 2x3 window with strides and pads, then one of 1x1, with a branch around it.
TEXT = """g (float[n, 3, 5, 6] x) => (float[n, 4] y) {
    a = Conv <strides = [1, 2], pads = [1, 1, 0, 1]> (x, w1, c1)
    t = Tanh (a)
    b = Conv (t, w2)
    s = Add (b, t)
    u = Tanh (s)
    m = GlobalAveragePool (u)
    f = Flatten (m)
    y = Gemm <transB = 1> (f, w3)
}"""
SEED = np.random.default_rng(5)
WEIGHTS = {
    "w1": SEED.normal(size=(6, 3, 2, 3)).astype(np.float32) / 3,
    "c1": SEED.normal(size=6).astype(np.float32) / 2,
    "w2": SEED.normal(size=(6, 6, 1, 1)).astype(np.float32),
    "w3": SEED.normal(size=(4, 6)).astype(np.float32) * 4,
}
PLANS = {
    "svd": {"w1": Factorization.svd(6, 18, 2), "w2": Factorization.svd(6, 6, 2)},
    "chain": {"w1": Factorization((6, 1, 1), (3, 2, 3), (3, 2)), "w2": Factorization.svd(6, 6, 1)},
}


def images(count, seed):
    rng = np.random.default_rng(seed)
    low = np.random.default_rng(1).normal(size=(5, 90))
    return (rng.normal(size=(count, 5)) @ low + 0.3 * rng.normal(size=(count, 90))).reshape(count, 3, 5, 6)


@pytest.fixture(scope="module")
def model(kit, tmp_path_factory):
    path = tmp_path_factory.mktemp("together") / "m.onnx"
    return load_model(kit.write(kit.build(TEXT, WEIGHTS), path), kinds=("fc", "conv"))


@pytest.fixture(scope="module")
def data():
    return Dataset({"x": images(40, 0).astype(np.float32)}, None)


def fitted(model, data, plan):
    seen = moments(model, data, list(plan))
    return {name: Fitter(model.weight(name), seen[name]).fit(shape) for name, shape in plan.items()}


def patches(x):
    """Return what the first layer reads, (samples, rows, width x height x channels)."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 0), (1, 1)))
    found = [padded[:, :, i : i + 2, j : j + 3] for i in range(5) for j in range(0, 6, 2)]
    return np.stack([each.transpose(0, 3, 2, 1).reshape(len(x), -1) for each in found], axis=1)


def forward(x, weights, shifts):
    """Return scores, and what both layers read and give without their own bias, row by row."""
    first = patches(x)
    a = first @ weights[0].T + shifts[0]
    t = np.tanh(a + WEIGHTS["c1"])
    b = t @ weights[1].T + shifts[1]
    return np.tanh(b + t).mean(axis=1) @ WEIGHTS["w3"].T.astype(float), (first, t), (a, b)


def whole(model):
    return [model.weight(name).astype(float) for name in ("w1", "w2")], [np.zeros(6), np.zeros(6)]


def of(factors):
    parts = [factors[name] for name in ("w1", "w2")]
    return [dense_weight(part.cores) for part in parts], [part.bias_shift for part in parts]


def softmax(scores):
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def loss(kind, scores, reference):
    if kind == "squared":
        return 0.5 * ((scores - reference) ** 2).sum(axis=1).mean()
    p, q = softmax(reference), softmax(scores)
    return (p * (np.log(p) - np.log(q))).sum(axis=1).mean()


def members_of(model, factors):
    found, start = [], 0
    for name in ("w1", "w2"):
        found.append(Member(factors[name], model.weight(name).astype(np.float32), start))
        start = found[-1].place.stop
    return found


def at(members, vector):
    """Return both layers' weights and shifts with changed elements."""
    return of(dict(zip(("w1", "w2"), [m.moved(vector[m.place]) for m in members], strict=True)))


def by_elements(members, function, step=1e-2):
    """Return central differences of a function of both layers' weights and shifts, (values, elements)."""
    size, columns = members[-1].place.stop, []
    for place in range(size):
        moved = np.zeros(size)
        moved[place] = step
        # Elements are moved where they are exact; float32 rounds the cores themselves.
        ends = [function(*at(members, (sign * moved).astype(np.float32))) for sign in (1, -1)]
        columns.append((np.asarray(ends[0]) - ends[1]).ravel() / (2 * step))
    return np.stack(columns, axis=1)


def gathered(model, factors, data, kind, bent, seed=0, **more):
    sites = [model.sites[name][0] for name in ("w1", "w2")]
    members = members_of(model, factors)
    version = rewrite(model, factors, closed=False)
    gatherer = Gatherer(version, model.working.graph, sites, objective_for(model.original, kind), data, Runtime())
    assert gatherer.works
    return members, gatherer.gathered(members, data, bent, np.random.default_rng(seed), **more)


@pytest.mark.parametrize("kind", ["softmax", "squared"])
@pytest.mark.parametrize("plan", PLANS)
def test_the_gradient_is_that_of_central_differences(model, data, plan, kind):
    factors = fitted(model, data, PLANS[plan])
    members, found = gathered(model, factors, data, kind, data.count)
    x = data.inputs["x"].astype(float)
    reference = forward(x, *whole(model))[0]
    np.testing.assert_allclose(found.reference, reference, atol=1e-4)
    assert found.loss == pytest.approx(loss(kind, forward(x, *of(factors))[0], reference), rel=1e-4)
    wanted = by_elements(members, lambda w, b: loss(kind, forward(x, w, b)[0], reference))[0]
    np.testing.assert_allclose(found.gradient, wanted, atol=5e-3 * np.abs(wanted).max())


@pytest.mark.parametrize("plan", PLANS)
def test_slopes_are_signed_sums_of_the_derivatives_of_scores(model, data, plan):
    factors = fitted(model, data, PLANS[plan])
    few = data.head(5)
    members, found = gathered(model, factors, few, "squared", 5)
    scores = by_elements(members, lambda w, b: forward(few.inputs["x"].astype(float), w, b)[0])
    jacobian = scores.reshape(5, 4, -1)
    signs = np.array(np.meshgrid(*[[-1, 1]] * 4)).reshape(4, -1).T
    for own, slopes in zip(jacobian, found.slopes, strict=True):
        off = np.abs(signs @ own - slopes).max(axis=1) / np.abs(own).max()
        assert np.sort(off)[0] < 0.01 < 0.1 < np.sort(off)[1]


def test_fewer_samples_than_all_are_spread_and_every_row_is_filled(model, data):
    factors = fitted(model, data, PLANS["svd"])
    many = Dataset({"x": images(150, 2).astype(np.float32)}, None)
    _, found = gathered(model, factors, many, "squared", 7)
    which = np.arange(7) * 150 // 7
    _, alone = gathered(model, factors, many.take(which), "squared", 7)
    # Signs are drawn run by run: up to them the rows are those of the samples alone.
    for row, other in zip(found.slopes, alone.slopes, strict=True):
        assert row.shape == other.shape and np.isfinite(row).all() and row.any()
    _, again = gathered(model, factors, many, "squared", 150)
    np.testing.assert_allclose(found.gradient, again.gradient, rtol=1e-4, atol=1e-6)


def test_an_anchor_has_rows_of_every_run(model, data):
    """Of layers with very many rows a sample few samples are drawn, and maybe none of a run."""
    many = Dataset({"x": images(150, 2).astype(np.float32)}, None)
    _, found = gathered(model, fitted(model, data, PLANS["svd"]), many, "squared", 7, most_rows=0)
    assert all(np.isfinite(anchor.gradient()).all() and anchor.variance > 0 for anchor in found.anchors)


def test_an_anchor_is_the_layers_own_relative_error(model, data):
    rng = np.random.default_rng(3)
    factors = fitted(model, data, PLANS["chain"])["w1"]
    weight = model.weight("w1").astype(np.float32)
    member = Member(factors, weight)
    rows, original = (rng.normal(size=(200, 18)).astype(np.float32) + 0.5 for _ in range(2))
    anchor = Anchor(member)
    for part in range(0, 200, 50):
        anchor.add(*(each[part : part + 50].reshape(5, 10, 18) for each in (rows, original)))
    targets = original.astype(float) @ weight.T.astype(float)

    def error(change):
        moved = member.moved(change)
        own = rows.astype(float) @ dense_weight(moved.cores).T + moved.bias_shift - targets
        return ANCHOR * 0.5 * (own**2).sum() / 200 / targets.var(axis=0).sum(), own

    nothing = np.zeros(member.place.stop, np.float32)
    assert anchor.variance == pytest.approx(targets.var(axis=0).sum(), rel=1e-5)
    assert anchor.value(factors) == pytest.approx(error(nothing)[0], rel=1e-4)
    columns, wanted = [], []
    for place in range(len(nothing)):
        moved = nothing.copy()
        moved[place] = 1e-2
        ends = [error(sign * moved) for sign in (1, -1)]
        wanted.append((ends[0][0] - ends[1][0]) / 2e-2)
        columns.append((ends[0][1] - ends[1][1]).ravel() / 2e-2)
    np.testing.assert_allclose(anchor.gradient(), wanted, atol=2e-3 * np.abs(wanted).max())
    jacobian = np.stack(columns, axis=1)
    curvature = (ANCHOR + NEARNESS) * jacobian.T @ jacobian / 200 / targets.var(axis=0).sum()
    change = rng.normal(size=len(nothing)).astype(np.float32)
    found = anchor.curvature()(change)
    np.testing.assert_allclose(found, curvature @ change, atol=2e-3 * np.abs(found).max())


@pytest.mark.parametrize("plan", PLANS)
def test_a_step_solves_the_dense_normal_equations(kit, tmp_path, plan):
    """With one score its sign does not matter: the curvature is that of Gauss and Newton."""
    made = kit.build(TEXT.replace("float[n, 4]", "float[n, 1]"), WEIGHTS | {"w3": WEIGHTS["w3"][:1]})
    model = load_model(kit.write(made, tmp_path / "m.onnx"), kinds=("fc", "conv"))
    data = Dataset({"x": images(60, 4).astype(np.float32)}, None)
    factors = fitted(model, data, PLANS[plan])
    members, found = gathered(model, factors, data, "squared", 60)
    x = data.inputs["x"].astype(float)
    ends = forward(x, *whole(model))
    scores = by_elements(members, lambda w, b: forward(x, w, b)[0][:, :1])
    now = forward(x, *of(factors))
    gradient = scores.T @ (now[0] - ends[0])[:, 0] / 60
    curvature = scores.T @ scores / 60
    for number, member in enumerate(members):
        rows = now[1][number].reshape(-1, member.weight.shape[1])
        targets = (ends[2][number]).reshape(-1, 6)
        variance = targets.var(axis=0).sum()

        def own(weights, shifts, number=number, rows=rows):
            return rows @ weights[number].T + shifts[number]

        jacobian = by_elements(members, own)
        error = (own(*of(factors)) - targets).ravel()
        gradient += ANCHOR / variance / len(rows) * jacobian.T @ error
        curvature += (ANCHOR + NEARNESS) / variance / len(rows) * jacobian.T @ jacobian
        *matrices, _ = member.apart(np.arange(member.place.stop, dtype=np.float32)[member.place])
        norm = sum(float((m**2).sum()) for m in member.chain(rows[:1].astype(np.float32)).matrices)
        sizes = [sum(m.size for m in matrices), 6]
        curvature[member.place, member.place] += np.diag(np.repeat([DAMPING / norm, DAMPING / variance], sizes))
    wanted = np.linalg.solve(curvature, -gradient)
    step = solved(found, members, rounds=400)
    off = step - wanted
    assert off @ curvature @ off < 1e-3 * (wanted @ curvature @ wanted)


def test_random_combinations_of_scores_have_the_curvature_as_second_moment():
    parts = (OutputLoss("y", "softmax", 2.0), OutputLoss("z", "squared", 0.5))
    side = SideBySide(parts, {"y": (2, 3), "z": (1, 2)})
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(1, 8))
    chances = side.chances(scores)
    drawn = side.drawn(np.repeat(chances, 40_000, axis=0), rng)
    curvature = side.curved(np.repeat(chances, 8, axis=0), np.eye(8))
    np.testing.assert_allclose(drawn.T @ drawn / len(drawn), curvature, atol=0.02)


def divergence(model, factors, data):
    reference, scores = (Runtime().run(each, data)["y"] for each in (model.working.graph, rewrite(model, factors)))
    return loss("softmax", scores.astype(float), reference.astype(float))


@pytest.mark.parametrize("plan", PLANS)
def test_steps_lose_less_on_data_that_nobody_saw(model, plan):
    calib, fresh = (
        Dataset({"x": images(count, seed).astype(np.float32)}, None) for count, seed in ((256, 6), (400, 7))
    )
    factors = fitted(model, calib, PLANS[plan])
    corrector = Corrector(model, calib, weightings={})
    passed, stepped = corrector.correct(factors), corrector.correct(factors, steps=3)
    assert stepped.sweeps > 0 and stepped.after < passed.after
    for found in (passed, stepped):
        assert found.after == pytest.approx(corrector.correct(found.factors).before, rel=1e-5)
    assert divergence(model, stepped.factors, fresh) < 0.7 * divergence(model, passed.factors, fresh)


def test_who_takes_steps(model, data):
    factors = fitted(model, data, {**PLANS["svd"], "w3": Factorization.svd(4, 6, 2)})
    together = Together(model, objective_for(model.original, "softmax"), Runtime(), 4)
    # Behind the mean over all pixels there is one row a sample.
    assert together.members(factors, data, data.count, data.count) == ["w1", "w2"]
    dense = Fitter(model.weight("w2"), moments(model, data, ["w2"])["w2"]).fit(Factorization.dense(6, 6))
    assert together.members(factors | {"w2": dense}, data, data.count, data.count) == ["w1"]
    blind = dataclasses.replace(factors["w1"], bias_shift=None)
    assert together.members(factors | {"w1": blind}, data, data.count, data.count) == ["w2"]
    assert together.members(factors, data, data.count, data.count + 1) == []


def test_a_large_model_takes_none(model, data):
    factors = fitted(model, data, PLANS["svd"])
    heavy = [SimpleNamespace(name=layer.name, kind=layer.kind, flops=10**12) for layer in model.layers]
    large = SimpleNamespace(layers=heavy, sites=model.sites, working=model.working)
    assert (
        Together(large, objective_for(model.original, "softmax"), Runtime(), 4).members(factors, data, data.count, 8)
        == []
    )


def test_many_scores_are_out_of_reach(model, data):
    factors = fitted(model, data, PLANS["svd"])
    objective = objective_for(model.original, "softmax")
    assert Together(model, objective, Runtime(), 10**5).members(factors, data, data.count, 8) == ["w1", "w2"]
    assert Together(model, objective, Runtime(), 10**8).members(factors, data, data.count, 8) == []


def test_what_has_no_derivative_stays(kit, tmp_path, data):
    text = TEXT.replace("u = Tanh (s)", "u = Cos (s)")
    model = load_model(kit.write(kit.build(text, WEIGHTS), tmp_path / "m.onnx"), kinds=("fc", "conv"))
    factors = fitted(model, data, PLANS["svd"])
    together = Together(model, objective_for(model.original, "softmax"), Runtime(), 4)
    found = together.step(factors, ["w1", "w2"], data, 0)
    assert all(found[name] is factors[name] for name in factors)
