"""Cumulative correction: derivatives against the dense layer, losses against onnxruntime and float64."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from types import SimpleNamespace

import numpy as np
import onnx.checker
import onnx.parser
import onnx_ir
import onnx_ir.serde
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from lrfdse.factorize.chain import dense_weight
from lrfdse.factorize.fit import Fitter
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.factors import packed, unpacked
from lrfdse.ir.storage import FLOAT32, INT8, QDQ
from lrfdse.model.data import Dataset, mixed
from lrfdse.model.graph import load_model
from lrfdse.model.passes.factor import rewrite
from lrfdse.model.runtime import Runtime
from lrfdse.quality.objective import OutputLoss, SideBySide
from lrfdse.repair.correct import HELD_OUT, MIXTURES, Corrector
from lrfdse.repair.curvature import compute_weightings
from lrfdse.repair.moments import moments
from lrfdse.repair.openings import InMemory, OfLayers
from lrfdse.repair.refine import Chain, Local, cores_of, refined

PLANS = [
    ("svd:r=5", "svd:r=4"),
    ("tt:m=24x1,n=4x10,r=4", "tt:m=1x16,n=12x2,r=4,lr"),
    ("tt:m=2x3x4,n=4x5x2,r=5x4", "svd:r=4"),
]


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """Return a 40-24-16-6 network whose weights decay, with correlated calibration data."""
    rng = np.random.default_rng(0)
    sizes = (40, 24, 16, 6)
    text = """g (float[n, 40] x) => (float[n, 6] y) {
        a = Gemm <transB = 1> (x, w1, b1)  h = Relu (a)
        b = Gemm <transB = 1> (h, w2, b2)  i = Relu (b)
        y = Gemm <transB = 1> (i, w3, b3) }"""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    for k in (1, 2, 3):
        weight = rng.normal(size=(sizes[k], sizes[k - 1])) / math.sqrt(sizes[k - 1]) * 1.6
        model.graph.initializer.append(numpy_helper.from_array(weight.astype(np.float32), f"w{k}"))
        bias = (rng.normal(size=sizes[k]) / 4).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(bias, f"b{k}"))
    path = tmp_path_factory.mktemp("correct") / "model.onnx"
    path.write_bytes(model.SerializeToString())
    mix = rng.normal(size=(40, 40)) * np.exp(-np.arange(40) / 6)[:, None]
    x, fresh = ((rng.normal(size=(count, 40)) @ mix).astype(np.float32) for count in (512, 2000))
    return load_model(path), Dataset({"x": x}, None), Dataset({"x": fresh}, None)


def fitted(model, data, plan):
    seen = moments(model, data, ["w1", "w2"])
    return {
        name: Fitter(model.weight(name), seen[name]).fit(
            Factorization.parse(text, model.layer(name).outputs, model.layer(name).inputs)
        )
        for name, text in zip(("w1", "w2"), plan, strict=True)
    }


def loss(model, factors, data):
    """Return the mean divergence from the original model's classes, in float64 from onnxruntime's logits."""
    y, z = (Runtime().run(c, data)["y"].astype(np.float64) for c in (model.content, rewrite(model, factors)))
    p, q = (np.exp(s) / np.exp(s).sum(axis=1, keepdims=True) for s in (y, z))
    return float((p * np.log(p / q)).sum(axis=1).mean())


@pytest.mark.slow
@pytest.mark.parametrize("plan", PLANS)
def test_correction_helps_on_data_it_has_not_seen(network, plan):
    model, calib, fresh = network
    factors = fitted(model, calib, plan)
    corrector = Corrector(model, calib)
    one, more = corrector.correct(factors), corrector.correct(factors, sweeps=2)
    held = Dataset({"x": calib.inputs["x"][HELD_OUT - 1 :: HELD_OUT]}, None)
    held = mixed(held, MIXTURES * held.count, seed=1)
    assert one.before == pytest.approx(loss(model, factors, held), rel=1e-3)
    assert one.after == pytest.approx(loss(model, one.factors, held), rel=1e-3)
    assert more.after == pytest.approx(loss(model, more.factors, held), rel=1e-3)
    assert more.after <= one.after <= one.before and more.changed and more.sweeps > 0
    assert loss(model, more.factors, fresh) < 0.9 * loss(model, factors, fresh)
    for name, each in more.factors.items():
        assert each.factorization == factors[name].factorization
        assert tuple(core.shape for core in each.cores) == each.factorization.core_shapes


@pytest.mark.slow
def test_layers_in_whole_numbers_are_corrected_as_such(network):
    model, calib, fresh = network
    seen = moments(model, calib, ["w1", "w2"])
    factors = {
        name: Fitter(model.weight(name), seen[name]).fit(
            Factorization.svd(model.layer(name).outputs, model.layer(name).inputs, rank), QDQ
        )
        for name, rank in (("w1", 5), ("w2", 4))
    }
    found = Corrector(model, calib).correct(factors, sweeps=1)
    assert found.sweeps > 0 and found.after < 0.9 * found.before
    assert loss(model, found.factors, fresh) < 0.9 * loss(model, factors, fresh)
    for name, each in found.factors.items():
        assert each.choice == factors[name].choice
        # The ranges are those of what the corrected chain and model have each step read.
        assert each.roundings != factors[name].roundings
        again = unpacked(each.choice, packed(each))
        for core, other in zip(again.cores, each.cores, strict=True):
            np.testing.assert_allclose(core, other, rtol=1e-6)


@pytest.mark.parametrize("weighted", [True, False])
def test_a_repaired_layer_is_rounded_and_repaired_again(network, weighted):
    model, calib, fresh = network
    seen = moments(model, calib, ["w1", "w2"])
    first, second = model.layer("w1"), model.layer("w2")
    shapes = {
        "w1": (Factorization.svd(first.outputs, first.inputs, 5), FLOAT32),
        "w2": (Factorization.repaired(second.outputs, second.inputs, 3), INT8),
    }
    factors = {name: Fitter(model.weight(name), seen[name]).fit(*shape) for name, shape in shapes.items()}
    found = Corrector(model, calib, weightings=None if weighted else {}).correct(factors, sweeps=1)
    assert found.sweeps > 0 and found.after < 0.9 * found.before
    assert loss(model, found.factors, fresh) < 0.9 * loss(model, factors, fresh)
    repaired = found.factors["w2"]
    assert repaired.choice == factors["w2"].choice
    # Levels, after the step as before it, and other ones.
    again, before = unpacked(repaired.choice, packed(repaired)), factors["w2"]
    for core, kept, old in zip(repaired.cores, again.cores, before.cores, strict=True):
        np.testing.assert_allclose(kept, core, rtol=1e-6)
        assert np.abs(core - old).max() > 1e-3 * np.abs(old).max()


@pytest.fixture
def counted(monkeypatch):
    """Return how often models were parsed, checked, serialized and opened in onnxruntime."""
    counts = Counter()

    def count(owner, name):
        function = getattr(owner, name)

        def counting(*args, **kwargs):
            counts[name] += 1
            return function(*args, **kwargs)

        monkeypatch.setattr(owner, name, counting)

    for owner, name in (
        (onnx_ir, "from_proto"),
        (onnx_ir.serde, "deserialize_model"),
        (onnx_ir, "to_proto"),
        (onnx.checker, "check_model"),
        (onnxruntime, "InferenceSession"),
    ):
        count(owner, name)
    return counts


@pytest.mark.slow
def test_a_correction_parses_nothing_and_opens_few_sessions(network, counted):
    """Two layers and two sweeps: each of the graphs that differ is opened once."""
    model, calib, _ = network
    factors = fitted(model, calib, PLANS[0])
    corrector = Corrector(model, calib, weightings={})
    counted.clear()
    found = corrector.correct(factors, sweeps=2)
    assert found.changed and found.sweeps == 2
    assert set(counted) == {"InferenceSession", "to_proto"}
    # The plan given, what the second layer reads in it and in the original, and the plan after the pass. In each sweep
    # the values around either layer, the model behind it, and the plan after the sweep; but behind the second layer
    # nothing changes. Once, the values of the original around the second layer. Beside each model behind a layer, its
    # backward pass, and one that shows the sizes of its values.
    assert counted["InferenceSession"] <= 4 + 2 * 5 - 1 + 1 + 2 * 3
    assert counted["to_proto"] <= 25 + 2 * 4
    counted.clear()
    corrector.correct(factors)
    assert counted["InferenceSession"] == 0


@pytest.mark.slow
def test_nothing_to_gain_leaves_the_factors_alone(network):
    model, calib, _ = network
    factors = fitted(model, calib, ("svd:r=24", "svd:r=16"))
    found = Corrector(model, calib, weightings={}).correct(factors, sweeps=1)
    assert found.after <= found.before
    assert found.before == pytest.approx(0, abs=1e-6)
    if not found.changed:
        assert all(found.factors[name] is factors[name] for name in factors)


def test_a_pass_that_loses_on_held_out_samples_is_not_taken(network):
    model, calib, _ = network
    good = fitted(model, calib, PLANS[0])
    # Three samples cannot say better than 512 what the layers read.
    few = Dataset({"x": calib.inputs["x"][:4]}, None)
    found = Corrector(model, few, weightings={}).correct(good)
    assert found.after <= found.before
    assert found.changed or all(found.factors[name] is good[name] for name in good)


def test_dense_layers_and_order_are_kept(network):
    model, calib, _ = network
    factors = fitted(model, calib, PLANS[0])
    dense = Fitter(model.weight("w3"), moments(model, calib, ["w3"])["w3"]).fit(Factorization.dense(6, 16))
    given = {"w3": dense, **factors}
    found = Corrector(model, calib).correct(given)
    assert list(found.factors) == list(given) and found.factors["w3"] is dense


@pytest.mark.slow
def test_squared_loss_of_outputs_that_are_no_classes(network):
    model, calib, fresh = network
    factors = fitted(model, calib, PLANS[1])
    found = Corrector(model, calib, loss="squared").correct(factors, sweeps=2)

    def error(factors):
        y, z = (Runtime().run(c, fresh)["y"].astype(np.float64) for c in (model.content, rewrite(model, factors)))
        return float(((y - z) ** 2).sum(axis=1).mean())

    assert found.changed and error(found.factors) < error(factors)


@pytest.mark.slow
def test_a_head_with_several_rows_a_sample(tmp_path):
    rng = np.random.default_rng(1)
    text = """g (float[n, 3, 12] x) => (float[n, 3, 20] y) { a = MatMul (x, w)  b = Add (a, c)  y = Softmax (b) }"""
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    proto.graph.initializer.append(numpy_helper.from_array(rng.normal(size=(12, 20)).astype(np.float32), "w"))
    proto.graph.initializer.append(numpy_helper.from_array(rng.normal(size=20).astype(np.float32), "c"))
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    model = load_model(tmp_path / "m.onnx")
    data = Dataset({"x": rng.normal(size=(300, 3, 12)).astype(np.float32)}, None)
    plain = Fitter(model.weight("w"), moments(model, data)["w"]).fit(Factorization.svd(20, 12, 4))
    found = Corrector(model, data).correct({"w": plain}, sweeps=3)
    assert found.sweeps > 0 and found.after < 0.9 * found.before


def test_whole_numbers_are_not_mixed():
    tokens = Dataset({"ids": np.arange(12).reshape(4, 3)}, None)
    assert mixed(tokens, 10, 0) is tokens
    bytes_ = Dataset({"x": np.array([[0, 200], [100, 100]], dtype=np.uint8)}, np.array([0, 1]))
    made = mixed(bytes_, 50, 0)
    assert made.count == 52 and made.labels is None and made.inputs["x"].dtype == np.uint8
    rest = made.inputs["x"][2:].astype(int)
    # Both samples and all mixtures lie on one line, up to rounding.
    assert np.abs(rest[:, 1] - (200 - rest[:, 0])).max() <= 1


paths = st.sampled_from(
    ["svd:r=3", "tt:m=3x4,n=2x5,r=3", "tt:m=3x4,n=2x5,r=3,lr", "tt:m=1x12,n=5x2,r=2,lr", "tt:m=2x2x3,n=5x1x2,r=3x2"]
)


@settings(max_examples=20, deadline=None)
@given(paths, st.integers(0, 1000))
def test_derivatives_of_a_chain_are_those_of_its_dense_weight(text, seed):
    rng = np.random.default_rng(seed)
    shape = Factorization.parse(text, 12, 10)
    cores = [rng.normal(size=s) for s in shape.core_shapes]
    rows = rng.normal(size=(7, 10)).astype(np.float32)
    chain = Chain(shape, cores, rows, 12)
    np.testing.assert_allclose(chain.result, rows @ dense_weight(cores).T, rtol=1e-4, atol=1e-4)
    even = cores_of(shape, chain.matrices)
    np.testing.assert_allclose(dense_weight(even), dense_weight(cores), rtol=1e-4, atol=1e-4)
    changes = [rng.normal(size=m.shape).astype(np.float32) for m in chain.matrices]
    h = 1e-5
    ends = [
        dense_weight(
            cores_of(shape, [m.astype(float) + s * h * c for m, c in zip(chain.matrices, changes, strict=True)])
        )
        for s in (1, -1)
    ]
    wanted = rows @ ((ends[0] - ends[1]) / (2 * h)).T
    tangent = chain.tangent(changes)
    np.testing.assert_allclose(tangent, wanted, rtol=1e-3, atol=1e-3 * np.abs(wanted).max())
    pulls = rng.normal(size=(7, 12)).astype(np.float32)
    back = sum(float(np.vdot(a, c)) for a, c in zip(chain.adjoint(pulls), changes, strict=True))
    assert back == pytest.approx(float(np.vdot(pulls, tangent)), rel=1e-3, abs=1e-2)


def numbers(count):
    """Return the scores of an output of so many numbers a row."""
    return SideBySide((OutputLoss("y", "squared"),), {"y": (1, count)})


def test_one_step_on_a_linear_output_solves_its_least_squares_problem():
    """With a dense core and the squared loss the problem is quadratic, so a step ends at its minimum."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(400, 5)).astype(np.float32)
    slopes = rng.normal(size=(400, 2, 3)).astype(np.float32)
    truth = rng.normal(size=(3, 5)).astype(np.float32)
    targets = rows @ truth.T
    cores = [rng.normal(size=(1, 3, 5, 1))]
    now = rows @ dense_weight(cores).T.astype(np.float32)

    def scores(y):
        return np.einsum("rku,ru->rk", slopes, y)

    def evaluate(change):
        return 0.5 * float(((scores(now + change) - scores(targets)) ** 2).sum()) / len(rows)

    local = Local(rows, targets, slopes, scores(now), scores(now) - scores(targets), numbers(2), evaluate)
    found, shift, gain = refined(Factorization.dense(3, 5), cores, np.zeros(3), local, damping=0.0)
    np.testing.assert_allclose(dense_weight(found), truth, atol=0.01)
    np.testing.assert_allclose(shift, 0, atol=0.01)
    assert gain > 0


def test_a_step_that_gains_nothing_changes_nothing():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(20, 5)).astype(np.float32)
    cores = [rng.normal(size=(1, 3, 5, 1))]
    targets = (rows @ dense_weight(cores).T).astype(np.float32) + 1
    flat = np.zeros((20, 3), dtype=np.float32)
    local = Local(rows, targets, None, flat, flat, numbers(3), lambda change: float(np.abs(change).sum()) * 1e6)
    found, shift, gain = refined(Factorization.dense(3, 5), cores, np.zeros(3), local)
    assert gain == 0 and found[0] is cores[0] and not shift.any()


def test_corrections_repeat_whether_sessions_are_kept_or_not(network):
    model, calib, _ = network
    factors = fitted(model, calib, PLANS[0])
    one, other = (Corrector(model, calib, runtime=r).correct(factors, sweeps=1) for r in (None, Runtime(sessions=0)))
    assert one.changed and dataclasses.astuple(one)[1:] == dataclasses.astuple(other)[1:]
    for name in factors:
        arrays, others = ((*found.factors[name].cores, found.factors[name].bias_shift) for found in (one, other))
        for array, same in zip(arrays, others, strict=True):
            np.testing.assert_array_equal(array, same)


@pytest.mark.slow
@pytest.mark.parametrize("plan", PLANS)
def test_a_correction_may_begin_with_the_layers_own_fits(network, plan):
    """They see the samples that judge, too; on data that nobody saw the corrected plan is as good for that."""
    model, calib, fresh = network
    weightings = compute_weightings(model, calib, ["w1", "w2"], samples=512)
    seen = moments(model, calib, ["w1", "w2"])
    own = {
        name: Fitter(weight := model.weight(name), seen[name], weighting=weightings[name]).fit(
            Factorization.parse(text, *weight.shape)
        )
        for name, text in zip(("w1", "w2"), plan, strict=True)
    }
    fits = SimpleNamespace(weightings=weightings, factors=lambda layer, choice: own[layer.name])
    alone = Corrector(model, calib, weightings=weightings).correct(own, sweeps=2)
    openings = OfLayers(model, fits, InMemory())
    found = Corrector(model, calib, weightings=weightings, openings=openings).correct(own, sweeps=2)
    assert alone.changed and found.changed
    assert loss(model, found.factors, fresh) < 0.9 * loss(model, own, fresh)
    assert loss(model, found.factors, fresh) < 1.1 * loss(model, alone.factors, fresh)
