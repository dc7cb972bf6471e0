"""What is left of a stage: an estimate that falls where work goes on at one pace, whatever was known before."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrfdse.cli.pace import Pace


@given(st.lists(st.integers(1, 20), min_size=3, max_size=30), st.floats(0.01, 100.0))
def test_at_one_pace_it_is_right_from_the_first_event_and_never_rises(steps, seconds):
    pace, total = Pace(), sum(steps)
    left = []
    for done in (0, *itertools.accumulate(steps)):
        pace.saw(done * seconds, done)
        left.append(pace.left(total))
    assert left[0] is None
    for done, found in zip(itertools.accumulate(steps), left[1:], strict=True):
        assert found == pytest.approx((total - done) * seconds, abs=1e-6)


@given(st.integers(1, 40), st.integers(45, 200))
def test_what_was_known_is_forgotten_once_as_much_was_worked_for(known, more):
    pace, total = Pace(), 2 * known + more
    pace.saw(0.0, 0)
    # The known part comes in a moment, the rest takes a second each.
    for done in range(1, total):
        pace.saw(max(done - known, 0) + 0.001, done)
        if done > 2 * known:
            assert pace.left(total) == pytest.approx(total - done, rel=0.01)


def test_nothing_is_said_before_anything_was_done():
    pace = Pace()
    assert pace.left(10) is None
    pace.saw(5.0, 4)
    assert pace.left(10) is None
    # The same count again is no progress.
    pace.saw(9.0, 4)
    assert pace.left(10) is None
