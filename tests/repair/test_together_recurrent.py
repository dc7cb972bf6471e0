"""Steps of layers in front of a recurrence together, against a GRU written in NumPy, in float64."""

from __future__ import annotations

import numpy as np
import pytest

from lrfdse.factorize.chain import dense_weight
from lrfdse.factorize.fit import Fitter
from lrfdse.ir.factorization import Factorization
from lrfdse.model.data import Dataset
from lrfdse.model.graph import load_model
from lrfdse.model.passes.factor import rewrite
from lrfdse.model.runtime import Runtime
from lrfdse.quality.objective import objective_for
from lrfdse.repair.correct import Corrector
from lrfdse.repair.gathered import Gatherer
from lrfdse.repair.member import Member
from lrfdse.repair.moments import moments

STEPS, WIDE, FEATURES, HIDDEN, CLASSES = 4, 6, 8, 5, 3
SEED = np.random.default_rng(2)
WEIGHTS = {
    "front": SEED.normal(size=(WIDE, FEATURES)).astype(np.float32),
    "w": SEED.normal(size=(1, 3 * HIDDEN, FEATURES)).astype(np.float32),
    "r": (SEED.normal(size=(1, 3 * HIDDEN, HIDDEN)) / 2).astype(np.float32),
    "b": (SEED.normal(size=(1, 6 * HIDDEN)) / 2).astype(np.float32),
    "first": np.array([0]),
    "head": (SEED.normal(size=(HIDDEN, CLASSES)) * 3).astype(np.float32),
}
TEXT = f"""g (float[n, {STEPS}, {WIDE}] x) => (float[n, {CLASSES}] y) {{
    a = MatMul (x, front)
    f = Tanh (a)
    t = Transpose <perm = [1, 0, 2]> (f)
    all, h = GRU <hidden_size = {HIDDEN}, linear_before_reset = 1> (t, w, r, b)
    s = Squeeze (h, first)
    y = MatMul (s, head)
}}"""


@pytest.fixture(scope="module")
def model(kit, tmp_path_factory):
    path = tmp_path_factory.mktemp("recurrent") / "m.onnx"
    return load_model(kit.write(kit.build(TEXT, WEIGHTS), path), kinds=("fc", "recurrent"))


def drawn(count, seed):
    return np.random.default_rng(seed).normal(size=(count, STEPS, WIDE))


def names_of(model):
    """Return the layers in front of the recurrence, and its input matrix."""
    return [layer.name for layer in model.layers if layer.inputs in (WIDE, FEATURES)]


def forward(x, front, given, shifts):
    """Return scores; `front` and `given` are (outputs, inputs), `shifts` what is added to their outputs."""
    f, hidden = np.tanh(x @ front.T + shifts[0]), np.zeros((len(x), HIDDEN))
    r, bias = WEIGHTS["r"][0].astype(float), WEIGHTS["b"][0].astype(float)
    for step in range(STEPS):
        row = f[:, step] @ given.T + shifts[1] + bias[: 3 * HIDDEN]
        product = hidden @ r.T + bias[3 * HIDDEN :]
        update, reset = (1 / (1 + np.exp(-(row + product)[:, k * HIDDEN : (k + 1) * HIDDEN])) for k in (0, 1))
        new = np.tanh(row[:, 2 * HIDDEN :] + reset * product[:, 2 * HIDDEN :])
        hidden = (1 - update) * new + update * hidden
    return hidden @ WEIGHTS["head"].astype(float)


def loss(scores, reference):
    p, q = (np.exp(each) / np.exp(each).sum(axis=1, keepdims=True) for each in (reference, scores))
    return float((p * np.log(p / q)).sum(axis=1).mean())


def fitted(model, data):
    shapes = {
        name: Factorization.svd(model.layer(name).outputs, model.layer(name).inputs, 3) for name in names_of(model)
    }
    seen = moments(model, data, list(shapes))
    return {name: Fitter(model.weight(name), seen[name]).fit(shape) for name, shape in shapes.items()}


def test_the_gradient_is_that_of_differences_in_float64(model):
    x = drawn(20, 0)
    data = Dataset({"x": x.astype(np.float32)}, None)
    factors, names = fitted(model, data), names_of(model)
    members, start = [], 0
    for name in names:
        members.append(Member(factors[name], model.weight(name).astype(np.float32), start))
        start = members[-1].place.stop
    gatherer = Gatherer(
        rewrite(model, factors, closed=False),
        model.working.graph,
        [model.sites[name][0] for name in names],
        objective_for(model.original, "softmax"),
        data,
        Runtime(),
    )
    assert gatherer.works
    found = gatherer.gathered(members, data, 20, np.random.default_rng(0))
    reference = forward(x, *(model.weight(name) for name in names), (0.0, 0.0))

    def at(vector):
        moved = [member.moved(vector[member.place].astype(np.float32)) for member in members]
        weights = [dense_weight(each.cores) for each in moved]
        return loss(forward(x, *weights, [each.bias_shift for each in moved]), reference)

    assert found.loss == pytest.approx(at(np.zeros(start)), rel=1e-4)
    step = 3e-3
    wanted = [(at(step * row) - at(-step * row)) / (2 * step) for row in np.eye(start)]
    np.testing.assert_allclose(found.gradient, wanted, atol=2e-3 * np.abs(wanted).max())


def test_steps_lower_the_loss_on_samples_that_nobody_saw(model):
    data, others = (Dataset({"x": drawn(count, seed).astype(np.float32)}, None) for count, seed in ((400, 1), (500, 2)))
    factors, names = fitted(model, data), names_of(model)
    corrector = Corrector(model, data, "softmax")
    reference = forward(others.inputs["x"].astype(float), *(model.weight(name) for name in names), (0.0, 0.0))
    losses = []
    for steps in (0, 3):
        found = corrector.correct(factors, steps=steps).factors
        scores = Runtime().run(rewrite(model, found), others)["y"]
        losses.append(loss(scores.astype(float), reference))
    assert losses[1] < 0.9 * losses[0]
