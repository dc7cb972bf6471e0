"""A finished exploration under other limits."""

from __future__ import annotations

import dataclasses

import pytest

from lrfdse.ir.latency import Latency
from lrfdse.results.again import keeps_limits, under_limits
from lrfdse.results.asked import Limits
from lrfdse.results.designs import Score
from lrfdse.results.layers import Choice


@pytest.fixture
def found(small, make):
    """A document of an original, a design that loses two points, and one of SVD that loses three."""
    designs = [
        make("original", 1000, 100.0, 0.90, plan={"fc1": Choice(factorization="dense")}),
        make("close", 400, 40.0, 0.88, plan={"fc1": Choice(factorization="tt:m=2x2,n=2x2,r=1")}),
        make("far", 100, 10.0, 0.87),
        make("odd", 90, 60.0, 0.70, on_front=False),
    ]
    return small(*designs, recommended="original")


@pytest.mark.parametrize(
    ("limits", "recommended", "plain"),
    [
        (Limits(max_drop=0.01), "original", None),
        (Limits(max_drop=0.02), "close", "far"),
        (Limits(max_drop=0.03), "far", "odd"),
        (Limits(max_drop=0.03, max_params=50), None, None),
        (Limits(max_drop=1.0, max_latency_us=50.0), "far", "odd"),
    ],
)
def test_another_design_is_recommended_under_other_limits(limits, recommended, plain, found):
    other = under_limits(found, limits)
    assert other.recommended == recommended
    assert other.settings.limits == limits
    assert other.svd_at_equal_size == plain
    assert other.designs == found.designs and other.original == found.original


def test_what_belongs_to_the_earlier_choice_goes_with_it(found):
    assert under_limits(found, found.settings.limits) == found


def test_the_margin_of_the_choice_is_kept(found):
    sure = dataclasses.replace(found.designs[1], eval_score=Score(value=0.87, loss_standard_error=0.005))
    unsure = dataclasses.replace(found, designs=(found.designs[0], sure, found.designs[2]))
    assert under_limits(unsure, Limits(max_drop=0.032)).recommended == "close"
    assert under_limits(found, Limits(max_drop=0.032)).recommended == "far"


def test_without_evaluation_data_nothing_is_recommended_and_no_loss_is_held_against_a_design(found):
    blind = dataclasses.replace(found, verified=False, recommended=None)
    assert under_limits(blind, Limits(max_drop=0.5)).recommended is None
    accepted = dataclasses.replace(blind, settings=dataclasses.replace(blind.settings, accept_unverified=True))
    assert under_limits(accepted, Limits(max_drop=0.03)).recommended == "far"
    assert keeps_limits(blind.designs[2], blind)
    few = dataclasses.replace(blind, settings=dataclasses.replace(blind.settings, limits=Limits(max_params=95)))
    assert [keeps_limits(design, few) for design in few.designs] == [False, False, True]


def test_latencies_that_tie_do_not_choose(found):
    slower = dataclasses.replace(found.designs[1], id="slower", params=95, weight_bytes=380)
    latency = dataclasses.replace(slower.latency, cold=Latency(11.0, 11.0, 11.0))
    both = dataclasses.replace(found, designs=(*found.designs, dataclasses.replace(slower, latency=latency)))
    assert under_limits(both, Limits(max_drop=0.03)).recommended == "slower"
