"""What is repaired of layers in branches: no derivatives behind them, corrections where they are run."""

from __future__ import annotations

import numpy as np
import pytest

from lrfdse.factorize.fit import Fitter
from lrfdse.ir.factorization import Factorization
from lrfdse.model.data import Dataset
from lrfdse.model.graph import load_model
from lrfdse.model.passes.factor import rewrite
from lrfdse.model.runtime import Runtime
from lrfdse.repair.correct import Corrector
from lrfdse.repair.curvature import compute_weightings
from lrfdse.repair.int8 import int8_version
from lrfdse.repair.moments import moments

TEXT = """g (float[n, 12] x) => (float[n, 8] y) <float zero = {0}>
    { a = MatMul (x, w)  f = Relu (a)  total = ReduceSum <keepdims = 0> (x)  t = Greater (total, zero)
    y = If (t) <
        then_branch = yes () => (float[n, 8] p) { p = MatMul (f, v) },
        else_branch = no () => (float[n, 8] r) { r = MatMul (f, u) }> }"""


@pytest.fixture
def branched(make):
    """Return a model of two branches, and its data one by one."""
    rng = np.random.default_rng(0)
    sizes = {"w": (12, 10), "v": (10, 8), "u": (10, 8)}
    weights = {name: (rng.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32) for name, shape in sizes.items()}
    x = (rng.normal(size=(600, 1, 12)) * np.exp(-np.arange(12) / 4)).astype(np.float32)
    return load_model(make(TEXT, weights)), Dataset({"x": x}, None, axes={"x": None})


def test_no_weighting_is_taken_in_a_branch(branched):
    model, data = branched
    found = compute_weightings(model, data, loss="squared", samples=32)
    assert set(found) == {"w"}, "behind 'w' onnxruntime takes the branch"


def test_a_correction_reaches_into_branches(branched):
    model, data = branched
    ranks = {"w": 3, "v": 6, "u": 6}
    seen = moments(model, data)
    factors = {}
    for name, rank in ranks.items():
        layer = model.layer(name)
        f = Factorization.svd(layer.outputs, layer.inputs, rank)
        factors[name] = Fitter(model.weight(name), seen[name], "auto", name=name).fit(f)
    corrected = Corrector(model, data, "squared", {}, beta=None).correct(factors, sweeps=1)
    assert corrected.after <= corrected.before
    runtime = Runtime()
    before, after = (runtime.run(rewrite(model, each), data)["y"] for each in (factors, corrected.factors))
    whole = runtime.run(model.original, data)["y"]
    errors = [float(np.square(each - whole).mean()) for each in (before, after)]
    assert corrected.changed and errors[1] < errors[0]
    fits = zip(factors.values(), corrected.factors.values(), strict=True)
    assert any(not np.array_equal(a.cores[0], b.cores[0]) for a, b in list(fits)[1:]), "those in branches as well"


def test_int8_weights_of_branches_are_levels(make):
    rng = np.random.default_rng(1)
    weights = {name: rng.normal(size=(12, 64)).astype(np.float32) for name in "wvu"}
    weights["w"] = rng.normal(size=(12, 12)).astype(np.float32)
    text = TEXT.replace("float[n, 8]", "float[n, 64]")
    model = load_model(make(text, weights))
    data = Dataset({"x": rng.normal(size=(40, 1, 12)).astype(np.float32)}, None, axes={"x": None})
    version = int8_version(rewrite(model, {}), data)
    levels = [value for value in version.graph.initializers.values() if value.const_value.dtype.name == "INT8"]
    assert sorted(tuple(value.const_value.shape) for value in levels)[-2:] == [(12, 64), (12, 64)]
    runtime = Runtime()
    whole, found = (runtime.run(each, data)["y"] for each in (model.original, version))
    assert np.linalg.norm(found - whole) < 0.02 * np.linalg.norm(whole)
