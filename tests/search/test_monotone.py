"""The monotone fit against the min-max formula, scikit-learn and plain conditions of optimality."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrfdse.search.plans.monotone import MonotoneFit

pairs = st.lists(st.tuples(st.integers(1, 12), st.integers(-20, 40)), min_size=1, max_size=12)


@settings(deadline=None)
@given(pairs)
def test_the_fit_is_the_min_max_formula_over_weighted_means(points):
    x = np.array([p[0] for p in points]) / 16
    y = np.array([p[1] for p in points]) / 64
    fit = MonotoneFit.of(list(x), list(y))
    at = np.unique(x)
    assert fit.at == tuple(at)
    # Robertson, Wright and Dykstra (1988), theorem 1.4.4: max over starts of the min over ends of the mean between.
    for i in range(len(at)):
        formula = max(min(y[(x >= at[a]) & (x <= at[b])].mean() for b in range(i, len(at))) for a in range(i + 1))
        assert fit.values[i] == pytest.approx(max(0.0, formula), abs=1e-12)


def test_the_fit_is_that_of_scikit_learn():
    isotonic = pytest.importorskip("sklearn.isotonic")
    rng = np.random.default_rng(0)
    x = np.sort(rng.random(30)) + 0.1
    y = x**2 + rng.normal(0, 0.1, 30)
    theirs = isotonic.IsotonicRegression(y_min=0).fit(x, y)
    ours = MonotoneFit.of(list(x), list(y))
    inside = np.linspace(x[0], x[-1], 200)
    np.testing.assert_allclose(ours.predict(inside), theirs.predict(inside), atol=1e-12)


@settings(deadline=None)
@given(pairs, st.lists(st.floats(0, 4), min_size=2, max_size=10))
def test_predictions_start_at_zero_and_never_fall(points, errors):
    fit = MonotoneFit.of([p[0] / 16 for p in points], [p[1] / 64 for p in points])
    predicted = fit.predict(np.sort(errors))
    assert (np.diff(predicted) >= -1e-12).all()
    assert (predicted >= 0).all()
    assert fit.predict(np.zeros(1)).tolist() == [0]
    np.testing.assert_allclose(fit.predict(np.array(fit.at)), fit.values)
    assert fit.predict(np.array([2 * fit.at[-1]]))[0] == pytest.approx(2 * fit.values[-1])


def test_nothing_measured_predicts_nothing():
    assert MonotoneFit.of([], []).predict(np.array([0.0, 3.0])).tolist() == [0, 0]


@pytest.mark.parametrize(("errors", "losses"), [([1.0], []), ([0.0], [1.0]), ([-1.0], [1.0]), ([1.0], [np.nan])])
def test_points_that_are_none(errors, losses):
    with pytest.raises(ValueError, match="loss"):
        MonotoneFit.of(errors, losses)
