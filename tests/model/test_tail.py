"""Tails of models against the whole models, run in full."""

from __future__ import annotations

import numpy as np
import pytest

from lrfdse.model.data import Dataset, mixed
from lrfdse.model.graph import load_model
from lrfdse.model.passes.factor import rewrite
from lrfdse.model.runtime import Runtime
from lrfdse.model.tail import MOST_BYTES, tail_of
from lrfdse.quality.losses import Divergences
from lrfdse.repair.correct import Corrector

TEXT = """g (float[{n}, 3, 16, 16] x, float[{n}, 6] z) => (float[{n}, 5] y) {{
    c = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]> (x, k)
    d = Relu (c)
    e = GlobalAveragePool (d)
    s = Shape (e)
    b = Slice (s, zero, one)
    t = Concat <axis = 0> (b, minus)
    f = Reshape (e, t)
    g0 = Add (f, shift)
    h = Gemm <transB = 1> (g0, w1, b1)
    i = Tanh (h)
    j = Concat <axis = 1> (i, f, z)
    y = Gemm <transB = 1> (j, w2, b2) }}"""


def weights(seed=0):
    rng = np.random.default_rng(seed)
    shapes = {"k": (16, 3, 3, 3), "shift": (16,), "w1": (12, 16), "b1": (12,), "w2": (5, 34), "b2": (5,)}
    found = {name: (rng.normal(size=sizes) / 3).astype(np.float32) for name, sizes in shapes.items()}
    return found | {n: np.array([v], np.int64) for n, v in (("zero", 0), ("one", 1), ("minus", -1))}


def data(count=40, seed=1):
    rng = np.random.default_rng(seed)
    arrays = {"x": rng.normal(size=(count, 3, 16, 16)), "z": rng.normal(size=(count, 6))}
    return Dataset({name: array.astype(np.float32) for name, array in arrays.items()}, None)


def test_a_tail_gives_what_the_whole_model_does(make, kit):
    model, given, runtime = load_model(make(TEXT.format(n="n"), weights())), data(), Runtime()
    tail = tail_of(model, given, runtime)
    assert tail is not None
    graph = tail.model.working.graph.graph
    assert {value.name for value in graph.inputs} == {"f", "g0", "z"}
    assert {node.op_type for node in graph} == {"Gemm", "Tanh", "Concat"}
    few = tail.of(given, runtime, batch=7)
    assert few.count == given.count and set(few.inputs) == {"f", "g0", "z"}
    factors = {name: kit.svd_factors(model.weight(name), 3) for name in ("w1", "w2")}
    for chosen in ({}, factors, {"w2": factors["w2"]}):
        whole = runtime.run(rewrite(model, chosen), given)
        np.testing.assert_allclose(runtime.run(rewrite(tail.model, chosen), few)["y"], whole["y"], atol=1e-5)
    # The whole model stays as it was.
    assert {value.name for value in model.working.graph.graph.inputs} == {"x", "z"}
    assert len(list(model.working.graph.graph)) == 12


def test_sizes_that_tell_how_many_samples_there_are_stay_in_the_tail(make):
    text = """g (float[n, 3, 16, 16] x) => (float[n, 5] y) {
        c = Conv <kernel_shape = [3, 3], strides = [2, 2]> (x, k)
        e = GlobalAveragePool (c)
        r = Squeeze (e, axes)
        h = MatMul (r, w1)
        s = Shape (r)
        b = Slice (s, zero, one)
        t = Concat <axis = 0> (b, minus)
        i = Reshape (h, t)
        y = MatMul (i, w2) }"""
    rng = np.random.default_rng(2)
    shapes = {"k": (16, 3, 3, 3), "w1": (16, 12), "w2": (12, 5)}
    found = {name: rng.normal(size=sizes).astype(np.float32) for name, sizes in shapes.items()}
    found |= {n: np.array(v, np.int64) for n, v in (("zero", [0]), ("one", [1]), ("minus", [-1]), ("axes", [2, 3]))}
    model, given, runtime = load_model(make(text, found)), data(10), Runtime()
    given = Dataset({"x": given.inputs["x"]}, None)
    tail = tail_of(model, given, runtime)
    assert tail is not None and [value.name for value in tail.model.working.graph.graph.inputs] == ["r"]
    whole = runtime.run(model.original, given)["y"]
    for batch in (3, 10):
        found = runtime.run(tail.model.original, tail.of(given, runtime, batch), batch)["y"]
        np.testing.assert_allclose(found, whole, rtol=1e-5, atol=1e-6)


def test_where_a_tail_is_not_worth_it_or_unsafe_there_is_none(make, mlp):
    runtime = Runtime()
    given = Dataset({"x": np.random.default_rng(0).normal(size=(40, 12)).astype(np.float32)}, None)
    assert tail_of(load_model(mlp), given, runtime) is None
    fixed = load_model(make(TEXT.format(n="2"), weights(), name="fixed.onnx"))
    assert tail_of(fixed, data(), runtime) is None
    # Neither where the convolution is a layer itself, nor where what is kept takes too much memory.
    text = TEXT.format(n="n")
    assert tail_of(load_model(make(text, weights(), name="conv.onnx"), None, ("fc", "conv")), data(), runtime) is None
    many = MOST_BYTES // (2 * 16 * 4) + 1
    endless = Dataset(
        {"x": np.broadcast_to(np.float32(1), (many, 3, 16, 16)), "z": np.broadcast_to(np.float32(1), (many, 6))}, None
    )
    assert tail_of(load_model(make(text, weights(), name="open.onnx")), endless, runtime) is None


@pytest.fixture
def whole_alone(monkeypatch):
    """Return a function after which no tail is worth it."""
    return lambda: monkeypatch.setattr("lrfdse.model.tail.WORTH", 2.0)


def test_losses_are_those_of_the_whole_model(make, kit, whole_alone):
    model, given = load_model(make(TEXT.format(n="n"), weights())), data()
    factors = {name: kit.svd_factors(model.weight(name), 3) for name in ("w1", "w2")}
    found = Divergences(model, given, "softmax")(factors)
    whole_alone()
    assert tail_of(model, given, Runtime()) is None
    assert found == pytest.approx(Divergences(model, given, "softmax")(factors), rel=1e-4) and found > 1e-3


@pytest.mark.parametrize("weightings", [None, {}])
def test_corrections_are_those_of_the_whole_model(make, kit, whole_alone, weightings):
    model = load_model(make(TEXT.format(n="n"), weights()))
    given = mixed(data(64), 64, 0)
    factors = {name: kit.svd_factors(model.weight(name), 3) for name in ("w1", "w2")}
    found = Corrector(model, given, weightings=weightings).correct(factors, sweeps=1)
    whole_alone()
    wanted = Corrector(model, given, weightings=weightings).correct(factors, sweeps=1)
    assert found.before == pytest.approx(wanted.before, rel=1e-4)
    assert found.after == pytest.approx(wanted.after, rel=1e-2) and found.after < found.before
    assert found.sweeps == wanted.sweeps


def test_steps_of_layers_with_several_rows_are_those_of_the_whole_model(make, kit, whole_alone):
    text = """g (float[n, 3, 16, 16] x) => (float[n, 5] y) {
        c = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]> (x, k)
        d = Relu (c)  e = Reshape (d, flat)  f = Transpose <perm = [0, 2, 1]> (e)
        h = MatMul (f, w)  i = Add (h, b1)  j = Tanh (i)  m = ReduceMean <axes = [1], keepdims = 0> (j)
        y = Gemm <transB = 1> (m, v, b2) }"""
    rng = np.random.default_rng(0)
    shapes = {"k": (16, 3, 3, 3), "w": (16, 12), "b1": (12,), "v": (5, 12), "b2": (5,)}
    arrays = {name: rng.normal(size=sizes).astype(np.float32) / 2 for name, sizes in shapes.items()}
    model = load_model(make(text, arrays | {"flat": np.array([0, 16, 64])}), {"x": (1, 3, 16, 16)})
    given = Dataset({"x": data(96).inputs["x"]}, None)
    factors = {"w": kit.svd_factors(model.weight("w"), 3)}
    assert tail_of(model, given, Runtime()) is not None
    found = Corrector(model, given, weightings={}).correct(factors, steps=2)
    whole_alone()
    wanted = Corrector(model, given, weightings={}).correct(factors, steps=2)
    assert found.sweeps == wanted.sweeps > 0
    assert found.after == pytest.approx(wanted.after, rel=2e-2) and found.after < found.before
