"""Rounding to int8, against brute force and against constrained least squares solved one column at a time."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrfdse.factorize.rounding import DAMPING, against_moment, harm
from lrfdse.ir.int8 import LARGEST, Int8Matrix, nearest


def moment(rng, inputs, count=64, strength=1.0):
    """Return the second moment of correlated inputs, some of them far stronger than others."""
    mixed = rng.normal(size=(count, inputs)) @ rng.normal(size=(inputs, inputs))
    rows = mixed * np.exp(strength * rng.normal(size=inputs))
    return rows.T @ rows / count


def coarse(rng, outputs, inputs):
    """Return a weight of few levels, whose rounding errors matter: small elements beside one that sets the scale."""
    weight = rng.normal(size=(outputs, inputs))
    weight[:, 0] = 60 * np.abs(weight).max(axis=1)
    return weight


def column_by_column(weight, scales, second):
    """Return levels by solving for all free weights anew, in float64, after each column is rounded."""
    h = second + DAMPING * np.diag(second).mean() * np.eye(len(second))
    order = list(np.argsort(-np.diag(second), kind="stable"))
    left, levels = weight.copy(), np.zeros(weight.shape, np.int8)
    while order:
        j, rest = order[0], order[1:]
        levels[:, j] = np.clip(np.rint(left[:, j] / scales), -LARGEST, LARGEST)
        error = left[:, j] - levels[:, j] * scales
        if rest:
            # min over d of (e, d) H (e, d)^T with the error of column j held at e: H_rr d = -H_rj e.
            left[:, rest] += np.outer(error, np.linalg.solve(h[np.ix_(rest, rest)], h[rest, j]))
        order = rest
    return levels


@pytest.mark.parametrize("inputs", [1, 2, 5, 150, pytest.param(300, marks=pytest.mark.slow)])
def test_each_column_is_the_solution_of_constrained_least_squares(inputs):
    rng = np.random.default_rng(inputs)
    weight, second = coarse(rng, 3, inputs), moment(rng, inputs, 4 * inputs)
    plain = nearest(weight)
    wanted = Int8Matrix(column_by_column(weight, plain.scales.astype(np.float64), second), plain.scales)
    better = harm(wanted, weight, second) < harm(plain, weight, second)
    found = against_moment(weight, second)
    assert np.array_equal(found.levels[better], wanted.levels[better])
    assert np.array_equal(found.levels[~better], plain.levels[~better])
    assert inputs < 5 or better.any(), "a case in which the greedy scheme does nothing shows nothing"


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 4))
def test_harm_lies_between_that_of_the_best_of_all_roundings_and_that_of_nearest(seed, inputs):
    rng = np.random.default_rng(seed)
    weight, second = coarse(rng, 2, inputs), moment(rng, inputs)
    found, plain = against_moment(weight, second), nearest(weight)
    scales = plain.scales.astype(np.float64)
    down = np.floor(weight / scales[:, None])
    steps = np.array(list(itertools.product(range(-2, 4), repeat=inputs)))
    for row in range(2):
        every = np.clip(down[row] + steps, -LARGEST, LARGEST).astype(np.int8)
        tried = Int8Matrix(every, np.full(len(every), plain.scales[row]))
        best = harm(tried, np.tile(weight[row], (len(every), 1)), second).min()
        mine = harm(found, weight, second)[row]
        if (every == found.levels[row]).all(axis=1).any():
            assert best <= mine * (1 + 1e-9)
        assert mine <= harm(plain, weight, second)[row]


def test_on_correlated_inputs_the_harm_falls_to_less_than_half():
    rng = np.random.default_rng(0)
    weight, second = coarse(rng, 16, 64), moment(rng, 64, 1000, strength=0.5)
    assert (
        harm(against_moment(weight, second), weight, second).sum() < 0.5 * harm(nearest(weight), weight, second).sum()
    )


def test_independent_inputs_leave_nothing_to_gain():
    rng = np.random.default_rng(1)
    weight = rng.normal(size=(4, 30))
    assert np.array_equal(against_moment(weight, np.diag(rng.uniform(1, 2, 30))).levels, nearest(weight).levels)


def test_nearest_is_within_half_a_level_and_uses_the_whole_range():
    weight = np.random.default_rng(2).normal(size=(5, 40)) * 10.0 ** np.arange(-4, 1)[:, None]
    found = nearest(weight)
    assert (np.abs(found.dense() - weight) <= 0.5001 * found.scales[:, None]).all()
    assert (np.abs(found.levels).max(axis=1) == LARGEST).all()


@pytest.mark.parametrize("value", [0.0, 1e-45, 1e-37, 3.0, -3.0, float(np.finfo(np.float32).max)])
def test_constant_outputs_zeros_and_the_ends_of_float32(value):
    weight = np.full((2, 7), value)
    for found in (nearest(weight), against_moment(weight, np.ones((7, 7)))):
        assert (found.scales > 0).all() and np.isfinite(found.scales).all()
        product = found.scales[:, None] * found.levels.astype(np.float32)
        assert np.isfinite(product).all()
        assert np.allclose(product, value, rtol=1e-6, atol=1e-36)


def test_inputs_that_are_always_zero_leave_nearest():
    weight = np.random.default_rng(3).normal(size=(3, 6))
    assert np.array_equal(against_moment(weight, np.zeros((6, 6))).levels, nearest(weight).levels)
    second = np.zeros((6, 6))
    second[:3, :3] = moment(np.random.default_rng(4), 3)
    assert np.isfinite(harm(against_moment(weight, second), weight, second)).all()


def test_numbers_that_are_none_are_refused():
    weight = np.ones((2, 3))
    with pytest.raises(ValueError, match="second moment of 3 inputs must be finite"):
        against_moment(weight, np.full((3, 3), np.nan))
    with pytest.raises(ValueError, match="of shape"):
        against_moment(weight, np.eye(2))
    with pytest.raises(ValueError, match="NaN or Inf"):
        nearest(np.array([[1.0, np.nan]]))
