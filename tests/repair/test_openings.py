"""First fits of corrections: what is kept is what was fitted, to the last digit."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from lrfdse.base.store import Store
from lrfdse.factorize.fit import Fitter
from lrfdse.ir.choice import Choice
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.factors import Moments
from lrfdse.ir.storage import FLOAT32, INT8, QDQ
from lrfdse.repair.openings import InMemory, InStore, LatestFitters

SHAPES = ("svd:r=3", "tt:m=6x2,n=4x5,r=4", "tt:m=1x12,n=10x2,r=4,lr")


def fail():
    raise AssertionError("fitted though it is known")


@pytest.fixture
def fitter():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(64, 20)) @ rng.normal(size=(20, 20))
    seen = Moments(64, rows.mean(axis=0), rows.T @ rows / 64, rows=rows.astype(np.float32))
    return Fitter(rng.normal(size=(12, 20)), seen, weighting=np.diag(np.arange(1.0, 13.0)))


@pytest.mark.parametrize(
    ("text", "storage"), [*((text, storage) for text in SHAPES for storage in (FLOAT32, INT8)), (SHAPES[0], QDQ)]
)
def test_others_find_what_was_fitted(tmp_path, fitter, text, storage):
    choice = Choice(Factorization.parse(text, 12, 20), storage)
    made = fitter.fit(choice.factorization, storage)
    one, other = (InStore(Store(tmp_path), {"model": "a"}) for _ in range(2))
    assert one.factors("w", choice, True, lambda: made) is made
    assert one.factors("w", choice, True, fail) is made
    found = other.factors("w", choice, True, fail)
    assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(made.cores, found.cores, strict=True))
    assert np.array_equal(made.bias_shift, found.bias_shift)
    assert (found.weight_error, found.output_error, found.loss) == (made.weight_error, made.output_error, made.loss)
    assert found.choice == choice and found.roundings == made.roundings
    if storage.scaled:
        assert all(np.array_equal(a, b) for a, b in zip(made.scales, found.scales, strict=True))


def test_another_layer_choice_weighting_or_model_is_another_fit(tmp_path, fitter):
    shape = Factorization.parse(SHAPES[0], 12, 20)
    made = [fitter.fit(shape), fitter.fit(shape, INT8)]
    cache = Store(tmp_path)
    InStore(cache, {"model": "a"}).factors("w", made[0].choice, True, lambda: made[0])
    for model, layer, weighted, each in (
        ("a", "v", True, made[0]),
        ("a", "w", False, made[0]),
        ("a", "w", True, made[1]),
        ("b", "w", True, made[0]),
    ):
        fitted = []

        def fit(each=each, fitted=fitted):
            fitted.append(each)
            return each

        for kept in (InStore(cache, {"model": model}), InMemory()):
            kept.factors(layer, each.choice, weighted, fit)
            kept.factors(layer, each.choice, weighted, fail)
        assert len(fitted) == 2


def test_the_latest_fitters_are_kept(fitter):
    kept, made = LatestFitters(most=2), []

    def make():
        made.append(dataclasses.replace(fitter))
        return made[-1]

    one, two = kept.of("a", make), kept.of("b", make)
    assert kept.of("a", make) is one and kept.of("b", make) is two and len(made) == 2
    kept.of("c", make)
    assert kept.of("b", make) is two and kept.of("a", make) is not one
