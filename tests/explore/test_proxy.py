"""Predicted errors against an analytic network, and what is run for them."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from lrfdse.base.store import Store
from lrfdse.errors import InputError
from lrfdse.explore.plans.proxy import loss_errors, probes, proxy_errors
from lrfdse.ir.choice import Choice
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.latency import Latency
from lrfdse.ir.layer import Layer, Use
from lrfdse.ir.space import Cost, Funnel
from lrfdse.quality.scores import Scores
from lrfdse.results.exploration import LayerResult, MeasuredChoice
from lrfdse.results.settings import PROXIES

RANKS = (1, 2, 3, 5, 8, 12, 16)


def option(shape, weight_error, output_error):
    latency = Latency(1.0, 1.0, 1.0)
    return MeasuredChoice(
        Choice(shape),
        Cost.of(shape, 1, 4),
        shape.params + 64,
        4 * (shape.params + 64),
        weight_error,
        output_error,
        *(latency, latency, 0.0, ("",)),
    )


def layer_of(name):
    layer = Layer(name, 64, 64, (Use(name, 1, True, False),), 64, name)
    options = [option(Factorization.dense(64, 64), 0.0, 0.0)]
    options += [option(Factorization.svd(64, 64, r), 0.9 / r, 0.8 / r) for r in RANKS]
    return LayerResult(layer, 0.5, 10.0, Funnel(()), tuple(options))


LAYERS = [layer_of("a"), layer_of("b")]
STEEP = {"a": 0.5, "b": 0.01}


class Network:
    """Loses `STEEP` times the output error of each layer; counts what it was asked."""

    def __init__(self, noise=0.0):
        self.asked = []
        self.noise = np.random.default_rng(0)
        self.scale = noise

    def __call__(self, plans):
        self.asked += [dict(plan) for plan in plans]
        return [self.score(plan) for plan in plans]

    def score(self, plan):
        loss = self.scale * self.noise.standard_normal() * bool(plan)
        for result in LAYERS:
            text = plan.get(result.layer.name, "dense")
            loss += STEEP[result.layer.name] * next(o.error for o in result.options if o.text == text)
        return Scores(0.9 - loss, None, 1.0 - 2 * loss, 0.0)


class Steep:
    """Loses a power of the output error, another one in each layer; counts what it was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, plans):
        self.asked += [dict(plan) for plan in plans]
        return [self.loss(*next(iter(plan.items()))) for plan in plans]

    def loss(self, name, text):
        error = next(o.error for o in LAYERS[0].options if o.text == text)
        return {"a": 5 * error**2, "b": 0.01 * error**0.5}[name]


@pytest.fixture
def cache(tmp_path):
    return Store(tmp_path)


def test_errors_that_need_no_run(cache):
    network = Network()
    weights = proxy_errors("weight", LAYERS, network, cache)
    outputs = proxy_errors("output", LAYERS, network, cache)
    assert weights["a"] == {o.text: o.weight_error**2 for o in LAYERS[0].options}
    assert outputs["b"]["svd:r=2"] == pytest.approx(0.16)
    assert network.asked == []


@pytest.mark.parametrize(("kind", "factor"), [("score", 1), ("fidelity", 2)])
def test_a_loss_proportional_to_the_output_error_is_found_at_every_option(kind, factor, cache):
    network = Network()
    errors = proxy_errors(kind, LAYERS, network, cache)
    for result in LAYERS:
        for o in result.options:
            expected = factor * STEEP[result.layer.name] * o.error
            assert errors[result.layer.name][o.text] == pytest.approx(expected, abs=2e-4 * o.error)
        assert errors[result.layer.name]["dense"] == 0
    assert network.asked[0] == {}
    assert [list(plan) for plan in network.asked[1:]] == [["a"]] * 4 + [["b"]] * 4


def test_a_loss_that_is_a_power_of_the_output_error_is_found_at_every_option_between_those_run(cache):
    network = Steep()
    errors = loss_errors(LAYERS, network, cache)
    for result in LAYERS:
        for o in result.options:
            assert errors[result.layer.name][o.text] == pytest.approx(network.loss(result.layer.name, o.text))
    assert [list(plan) for plan in network.asked] == [["a"]] * 4 + [["b"]] * 4
    again = Steep()
    assert loss_errors(LAYERS, again, cache) == errors and again.asked == []
    assert loss_errors(LAYERS, again, cache, ("other data",)) == errors and again.asked == network.asked


@pytest.mark.parametrize("content", ['{"loss": 1e308}', '{"loss": NaN}', '{"loss": "1"}', "{}"])
def test_a_stored_loss_that_is_none_is_run_again(content, cache):
    errors, again = loss_errors(LAYERS, Steep(), cache), Steep()
    for path in cache.folder.rglob("sensitivity/*/*.json"):
        path.write_text(content)
    assert loss_errors(LAYERS, again, cache) == errors and len(again.asked) == 8


def test_estimated_losses_go_before_output_errors(cache):
    """They order the options otherwise: what is run is their front, and predictions rise with them."""
    options = [LAYERS[0].options[0], *LAYERS[0].options[1:]]
    options = [dataclasses.replace(o, loss=o.error**3 if o.params % 2 else 2 * o.error**3) for o in options]
    result = dataclasses.replace(LAYERS[0], options=tuple(options))
    assert result.rank_errors() == {o.text: o.loss for o in options}
    half = dataclasses.replace(result, options=(*options[:-1], LAYERS[0].options[-1]))
    assert half.rank_errors() == {o.text: o.error for o in half.options}
    errors = loss_errors([result], lambda plans: [7 * result.rank_errors()[p["a"]] for p in plans], cache)["a"]
    assert errors == pytest.approx({o.text: 7 * o.loss for o in options})


def test_layers_that_cannot_be_run_keep_their_output_errors(cache):
    errors = loss_errors(LAYERS, lambda plans: [None] * len(plans), cache)
    assert errors["b"] == {o.text: o.error for o in LAYERS[1].options}


def test_noise_never_makes_a_larger_error_look_better(cache):
    for result in LAYERS:
        errors = proxy_errors("score", LAYERS, Network(0.05), cache)[result.layer.name]
        by_error = [errors[o.text] for o in sorted(result.options, key=lambda o: o.error)]
        assert by_error[0] == 0
        assert all(a < b for a, b in itertools.pairwise(by_error))


def test_what_was_run_is_not_run_again(cache):
    first, again, other = Network(), Network(), Network()
    errors = proxy_errors("score", LAYERS, first, cache, ("data",))
    assert proxy_errors("score", LAYERS, again, cache, ("data",)) == errors
    assert again.asked == []
    proxy_errors("fidelity", LAYERS, again, cache, ("data",))
    assert again.asked == []
    proxy_errors("score", LAYERS, other, cache, ("other data",))
    assert other.asked == first.asked
    # More points run only what is missing.
    proxy_errors("score", LAYERS, again, cache, ("data",), points=6)
    assert 0 < len(again.asked) <= 2 * 6 - 4
    assert not [plan for plan in again.asked if plan in first.asked]


def test_plans_that_cannot_be_run(cache):
    def broken(plans):
        return [Scores(0.9, None, 1.0, 0.0) if not plan else None for plan in plans]

    errors = proxy_errors("score", LAYERS, broken, cache)
    assert errors["a"] == {o.text: o.error for o in LAYERS[0].options}
    with pytest.raises(InputError, match="original model cannot be evaluated"):
        proxy_errors("score", LAYERS, lambda plans: [None] * len(plans), Store(cache.folder / "other"))


def test_probes_are_on_the_front_and_span_it():
    beaten = option(Factorization.svd(64, 64, 4), 0.9, 0.79)
    result = dataclasses.replace(LAYERS[0], options=(*LAYERS[0].options, beaten))
    found = probes(result, 4)
    assert next(o.text for o in found) == "svd:r=1"
    assert [o.text for o in found][-1] == "svd:r=16"
    assert beaten not in found
    assert len(found) == 4
    ratios = np.diff(np.log([o.params for o in found]))
    assert ratios.max() < 2.5 * ratios.min()
    assert len(probes(result, 99)) == len(RANKS)
    kept_dense = dataclasses.replace(result, options=result.options[:1])
    assert probes(kept_dense) == []


def test_a_layer_that_is_kept_dense(cache):
    kept = dataclasses.replace(LAYERS[1], options=LAYERS[1].options[:1])
    for kind in set(PROXIES) - {"loss"}:
        assert proxy_errors(kind, [LAYERS[0], kept], Network(), cache)["b"] == {"dense": 0}
    assert loss_errors([LAYERS[0], kept], Steep(), cache)["b"] == {"dense": 0}


def test_no_such_proxy(cache):
    with pytest.raises(InputError, match="--proxy takes loss, output, weight, fidelity, score, but got 'rank'"):
        proxy_errors("rank", LAYERS, Network(), cache)


def test_two_points_tell_a_power_as_four_do(cache):
    four, two = (loss_errors(LAYERS, Steep(), Store(cache.folder / str(n)), points=n) for n in (4, 2))
    for name, errors in four.items():
        assert two[name] == pytest.approx(errors, rel=1e-9)
