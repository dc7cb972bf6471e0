"""Small steps of all layers together: their gradients, their schedule, and what a refinement with them gives."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from lrfdse.base.store import Store
from lrfdse.explore.layers.fits import FitRequest, open_builder, open_fits
from lrfdse.factorize.chain import dense_weight
from lrfdse.factorize.fit import Fitter
from lrfdse.ir.choice import Choice
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.plan import Plan
from lrfdse.model.data import Dataset
from lrfdse.model.graph import load_model
from lrfdse.model.passes.factor import rewrite
from lrfdse.model.passes.given import own_constants, with_inputs
from lrfdse.model.runtime import Runtime
from lrfdse.quality.objective import objective_for
from lrfdse.repair.correct import Corrector
from lrfdse.repair.descent import BATCH, LEAST_STEPS, RATE, ROUNDS, Averages, Schedule
from lrfdse.repair.gathered import Gatherer
from lrfdse.repair.member import members_of
from lrfdse.repair.moments import moments
from lrfdse.repair.together import Together

HIDDEN, CLASSES = 5, 3
SEED = np.random.default_rng(4)
WEIGHTS = {
    "w1": (SEED.normal(size=(8, 3, 1, 1)) / 2).astype(np.float32),
    "c1": (SEED.normal(size=8) / 2).astype(np.float32),
    "w2": (SEED.normal(size=(8, 8, 1, 1)) / 2).astype(np.float32),
    "w3": (SEED.normal(size=(CLASSES, 8)) * 4).astype(np.float32),
}
TEXT = f"""g (float[n, 3, 4, 5] x) => (float[n, {CLASSES}] y) {{
    a = Conv (x, w1, c1)
    t = Tanh (a)
    b = Conv (t, w2)
    u = Tanh (b)
    m = GlobalAveragePool (u)
    f = Flatten (m)
    y = Gemm <transB = 1> (f, w3)
}}"""
PLAN = {"w1": Factorization.svd(8, 3, 2), "w2": Factorization.svd(8, 8, 2), "w3": Factorization.svd(CLASSES, 8, 2)}
FIRST = ("w1", "w2")
GRU = f"""g (float[n, 4, 6] x) => (float[n, {CLASSES}] y) {{
    a = MatMul (x, front)
    g = Tanh (a)
    t = Transpose <perm = [1, 0, 2]> (g)
    all, h = GRU <hidden_size = {HIDDEN}, linear_before_reset = 1> (t, w, r, b)
    s = Squeeze (h, first)
    y = MatMul (s, head)
}}"""


def images(count, seed):
    return np.random.default_rng(seed).normal(size=(count, 3, 4, 5)).astype(np.float32)


def dataset(count, seed):
    return Dataset({"x": images(count, seed)}, None)


@pytest.fixture(scope="module")
def model(kit, tmp_path_factory):
    path = tmp_path_factory.mktemp("descent") / "m.onnx"
    return load_model(kit.write(kit.build(TEXT, WEIGHTS), path), kinds=("fc", "conv"))


@pytest.fixture(scope="module")
def recurrent(kit, tmp_path_factory):
    rng = np.random.default_rng(2)
    weights = {
        "front": rng.normal(size=(6, 8)).astype(np.float32),
        "w": rng.normal(size=(1, 3 * HIDDEN, 8)).astype(np.float32),
        "r": (rng.normal(size=(1, 3 * HIDDEN, HIDDEN)) / 2).astype(np.float32),
        "b": (rng.normal(size=(1, 6 * HIDDEN)) / 2).astype(np.float32),
        "first": np.array([0]),
        "head": (rng.normal(size=(HIDDEN, CLASSES)) * 3).astype(np.float32),
    }
    path = tmp_path_factory.mktemp("descent-gru") / "m.onnx"
    return load_model(kit.write(kit.build(GRU, weights), path), kinds=("fc", "recurrent"))


def fitted(model, data, plan):
    seen = moments(model, data, list(plan))
    return {name: Fitter(model.weight(name), seen[name]).fit(shape) for name, shape in plan.items()}


def divergence(model, factors, data):
    """Return the mean divergence of class probabilities, written anew."""
    one, other = (
        Runtime().run(each, data)["y"].astype(float) for each in (model.working.graph, rewrite(model, factors))
    )
    p, q = (e - np.log(np.exp(e).sum(axis=1, keepdims=True)) for e in (one, other))
    return float((np.exp(p) * (p - q)).sum(axis=1).mean())


def slope(model, built_with, factors, data, names):
    """Return loss and gradient at factors by sessions that were built with others."""
    weights = {name: model.weight(name).astype(np.float32) for name in names}
    graph, objective = model.working.graph, objective_for(model.original, "softmax")
    sites = [model.sites[name][0] for name in names]
    version = rewrite(model, built_with, closed=False)
    gatherer = Gatherer(version, graph, sites, objective, data, Runtime(), list(own_constants(version, graph)))
    assert gatherer.works
    reference = Runtime().run(graph, data)["y"].astype(float)
    members = members_of(factors, weights)
    given = own_constants(rewrite(model, factors, closed=False), graph)
    return members, gatherer.slope(list(members.values()), data, reference, given)


def check_slope(model, plan, data, tolerance):
    factors = fitted(model, data, plan)
    other = fitted(model, data.take(slice(0, 5)), plan)
    members, (loss, found) = slope(model, other, factors, data, list(plan))
    assert loss == pytest.approx(divergence(model, factors, data), rel=1e-4)
    wanted, step = np.zeros_like(found), 1e-2
    for place in range(len(found)):
        moved = np.zeros(len(found), np.float32)
        moved[place] = step
        both = [{name: m.moved(sign * moved[m.place]) for name, m in members.items()} for sign in (1, -1)]
        ends = [divergence(model, each, data) for each in both]
        wanted[place] = (ends[0] - ends[1]) / (2 * step)
    np.testing.assert_allclose(found, wanted, atol=tolerance * np.abs(wanted).max())


def test_the_gradient_by_given_constants_is_that_of_central_differences(model):
    """The sessions know other factors: what counts is given to each run."""
    check_slope(model, PLAN, dataset(70, 0), 5e-3)


def test_that_of_layers_in_front_of_a_recurrence_is_too(recurrent):
    x = np.random.default_rng(3).normal(size=(70, 4, 6)).astype(np.float32)
    names = [layer.name for layer in recurrent.layers if layer.inputs in (6, 8)]
    plan = {n: Factorization.svd(recurrent.layer(n).outputs, recurrent.layer(n).inputs, 2) for n in names}
    check_slope(recurrent, plan, Dataset({"x": x}, None), 5e-3)


def test_constants_become_inputs(model):
    graph, data = model.working.graph, dataset(6, 1)
    factors = fitted(model, data, PLAN)
    version = rewrite(model, factors, closed=False)
    own = own_constants(version, graph)
    assert own and not set(own) & set(graph.graph.initializers)
    runtime = Runtime()
    session = runtime.session(with_inputs(version, [*own, "no such constant"]))
    assert {port.name for port in session.get_inputs()} == {"x", *own}
    np.testing.assert_allclose(
        runtime.call(session, {"x": data.inputs["x"], **own})["y"], runtime.run(version, data)["y"], atol=1e-5
    )
    # The version still has them.
    assert set(own) <= set(version.graph.initializers)


@pytest.mark.parametrize("samples", [400, 1000, 5000])
def test_a_budget_says_how_many_samples_are_seen(samples):
    plenty = Schedule.within(1e15, 1e3, samples)
    size = min(BATCH, samples)
    assert plenty.steps == ROUNDS * samples // size
    batches = list(plenty.batches(0))
    assert [len(each) for each in batches] == [size] * plenty.steps
    # In the rounds that are whole every sample is seen as often as any other, the last one aside.
    seen = np.bincount(np.concatenate(batches), minlength=samples)
    assert seen.sum() == plenty.steps * size and seen.max() - seen.min() <= 1
    half = Schedule.within(1e3 * size * 2 * LEAST_STEPS, 1e3, samples)
    assert half.steps <= 2 * LEAST_STEPS
    assert Schedule.within(1e3 * size * (LEAST_STEPS - 1), 1e3, samples).steps == 0
    assert Schedule.within(1e15, 1e3, 40).steps == 0


def test_averages_are_those_of_kingma_and_ba():
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(20, 6)).astype(np.float32) + 1
    averages = Averages(6)
    found = [averages.step(each) for each in gradients]
    # Weights of the mean of all steps so far, written out; they add up to 1.
    for count in (1, 7, 20):
        parts = []
        for keep, values in ((0.9, gradients), (0.99, gradients**2)):
            weights = (1 - keep) * keep ** np.arange(count)[::-1]
            assert weights.sum() == pytest.approx(1 - keep**count)
            parts.append(np.tensordot(weights / weights.sum(), values[:count].astype(float), axes=1))
        np.testing.assert_allclose(found[count - 1], -parts[0] / np.sqrt(parts[1]), rtol=4e-3)
    assert np.array_equal(Averages(3).step(np.zeros(3, np.float32)), np.zeros(3))


def test_steps_are_small_and_lose_less_on_data_that_nobody_saw(model):
    calib, fresh = dataset(1024, 6), dataset(600, 7)
    factors = fitted(model, calib, PLAN)
    together = Together(model, objective_for(model.original, "softmax"), Runtime(), CLASSES)
    before, states = divergence(model, factors, fresh), list(together.descent(factors, calib, 1e15, 0))
    assert len(states) == ROUNDS
    assert divergence(model, states[-1], fresh) < 0.8 * before
    # Layers of one row a sample move as well.
    assert not np.allclose(states[-1]["w3"].cores[0], factors["w3"].cores[0], rtol=1e-3)
    first = next(together.descent(factors, calib, 1e15, 0))
    for name, each in first.items():
        one, other = dense_weight(each.cores), dense_weight(factors[name].cores)
        # Four steps of two cores, none above the rate; what cancels in their product is as large as that here.
        assert 0 < np.linalg.norm(one - other) / np.linalg.norm(other) < 2 * 4 * 2 * RATE


def test_no_budget_takes_no_step(model):
    calib = dataset(1024, 6)
    factors = fitted(model, calib, PLAN)
    together = Together(model, objective_for(model.original, "softmax"), Runtime(), CLASSES)
    assert list(together.descent(factors, calib, 0.0, 0)) == []


def test_a_refinement_with_small_steps_is_judged_by_held_out_samples(model):
    calib = dataset(2048, 6)
    factors = fitted(model, calib, PLAN)
    corrector = Corrector(model, calib, weightings={})
    stepped = corrector.correct(factors, steps=1)
    further = corrector.correct(factors, steps=1, small=1e15)
    assert further.after < stepped.after <= stepped.before == further.before
    assert further.after == pytest.approx(corrector.correct(further.factors).before, rel=1e-5)
    fresh = dataset(600, 7)
    assert divergence(model, further.factors, fresh) < divergence(model, stepped.factors, fresh)


@pytest.mark.parametrize("macs", [0.0, 1e15])
def test_a_budget_reaches_the_steps_of_refined_plans_alone(model, tmp_path, monkeypatch, macs):
    calib, asked = dataset(2048, 6), []
    descent = Together.descent

    def seen(self, current, data, macs, seed):
        asked.append((data.count, macs))
        return descent(self, current, data, macs, seed)

    monkeypatch.setattr(Together, "descent", seen)
    request = FitRequest("auto", correct=True, loss=objective_for(model.original, "softmax"), small_steps=macs)
    store = Store(tmp_path / "cache")
    builder = open_builder(request, model, calib, open_fits(request, model, calib, list(PLAN), store), store)
    plan = Plan(tuple((name, Choice(shape)) for name, shape in PLAN.items()))
    corrected = builder.factors(plan)
    assert asked == []
    refined = builder.factors(plan, refined=True)
    # One in eight judges, and there are as many mixtures as samples.
    assert asked == ([(3584, macs)] if macs else [])
    if macs:
        assert divergence(model, refined, dataset(600, 7)) < divergence(model, corrected, dataset(600, 7))


def test_small_steps_that_gain_nothing_on_held_out_samples_are_not_taken(model, monkeypatch):
    """They end after some verdicts without a gain, and the best state stays that before them."""
    calib = dataset(2048, 6)
    factors = fitted(model, calib, PLAN)
    asked = []

    def astray(self, current, data, macs, seed):
        for _ in range(12):
            asked.append(macs)
            yield {name: dataclasses.replace(each, bias_shift=each.bias_shift + 5.0) for name, each in current.items()}

    corrector = Corrector(model, calib, weightings={})
    without = corrector.correct(factors, steps=1)
    monkeypatch.setattr(Together, "descent", astray)
    found = corrector.correct(factors, steps=1, small=1.0)
    assert len(asked) == 4
    assert found.after == without.after
