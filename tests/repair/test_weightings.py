"""Losses of the whole model as errors of layers, against NumPy in float64, brute force and onnxruntime."""

from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import onnx.parser
import pytest
from onnx import numpy_helper

from lrfdse.base.events import Event
from lrfdse.base.store import Store
from lrfdse.explore.layers.fits import FitRequest, data_key, open_fits
from lrfdse.explore.layers.found_fits import FoundFits
from lrfdse.explore.plans.proxy import power_curve
from lrfdse.explore.plans.stages import told_apart
from lrfdse.factorize.chain import dense_weight
from lrfdse.factorize.fit import Fitter
from lrfdse.ir.choice import Choice as Chosen
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.factors import packed, unpacked
from lrfdse.model.data import Dataset
from lrfdse.model.graph import load_model
from lrfdse.model.runtime import Runtime
from lrfdse.quality.divergence import output_information
from lrfdse.quality.losses import Divergences
from lrfdse.repair.corrections import Corrections
from lrfdse.repair.moments import moments
from lrfdse.repair.weightings import output_weightings, weightings_key
from lrfdse.search.plans.knapsack import plans
from lrfdse.search.plans.spread import spread
from lrfdse.search.plans.tables import Choice, LayerTable

SIZES = (24, 20, 16, 5)


def softmax(scores):
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def write(path, scales=(1.0, 1.0, 1.0), activation="Identity"):
    """Write a chain of three Gemm whose weights decay, and return it with weights, biases and inputs in float64."""
    rng = np.random.default_rng(3)
    text = f"""g (float[n, 24] x) => (float[n, 5] y) {{
        a = Gemm <transB = 1> (x, w1, b1)  h = {activation} (a)
        b = Gemm <transB = 1> (h, w2, b2)  i = {activation} (b)
        y = Gemm <transB = 1> (i, w3, b3) }}"""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    weights, biases = [], []
    for k, scale in enumerate(scales, 1):
        m, n = SIZES[k], SIZES[k - 1]
        weight = rng.normal(size=(m, n)) * np.exp(-np.arange(n) / 10) / math.sqrt(n) * 2 * scale
        weights.append(weight.astype(np.float32).astype(np.float64))
        biases.append((rng.normal(size=m) / 4).astype(np.float32).astype(np.float64))
        model.graph.initializer.append(numpy_helper.from_array(weight.astype(np.float32), f"w{k}"))
        model.graph.initializer.append(numpy_helper.from_array(biases[-1].astype(np.float32), f"b{k}"))
    path.write_bytes(model.SerializeToString())
    x = rng.normal(size=(300, 24)).astype(np.float32)
    return weights, biases, x


def forward(weights, biases, x):
    for weight, bias in zip(weights, biases, strict=True):
        x = x @ weight.T + bias
    return x


def divergence(scores, reference):
    p, q = softmax(reference), softmax(scores)
    return float((p * np.log(p / q)).sum(axis=1).mean())


@pytest.fixture
def chain(tmp_path):
    path = tmp_path / "model.onnx"
    weights, biases, x = write(path)
    np.savez(tmp_path / "calib.npz", x=x)
    return load_model(path), Dataset({"x": x}, None), weights, biases, x.astype(np.float64)


def weighting_of(tail, scores):
    """Return the mean of J^T F J of a linear tail."""
    p = softmax(scores)
    fisher = np.einsum("sk,kl->kl", p, np.eye(p.shape[1])) / len(p) - p.T @ p / len(p)
    return tail.T @ fisher @ tail


def test_the_loss_of_zero_cores_is_the_second_order_estimate(chain):
    _, _, (w1, w2, w3), biases, x = chain
    weighting = weighting_of(w3 @ w2, forward([w1, w2, w3], biases, x))
    centred = x - x.mean(axis=0)
    fitter = Fitter(w1, moments(chain[0], chain[1], ["w1"])["w1"], weighting=weighting)
    shape = Factorization.parse("tt:m=4x5,n=6x4,r=3", 20, 24)
    zero = fitter.measured(shape, tuple(np.zeros(s) for s in shape.core_shapes))
    lost = -centred @ w1.T
    by_hand = 0.5 * np.mean([d @ weighting @ d for d in lost])
    assert zero.loss == pytest.approx(by_hand, rel=1e-6)
    fitted = fitter.fit(shape)
    lost = centred @ (dense_weight(fitted.cores) - w1).T
    assert fitted.loss == pytest.approx(0.5 * np.mean([d @ weighting @ d for d in lost]), rel=1e-6)
    assert fitter.fit(Factorization.dense(20, 24)).loss == 0.0
    assert Fitter(w1, weighting=weighting).fit(shape).loss is None
    assert Fitter(w1, moments(chain[0], chain[1], ["w1"])["w1"]).fit(shape).loss is None


def test_estimated_losses_of_layers_are_in_one_unit_and_add_up(chain):
    """Small independent errors of two layers cost the sum of their estimates, and each costs its own."""
    model, data, weights, biases, x = chain
    w1, w2, w3 = weights
    reference = forward(weights, biases, x)
    rng = np.random.default_rng(7)
    seen = moments(model, data, ["w1", "w2"])
    weightings = {"w1": weighting_of(w3 @ w2, reference), "w2": weighting_of(w3, reference)}
    estimates, losses, changed = [], [], []
    for k, weight in enumerate((w1, w2)):
        name = f"w{k + 1}"
        moved = weight + 0.01 * rng.normal(size=weight.shape)
        factors = Fitter(weight, seen[name], weighting=weightings[name]).measured(
            Factorization.parse(f"svd:r={min(weight.shape)}", *weight.shape), _svd_cores(moved)
        )
        own, shifts = list(weights), [b.copy() for b in biases]
        own[k], shifts[k] = moved, biases[k] + factors.bias_shift
        changed.append((moved, shifts[k]))
        estimates.append(factors.loss)
        losses.append(divergence(forward(own, shifts, x), reference))
    assert estimates == pytest.approx(losses, rel=0.1)
    (a, c), (b, d) = changed
    both = divergence(forward([a, b, w3], [c, d, biases[2]], x), reference)
    assert sum(estimates) == pytest.approx(both, rel=0.15)


def _svd_cores(weight):
    left, values, right = np.linalg.svd(weight, full_matrices=False)
    return (left * values)[None, :, None, :], right[:, None, :, None]


@pytest.mark.parametrize("loss", ["softmax", "squared"])
def test_the_divergence_of_a_layer_alone(chain, loss):
    model, data, weights, biases, x = chain
    seen = moments(model, data, ["w2"])["w2"]
    factors = Fitter(weights[1], seen).fit(Factorization.svd(16, 20, 3))
    found = Divergences(model, data, loss)({"w2": factors})
    own, shifts = list(weights), list(biases)
    own[1], shifts[1] = dense_weight(factors.cores), biases[1] + factors.bias_shift
    reference, scores = forward(weights, biases, x), forward(own, shifts, x)
    if loss == "softmax":
        p = softmax(reference)
        whole = float((p * np.log(p / p.mean(axis=0))).sum(axis=1).mean())
        wanted = divergence(scores, reference) / whole
    else:
        wanted = ((scores - reference) ** 2).sum() / ((reference - reference.mean(axis=0)) ** 2).sum()
    assert found == pytest.approx(wanted, rel=1e-3)
    assert Divergences(model, data, loss)({}) == pytest.approx(0, abs=1e-6)


def test_a_model_whose_outputs_are_constant_tells_nothing():
    assert output_information(np.ones((4, 1, 3)), "softmax") == output_information(np.ones((4, 1, 3)), "squared") == 1.0


def test_a_layer_that_matters_little_is_compressed_first(tmp_path):
    """The second layer is small and full of rank: relative errors give it what the first one needs."""
    text = """g (float[n, 16] x, float[n, 16] z) => (float[n, 16] y) {
        a = MatMul (x, u)  b = MatMul (z, v)  y = Add (a, b) }"""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    rng = np.random.default_rng(2)
    u, v = (
        scale * np.linalg.qr(rng.normal(size=(16, 16)))[0] * np.exp(-np.arange(16) / length)
        for scale, length in ((1.0, 4), (0.05, 8))
    )
    for name, weight in (("u", u), ("v", v)):
        model.graph.initializer.append(numpy_helper.from_array(weight.astype(np.float32), name))
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    x, z = (rng.normal(size=(400, 16)).astype(np.float32) for _ in range(2))
    original, data = load_model(path), Dataset({"x": x, "z": z}, None)
    weightings = output_weightings(original, data, ["u", "v"], "squared", Store(tmp_path / "cache"))
    seen = moments(original, data, ["u", "v"])
    options = {}
    for name in ("u", "v"):
        fitter = Fitter(original.weight(name), seen[name], weighting=weightings[name])
        options[name] = [fitter.fit(Factorization.svd(16, 16, rank)) for rank in range(1, 8)]
    lost = Divergences(original, data, "squared")
    reference = x @ u + z @ v

    def true(plan):
        changed = [dense_weight(f.cores).T for f in plan]
        scores = x @ changed[0] + plan[0].bias_shift + z @ changed[1] + plan[1].bias_shift
        return float(((scores - reference) ** 2).sum(axis=1).mean() / 2)

    def chosen(error):
        tables = [
            LayerTable(
                name,
                (
                    Choice("dense", 256, 1.0, 0.0),
                    *(Choice(str(f.factorization), f.factorization.params, 1.0, error(name, f)) for f in each),
                ),
            )
            for name, each in options.items()
        ]
        front = plans(tables, max_params=256)
        texts = front.texts(int(np.argmin(front.error)))
        return [next(f for f in options[name] if str(f.factorization) == texts[name]) for name in ("u", "v")]

    pairs = [(a, b) for a in options["u"] for b in options["v"]]
    pairs = [p for p in pairs if sum(f.factorization.params for f in p) <= 256]
    best = min(true(pair) for pair in pairs)
    assert true(chosen(lambda _, f: f.loss)) == pytest.approx(best, rel=1e-6)
    assert true(chosen(lambda name, f: lost({name: f}))) == pytest.approx(best, rel=1e-6)
    assert true(chosen(lambda _, f: f.output_error**2)) > 2 * best


def test_fits_with_a_weighting_are_kept_under_keys_of_their_own(chain, tmp_path):
    model, data, *_ = chain
    shape, names = Factorization.svd(16, 20, 3), ["w1", "w2"]
    requests = [FitRequest("auto", loss=loss) for loss in ("softmax", "squared")]
    cache = Store(tmp_path / "cache")
    layer = model.layer("w2")
    one, other = (open_fits(each, model, data, names, cache).factors(layer, Chosen(shape)) for each in requests)
    assert one.loss is not None and other.loss is not None
    assert not np.allclose(dense_weight(one.cores), dense_weight(other.cores), atol=1e-4)
    assert weightings_key(model, data, "softmax") != weightings_key(model, data, "squared")

    def never():
        raise AssertionError("what is kept was fitted again")

    found = FoundFits(never, names, "auto", data_key(model, data), cache, weightings_key(model, data, "softmax"))
    again = found.factors(layer, Chosen(shape))
    assert again.loss == one.loss
    np.testing.assert_array_equal(again.cores[0], one.cores[0])


def test_weights_alone_have_no_losses(chain, tmp_path):
    model, _, *_ = chain
    fits = open_fits(FitRequest("auto"), model, None, ["w2"], Store(tmp_path))
    assert fits.weightings == {}
    assert fits.factors(model.layer("w2"), Chosen(Factorization.svd(16, 20, 3))).loss is None


def test_weightings_are_computed_once(chain, tmp_path, monkeypatch):
    model, data, *_ = chain
    cache = Store(tmp_path / "cache")
    told = []
    first = output_weightings(model, data, ["w1"], "softmax", cache, progress=told.append)
    assert told == [Event("calibrate", "w1", done, 1) for done in (0, 1)]
    monkeypatch.setattr("lrfdse.repair.curvature.compute_weightings", None)
    np.testing.assert_array_equal(output_weightings(model, data, ["w1"], "softmax", cache)["w1"], first["w1"])
    assert output_weightings(model, data, ["w2"], "softmax", cache, most_outputs=4) == {}


def test_losses_survive_the_cache(chain):
    model, data, weights, *_ = chain
    factors = Fitter(weights[1], moments(model, data, ["w2"])["w2"], weighting=np.eye(16)).fit(
        Factorization.svd(16, 20, 3)
    )
    again = unpacked(factors.choice, packed(factors))
    assert (again.weight_error, again.output_error, again.loss) == (
        factors.weight_error,
        factors.output_error,
        factors.loss,
    )
    bare = unpacked(factors.choice, packed(dataclasses.replace(factors, loss=None, output_error=None)))
    assert bare.loss is None and bare.output_error is None


def test_a_power_of_the_error_is_found_from_two_points():
    at = [0.02, 0.5]
    errors = {"dense": 0.0, **{str(e): e for e in (0.02, 0.05, 0.1, 0.3, 0.5)}}
    found = power_curve(at, [3 * e**1.7 for e in at], errors)
    assert found.pop("dense") == 0
    assert list(found.values()) == pytest.approx([3 * float(e) ** 1.7 for e in found], rel=1e-9)


def test_losses_that_runs_do_not_see_still_order_options():
    found = power_curve([0.1, 0.2], [0.0, -1e-9], {"a": 0.05, "b": 0.1, "c": 0.4})
    assert 0 < found["a"] < found["b"] < found["c"] < 1e-6


def test_plans_that_lose_nothing_anyone_notices_are_equally_far():
    options = [Choice("dense", 1000, 9.0, 0.0)]
    options += [Choice(f"svd:r={r}", 100 * r, float(r), 10.0 ** -(r + 1)) for r in range(1, 8)]
    front = plans([LayerTable("a", tuple(options))])
    seen = told_apart(front)
    assert len(seen) == len(front) == 8
    assert [seen.texts(i) for i in range(8)] == [front.texts(i) for i in range(8)]
    assert sorted(seen.error)[:6] == [3e-3] * 6 and max(seen.error) == max(front.error) == 1e-2
    # The smallest of the plans that lose nothing stands for them, and not the dense model.
    assert seen.texts(spread(seen, 1)[0]) == {"a": "svd:r=2"}
    assert front.texts(spread(front, 1)[0]) == {"a": "dense"}


def tied(path, size, rows):
    """Write a model that applies one weight twice, and return it."""
    text = f"""g (float[n, {rows}, {size}] x) => (float[n, {rows}, {size}] y) {{
        a = MatMul (x, w)  h = Relu (a)  y = MatMul (h, w) }}"""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    weight = np.random.default_rng(0).standard_normal((size, size)).astype(np.float32) / size
    model.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    path.write_bytes(model.SerializeToString())
    return load_model(path)


def test_a_shared_weight_counts_once_a_use_where_samples_are_chosen(tmp_path, monkeypatch):
    size, rows = 512, 16
    model = tied(tmp_path / "model.onnx", size, rows)
    (layer,) = model.layers
    assert [use.rows for use in layer.uses] == [rows, rows]
    flops, ran = 2 * (2 * size * size * rows), []
    run = Runtime.run
    monkeypatch.setattr(Runtime, "run", lambda self, *a, **k: ran.append(a[1].count) or run(self, *a, **k))
    data = Dataset({"x": np.zeros((300, rows, size), np.float32)}, None)
    Divergences(model, data, "squared")
    assert ran == [int(4e9 / flops)]


@pytest.mark.parametrize(("samples", "cheap"), [(700_000, True), (800_000, False)])
def test_a_shared_weight_counts_once_a_use_where_corrections_are_priced(samples, cheap, tmp_path):
    # 64 x 64, two uses of 8 rows, 2 FLOPs a multiply-accumulate: 131,072 FLOPs a sample, of 1e11 that are cheap.
    model = tied(tmp_path / "model.onnx", 64, 8)
    found = Corrections(model, SimpleNamespace(count=samples), None, Store(tmp_path), loss="squared")
    assert found.always is cheap


def test_threads_change_no_weighting(chain, tmp_path):
    model, data, *_ = chain
    names = [layer.name for layer in model.layers]
    one, two = (
        output_weightings(model, data, names, "softmax", Store(tmp_path / str(threads)), threads=threads)
        for threads in (1, 2)
    )
    assert list(one) == list(two) and len(one) > 1
    for name, weighting in one.items():
        np.testing.assert_array_equal(weighting, two[name])
