"""Relaxation holds the limit, by errors that the search knows or does not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrfdse.search.plans.relax import relax
from lrfdse.search.plans.tables import Choice, LayerTable


def table(name, errors):
    """Return a layer whose choices cost less the larger their error."""
    choices = [Choice(f"svd:r={k + 1}", 10 * (k + 1), 1.0 + k, error) for k, error in enumerate(errors)]
    return LayerTable(name, (Choice("dense", 1000, 100.0, 0.0), *choices))


TABLES = [table("a", (0.4, 0.2, 0.05, 0.01)), table("b", (0.1, 0.02)), table("c", (0.3, 0.25, 0.001))]
ERRORS = {(t.layer, c.text): c.error for t in TABLES for c in t.choices}
SMALLEST = {"a": "svd:r=1", "b": "svd:r=1", "c": "svd:r=1"}


class Loss:
    """The sum of errors times a factor; counts."""

    def __init__(self, factor=1.0):
        self.factor = factor
        self.asked = []

    def __call__(self, texts):
        self.asked.append(dict(texts))
        return self.factor * sum(ERRORS[item] for item in texts.items())


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(0.1, 3), st.tuples(*(st.integers(0, len(t.choices) - 1) for t in TABLES)))
def test_the_result_is_within_the_limit_and_every_step_was_needed(limit, factor, start):
    loss = Loss(factor)
    plan = {t.layer: t.choices[place].text for t, place in zip(TABLES, start, strict=True)}
    found, steps = relax(plan, TABLES, loss, limit)
    assert loss(found) <= limit + 1e-9
    seen = loss.asked[:-1]
    assert len(seen) == len(steps) + 1 <= 13
    assert all(loss(each) > limit for each in seen[:-1])
    # What a step says is what happened, and no layer ever gets worse.
    for before, after, step in zip(seen, seen[1:], steps, strict=False):
        assert {name: (before[name], after[name]) for name in after if after[name] != before[name]} == {
            name: (was, now) for name, was, now in step.changes
        }
        assert all(ERRORS[name, now] < ERRORS[name, was] for name, was, now in step.changes)
        assert step.loss == pytest.approx(loss(after))


def test_a_plan_within_the_limit_is_left_alone():
    loss = Loss()
    assert relax({"b": "svd:r=2"}, TABLES, loss, 0.02) == ({"a": "dense", "b": "svd:r=2", "c": "dense"}, ())
    assert len(loss.asked) == 1


def test_the_worst_layer_goes_first_and_one_step_may_do():
    found, steps = relax(SMALLEST, TABLES, Loss(), 0.7)
    assert steps[0].changes == (("a", "svd:r=1", "svd:r=2"),)
    assert found == {**SMALLEST, "a": "svd:r=2"}
    assert str(steps[0]) == "a svd:r=1 -> svd:r=2: loss 60.00 points"


def test_a_loss_that_no_error_explains_ends_dense():
    def stubborn(texts):
        return 0.0 if set(texts.values()) == {"dense"} else 0.5

    found, steps = relax(SMALLEST, TABLES, stubborn, 0.01)
    assert set(found.values()) == {"dense"}
    assert steps[-1].loss == 0
    found, steps = relax(SMALLEST, TABLES, stubborn, 0.01, most=2)
    assert (set(found.values()), len(steps)) == ({"dense"}, 2)


def test_plans_that_cannot_be_evaluated_are_relaxed_too():
    found, steps = relax(SMALLEST, TABLES, lambda t: None if t["a"] != "dense" else 0.0, 0.1)
    assert found["a"] == "dense"
    assert steps[-1].loss == 0
    assert "cannot be evaluated" in str(steps[0])


def test_choices_without_predicted_error_are_relaxed_too():
    zero = [LayerTable("a", (Choice("dense", 9, 9.0, 0.0), Choice("svd:r=1", 1, 1.0, 0.0)))]
    found, _ = relax({"a": "svd:r=1"}, zero, lambda t: 1.0 if t["a"] != "dense" else 0.0, 0.1)
    assert found == {"a": "dense"}


def test_an_unknown_choice():
    with pytest.raises(ValueError, match="layer a has no choice"):
        relax({"a": "svd:r=99"}, TABLES, Loss(), 0.1)
