"""First fits of corrections: made once, or the layers' own."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from lrfdse.factorize.fit import Fitter
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.factors import Moments
from lrfdse.ir.storage import INT8
from lrfdse.repair.openings import InMemory, LatestFitters, OfLayers


def fail():
    raise AssertionError("fitted though it is known")


@pytest.fixture
def fitter():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(64, 20)) @ rng.normal(size=(20, 20))
    seen = Moments(64, rows.mean(axis=0), rows.T @ rows / 64, rows=rows.astype(np.float32))
    return Fitter(rng.normal(size=(12, 20)), seen, weighting=np.diag(np.arange(1.0, 13.0)))


def test_another_layer_choice_or_weighting_is_another_fit(fitter):
    shape = Factorization.parse("svd:r=3", 12, 20)
    kept, made = InMemory(), [fitter.fit(shape), fitter.fit(shape, INT8)]
    cases = [("w", True, made[0]), ("v", True, made[0]), ("w", False, made[0]), ("w", True, made[1])]
    for layer, weighted, each in cases:
        fitted = []

        def fit(each=each, fitted=fitted):
            fitted.append(each)
            return each

        assert kept.factors(layer, each.choice, weighted, fit) is each
        assert kept.factors(layer, each.choice, weighted, fail) is each and len(fitted) == 1


def test_first_fits_are_the_layers_own_where_they_go_by_the_same_weighting(fitter):
    """Others are asked for by what stands outside: a stub of the layers' fits, of which one has a weighting."""
    shape = Factorization.parse("svd:r=3", 12, 20)
    own, other = fitter.fit(shape), dataclasses.replace(fitter, weighting=None).fit(shape)
    fits = SimpleNamespace(weightings={"w": fitter.weighting}, factors=lambda layer, choice: own)
    first = OfLayers(SimpleNamespace(layer=lambda name: name), fits, InMemory())
    assert first.factors("w", own.choice, True, fail) is own
    assert first.factors("w", own.choice, False, lambda: other) is other
    assert first.factors("v", own.choice, False, fail) is own
    assert first.factors("v", own.choice, True, lambda: other) is other


def test_the_latest_fitters_are_kept(fitter):
    kept, made = LatestFitters(most=2), []

    def make():
        made.append(dataclasses.replace(fitter))
        return made[-1]

    one, two = kept.of("a", 20, make), kept.of("b", 20, make)
    assert kept.of("a", 20, make) is one and kept.of("b", 20, make) is two and len(made) == 2
    kept.of("c", 20, make)
    assert kept.of("b", 20, make) is two and kept.of("a", 20, make) is not one
    assert kept.of("large", 4096, make) is not kept.of("large", 4096, make)
