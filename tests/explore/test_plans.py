"""Fronts and recommendations against brute force."""

from __future__ import annotations

import dataclasses
import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrfdse.explore.plans.assemble import regime_of
from lrfdse.explore.plans.choose import pareto, recommend
from lrfdse.ir.choice import Choice
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.latency import Latency
from lrfdse.ir.plan import Design, Plan, plan_id
from lrfdse.results.settings import Limits
from lrfdse.targets.catalog import load_target


def design(identity, params, us, score, error=0.0):
    plan = Plan((("fc", Choice(Factorization.dense(4, 4))),))
    return Design(
        str(identity),
        plan,
        params,
        4 * params,
        2 * params,
        Latency(us, us, us),
        "warm",
        score,
        score,
        score,
        error,
        "knapsack",
    )


points = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(0, 6)), min_size=1, max_size=30)


@given(points)
def test_front_is_what_nothing_beats(values):
    designs = [design(i, p, float(us), s / 6) for i, (p, us, s) in enumerate(values)]
    front = {d.id for d in pareto(designs, "accuracy")}

    def key(d):
        return (d.params, d.latency.us, -d.eval_accuracy)

    def beats(a, b):
        return key(a) != key(b) and all(x <= y for x, y in zip(key(a), key(b), strict=True))

    unbeaten = [d for d in designs if not any(beats(other, d) for other in designs)]
    assert front <= {d.id for d in unbeaten}
    assert {key(d) for d in unbeaten} == {key(d) for d in designs if d.id in front}
    assert len(front) == len({key(d) for d in unbeaten})


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4), st.none() | st.integers(0, 4)), min_size=1))
def test_without_evaluation_data_the_output_error_takes_the_place_of_the_score(values):
    """Every design has the same score here, as on random inputs of one class."""
    designs = [
        dataclasses.replace(design(i, p, float(us), 1.0), output_error=None if e is None else e / 4)
        for i, (p, us, e) in enumerate(values)
    ]
    keys = [(p, us, math.inf if e is None else e) for p, us, e in values]
    least = {a for a in keys if not any(b != a and all(x <= y for x, y in zip(b, a, strict=True)) for b in keys)}
    found = [keys[int(d.id)] for d in pareto(designs, "fidelity", verified=False)]
    assert sorted(found) == sorted(least)


FRONT = [
    BASE := design("base", 1000, 100.0, 0.90),
    design("close", 400, 40.0, 0.895),
    design("far", 100, 10.0, 0.85),
    design("fast", 500, 20.0, 0.892),
]


@pytest.mark.parametrize(
    ("limits", "chosen"),
    [
        (Limits(0.01), "fast"),
        (Limits(0.06), "far"),
        (Limits(0.0), "base"),
        (Limits(0.01, max_params=450), "close"),
        (Limits(0.01, max_params=50), None),
        (Limits(0.01, max_size=1800), "close"),
        (Limits(0.01, max_size=1599), None),
        (Limits(0.01, max_params=450, max_size=1599), None),
        (Limits(0.01, max_latency_us=15.0), None),
    ],
)
def test_recommendation_is_the_smallest_and_fastest_within_the_limits(limits, chosen):
    found = recommend(FRONT, BASE, "accuracy", limits)
    assert (found and found.id) == chosen


def test_a_design_within_the_limit_by_a_margin_goes_before_one_on_the_edge():
    def recommended(error):
        close, edge = design("close", 400, 40.0, 0.895, error), design("edge", 300, 20.0, 0.892, error)
        return recommend([BASE, close, edge], BASE, "accuracy", Limits(0.01)).id

    # "edge" is within the limit of 0.01 by 0.002, "close" by 0.005.
    assert recommended(0.0012) == "edge"
    assert recommended(0.0013) == "close"
    assert recommended(0.0040) == "close"
    assert recommended(0.0051) == "edge"


def test_a_compressed_design_that_costs_more_than_the_original_is_not_recommended():
    base, slow = design("base", 1000, 100.0, 0.9), design("slow", 900, 300.0, 0.9)
    assert recommend([base, slow], base, "accuracy", Limits(0.01)).id == "base"


def test_a_drop_of_exactly_the_limit_is_allowed():
    base, other = design("base", 10, 10.0, 0.9), design("other", 5, 5.0, 0.9 - 0.01)
    assert recommend([base, other], base, "accuracy", Limits(0.01)).id == "other"


def test_the_regime_follows_the_weights_of_the_whole_plan():
    target = load_target("riscv64")
    fits = target.last_level.kib * 1024 // 4
    assert regime_of(fits, target) == "warm"
    assert regime_of(fits + 1, target) == "cold"


def test_plan_ids_depend_on_the_plan_alone():
    shapes = [Choice.parse(text, 8, 8) for text in ("svd:r=2", "svd:r=2@int8", "dense")]
    plans = [Plan((("a", x), ("b", y))) for x, y in itertools.product(shapes, repeat=2)]
    assert len({plan_id(plan) for plan in plans}) == 9
    assert plan_id(plans[1]) == plan_id(Plan(tuple(reversed(plans[1].choices))))
