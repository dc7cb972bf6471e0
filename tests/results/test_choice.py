"""Ties: no design is ahead of another for a latency that nobody can tell from the other's."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrfdse.ir.latency import Latency, are_tied
from lrfdse.results.asked import Limits
from lrfdse.results.choice import NEAR, Candidate, excess, field_of, front_of, is_within, recommended_of

RESOLUTION = 0.2

values = st.lists(st.tuples(st.integers(1, 6), st.floats(1, 10), st.integers(0, 6)), min_size=1, max_size=20)


def candidate(identity, params, us, worth, error=0.0, original=False):
    return Candidate(str(identity), params, 4 * params, Latency(us, us, us), worth, 1.0 - worth, error, original)


def made(found):
    return [candidate(k, params, us, worth / 6) for k, (params, us, worth) in enumerate(found)]


@given(values)
def test_who_is_left_out_has_a_match_on_the_front(found):
    every = made(found)
    front = front_of(every, RESOLUTION)
    assert front and {c.id for c in front} <= {c.id for c in every}
    for each in every:
        if each.id not in {c.id for c in front}:
            assert any(
                kept.params <= each.params
                and kept.worth >= each.worth
                and kept.latency.us <= each.latency.us * (1 + RESOLUTION)
                for kept in front
            )


@given(values)
def test_nobody_on_the_front_is_there_for_latency_alone(found):
    front = front_of(made(found), RESOLUTION)
    for one in front:
        for other in front:
            if one.id != other.id and are_tied(one.latency, other.latency, RESOLUTION):
                # Each is ahead in bytes or in score.
                assert one.params < other.params or one.worth > other.worth


@given(values, st.sampled_from((1, 100)))
def test_of_designs_that_tie_with_the_best_the_smallest_is_recommended(found, unit):
    # Of hundreds of parameters some nearly agree.
    front = [candidate(k, 10 * unit + params, us, worth / 6) for k, (params, us, worth) in enumerate(found)]
    limits = Limits(max_drop=1.0)
    chosen = recommended_of(front, limits, RESOLUTION)
    best = min(front, key=lambda c: (math.log(c.params) + math.log(c.latency.us), c.id))
    level = [c for c in front if are_tied(c.latency, best.latency, RESOLUTION)]
    assert chosen in level
    field = field_of(front, limits, RESOLUTION)
    assert chosen in field.tied and all(each in field.competing for each in level)
    fewest = min(c.params for c in level)
    for other in level:
        if other.params <= 1.02 * fewest:
            assert (chosen.worth, -chosen.params) >= (other.worth, -other.params)
    assert chosen.params <= 1.02 * fewest


def test_a_few_bytes_less_do_not_outweigh_accuracy():
    plain, train = candidate("plain", 40_000, 18.0, 0.8905), candidate("train", 40_040, 19.0, 0.8985)
    limits = Limits(max_drop=0.2)
    assert recommended_of([plain, train], limits, RESOLUTION).id == "train"
    # Of equal worth, the fewest bytes.
    assert recommended_of([plain, candidate("equal", 40_040, 18.0, 0.8905)], limits, RESOLUTION).id == "plain"
    most = int(40_000 * (1 + NEAR))
    assert recommended_of([plain, candidate("near", most, 19.0, 0.8985)], limits, RESOLUTION).id == "near"
    assert recommended_of([plain, candidate("larger", most + 1, 19.0, 0.8985)], limits, RESOLUTION).id == "plain"
    # A latency that is higher is no tie, whatever the bytes.
    assert recommended_of([plain, candidate("slow", 40_040, 27.0, 0.8985)], limits, RESOLUTION).id == "plain"


def test_a_design_is_not_recommended_for_a_few_percent_of_latency():
    slower = candidate("slower", 100, 11.0, 0.9)
    faster = candidate("faster", 105, 10.0, 0.9)
    limits = Limits(max_drop=0.2)
    assert recommended_of([slower, faster], limits).id == "faster"
    assert recommended_of([slower, faster], limits, RESOLUTION).id == "slower"
    # Half again as fast is no tie.
    assert recommended_of([candidate("slow", 100, 15.0, 0.9), faster], limits, RESOLUTION).id == "faster"


def test_measured_latencies_tie_where_their_spreads_meet():
    narrow, wide = Latency(10.0, 9.9, 10.1), Latency(11.0, 10.0, 12.0)
    assert are_tied(narrow, wide, None) and are_tied(wide, narrow, None)
    assert not are_tied(narrow, Latency(11.0, 10.9, 11.1), None)


def test_without_limits_everything_competes():
    assert recommended_of([candidate("a", 10, 5.0, 0.1)], Limits()).id == "a"
    assert recommended_of([candidate("a", 10, 5.0, 0.1)], Limits(max_params=9)) is None
    assert recommended_of([candidate("a", 10, 5.0, 0.1)], Limits(max_size=40)).id == "a"
    assert recommended_of([candidate("a", 10, 5.0, 0.1)], Limits(max_size=39)) is None
    assert recommended_of([candidate("a", 10, 5.0, 0.1)], Limits(max_latency_us=4.0)) is None


def test_the_whole_model_decides_how_much_a_latency_is_worth():
    """Half the layers' latency at 1.5 times the parameters pays alone, but not where the layers are a tenth of all."""
    small, fast = candidate("small", 100, 10.0, 1.0), candidate("fast", 150, 5.0, 1.0)
    limits = Limits(max_drop=1.0)
    assert recommended_of([small, fast], limits).id == "fast"
    whole = [dataclasses.replace(each, rest_us=90.0) for each in (small, fast)]
    assert recommended_of(whole, limits).id == "small"


def test_a_limit_on_the_whole_model_keeps_nothing_whose_latency_is_unknown():
    known, unknown = candidate("known", 100, 10.0, 1.0), candidate("unknown", 90, 10.0, 1.0)
    known = dataclasses.replace(known, rest_us=90.0)
    assert recommended_of([known, unknown], Limits(max_drop=1.0, max_model_latency_us=100.0)).id == "known"
    assert recommended_of([known, unknown], Limits(max_drop=1.0, max_model_latency_us=99.0)) is None


@given(values, st.floats(0.001, 1.0), st.integers(1, 6), st.floats(1, 10))
def test_a_design_breaks_a_limit_where_it_exceeds_one(found, drop, params, us):
    limits = Limits(max_drop=drop, max_params=params, max_latency_us=us)
    for each in made(found):
        assert (excess(each, limits) <= 1) == is_within(each, limits)


def test_the_limit_that_is_broken_most_counts():
    near, far = candidate("near", 120, 10.0, 0.9), candidate("far", 90, 40.0, 0.99)
    limits = Limits(max_drop=0.2, max_params=100, max_latency_us=10.0)
    assert (excess(near, limits), excess(far, limits)) == (1.2, 4.0)
    # Of a limit of 0, multiples would say nothing.
    assert excess(candidate("lossy", 1, 1.0, 0.998), Limits(max_drop=0.0)) == pytest.approx(2.0)


def test_the_widest_margin_that_a_compressed_design_keeps_decides():
    small, large = candidate("small", 10, 5.0, 0.992, 0.0015), candidate("large", 20, 9.0, 0.995, 0.002)
    original = candidate("original", 100, 50.0, 1.0, original=True)
    front = [small, large, original]

    def found(max_drop):
        field = field_of(front, Limits(max_drop=max_drop), RESOLUTION)
        return field.margin, {each.id for each in field.competing}, recommended_of(front, Limits(max_drop=max_drop)).id

    assert found(0.011) == (1.645, {"small", "large", "original"}, "small")
    assert found(0.01) == (1.645, {"large", "original"}, "large")
    assert found(0.008) == (1.0, {"large", "original"}, "large")
    assert found(0.006) == (0.0, {"large", "original"}, "large")
    assert found(0.004) == (0.0, {"original"}, "original")


def test_a_design_that_costs_more_than_the_original_does_not_set_the_margin():
    costly = candidate("costly", 90, 80.0, 1.0, 0.0001)
    near = candidate("near", 10, 5.0, 0.992, 0.0015)
    original = candidate("original", 100, 50.0, 1.0, original=True)
    assert recommended_of([costly, near, original], Limits(max_drop=0.01)).id == "near"


def test_a_margin_keeps_what_is_chosen_within_the_limit_on_other_samples():
    """Designs that lose 0 to 2 points, judged on 2,000 samples: few of those chosen truly lose more than 1 point."""
    draw = np.random.default_rng(3)
    true = np.linspace(0.0, 0.02, 21)
    flips = true + 0.02
    beyond = []
    for _ in range(200):
        # Of 2,000 samples a design gets some wrong that the original has right, and a few the other way round.
        worse, better = draw.binomial(2000, flips), draw.binomial(2000, 0.02, 21)
        losses, errors = (worse - better) / 2000, np.sqrt(worse + better) / 2000
        front = [
            candidate(k, 100 - k, 50.0 - k, 1.0 - loss, error)
            for k, (loss, error) in enumerate(zip(losses, errors, strict=True))
        ]
        chosen = recommended_of(front, Limits(max_drop=0.01))
        beyond.append(true[int(chosen.id)] > 0.01)
    assert np.mean(beyond) < 0.15
