"""Inputs of steps rounded to 8 bits: levels against whole numbers, ranges, and what fits say of the chain."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrfdse.factorize.chain import dense_weight
from lrfdse.factorize.fit import Fitter
from lrfdse.factorize.inputs import rounded, rounded_inputs, rounding_of
from lrfdse.ir.choice import Choice
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.factors import Moments, packed, unpacked
from lrfdse.ir.storage import FLOAT32, INT8, QDQ
from tests.plugins.whole_numbers import chain_of

OUTPUTS, INPUTS = 24, 30
SHAPES = ("dense", "svd:r=6", "tt:m=1x24,n=30x1,r=6,lr")


def data(seed: int, count: int = 500) -> np.ndarray:
    """Return rows behind a ReLU, of inputs of very different sizes that depend on each other."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((INPUTS, INPUTS)) * np.geomspace(3, 0.1, INPUTS)
    return np.maximum(rng.standard_normal((count, INPUTS)) @ mixing, 0).astype(np.float32)


def moments(rows: np.ndarray, kept: bool = True) -> Moments:
    exact = rows.astype(np.float64)
    some = rows if kept else None
    return Moments(len(rows), exact.mean(axis=0), exact.T @ exact / len(rows), rows=some)


def error_of(given_: np.ndarray, wanted: np.ndarray) -> float:
    """Return the relative error of outputs about their mean."""
    left = given_ - wanted
    return float(np.linalg.norm(left - left.mean(axis=0)) / np.linalg.norm(wanted - wanted.mean(axis=0)))


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_zero_has_a_level_and_the_levels_reach_over_the_range(one, other):
    low, high = min(one, other), max(one, other)
    rounding = rounding_of(low, high)
    assert rounding.least <= 0 <= rounding.most
    if max(high, 0) - min(low, 0) > 1e-30:
        assert rounding.least * rounding.scale <= min(low, 0.0) + 0.51 * rounding.scale
        assert rounding.most * rounding.scale >= max(high, 0.0) - 0.51 * rounding.scale
    np.testing.assert_allclose(
        rounded(np.array([low, 0.0, high]), rounding), [low, 0.0, high], atol=0.51 * rounding.scale
    )


def test_a_range_leaves_out_what_is_rare_where_that_costs_less():
    rows = data(1, 20000)
    plain = rounded_inputs(Factorization.dense(1, INPUTS), [np.ones((1, 1, INPUTS, 1))], rows).roundings[0]
    rows[0, 0] = 1.5 * rows.max()
    found = rounded_inputs(Factorization.dense(1, INPUTS), [np.ones((1, 1, INPUTS, 1))], rows).roundings[0]
    assert found.most * found.scale < 0.9 * rows.max()
    # Where the rare one meets all the weight, it is kept.
    weights = np.full(INPUTS, 1e-3)
    weights[0] = 1.0
    kept = rounded_inputs(Factorization.dense(1, INPUTS), [weights[None, None, :, None]], rows).roundings[0]
    assert kept.most * kept.scale >= 0.999 * rows.max() and kept.scale > plain.scale


@pytest.mark.parametrize("text", SHAPES)
def test_weights_are_those_of_int8_and_errors_and_the_bias_are_of_whole_numbers(text):
    weight = np.random.default_rng(2).standard_normal((OUTPUTS, INPUTS))
    rows, f = data(3), Factorization.parse(text, OUTPUTS, INPUTS)
    fitter = Fitter(weight, moments(rows))
    found, plain = fitter.fit(f, QDQ), fitter.fit(f, INT8)
    assert (found.storage, found.choice) == (QDQ, Choice(f, QDQ))
    for core, other in zip(found.cores, plain.cores, strict=True):
        np.testing.assert_array_equal(core, other)
    assert len(found.roundings) == len(f.steps()) and found.roundings[0].least == 0
    wanted, given_ = rows.astype(np.float64) @ weight.T, chain_of(found, rows)
    # What is corrected last makes up for all of it: weights, factors and inputs.
    np.testing.assert_allclose((given_ + found.bias_shift - wanted).mean(axis=0), 0, atol=1e-6)
    assert found.output_error == pytest.approx(error_of(given_, wanted), rel=0.03)
    assert found.output_error > plain.output_error
    again = unpacked(found.choice, packed(found))
    assert again.roundings == found.roundings
    stored = fitter.stored(fitter.fit(f, FLOAT32), Choice(f, QDQ))
    assert stored.roundings == found.roundings
    np.testing.assert_array_equal(stored.bias_shift, found.bias_shift)


def test_the_loss_is_that_of_the_weighting_and_grows():
    rng = np.random.default_rng(4)
    weight, half = rng.standard_normal((OUTPUTS, INPUTS)), rng.standard_normal((OUTPUTS, OUTPUTS))
    rows, f, weighting = data(5), Factorization.svd(OUTPUTS, INPUTS, 5), half @ half.T
    fitter = Fitter(weight, moments(rows), weighting=weighting)
    found, plain = fitter.fit(f, QDQ), fitter.fit(f, INT8)
    exact = rows.astype(np.float64)
    left = chain_of(found, rows) + found.bias_shift - exact @ weight.T
    assert found.loss == pytest.approx(float(np.vdot(left @ weighting, left)) / len(left) / 2, rel=0.03)
    assert found.loss > plain.loss


def test_without_rows_there_is_no_range():
    weight = np.random.default_rng(6).standard_normal((OUTPUTS, INPUTS))
    f = Factorization.dense(OUTPUTS, INPUTS)
    for seen in (None, moments(data(7), kept=False)):
        with pytest.raises(ValueError, match="there are none"):
            Fitter(weight, seen).fit(f, QDQ)
    with pytest.raises(ValueError, match="finite"):
        rounded_inputs(f, [weight[None, :, :, None]], np.full((2, INPUTS), np.nan))


@pytest.mark.parametrize("text", SHAPES)
def test_zeros_constants_and_outputs_that_do_not_vary_are_right(text):
    rng = np.random.default_rng(8)
    weight = rng.standard_normal((OUTPUTS, INPUTS))
    weight[:, 3], weight[5] = 0.0, 0.0
    rows = data(9)
    rows[:, 7], rows[:, 8] = 2.5, 0.0
    found = Fitter(weight, moments(rows)).fit(Factorization.parse(text, OUTPUTS, INPUTS), QDQ)
    assert all(np.isfinite(core).all() for core in found.cores) and found.output_error < 1
    still = np.zeros_like(rows)
    nothing = Fitter(weight, moments(still)).fit(Factorization.parse(text, OUTPUTS, INPUTS), QDQ)
    assert not chain_of(nothing, still).any() and nothing.output_error == 0
    assert dense_weight(nothing.cores).shape == (OUTPUTS, INPUTS)


@pytest.mark.parametrize("text", ["tt:m=24x1,n=1x30,r=6,lr", "tt:m=4x6,n=5x6,r=7", "tt:m=2x3x4,n=3x2x5,r=4x5,lr"])
def test_only_chains_of_whole_rows_take_it(text):
    f = Factorization.parse(text, OUTPUTS, INPUTS)
    assert INT8.takes(f) and not QDQ.takes(f)
    with pytest.raises(ValueError, match="whole rows"):
        Fitter(np.ones((OUTPUTS, INPUTS)), moments(data(10))).fit(f, QDQ)
    assert all(QDQ.takes(Factorization.parse(each, OUTPUTS, INPUTS)) for each in SHAPES)
