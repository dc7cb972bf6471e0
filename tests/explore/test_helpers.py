"""Processes that evaluate beside an exploration: when they are begun, and when not any more."""

from __future__ import annotations

from pathlib import Path

from lrfdse.explore.plans.helpers import Helpers
from lrfdse.results.exploration import StudyPlace


def test_helpers_that_were_stopped_are_not_begun_again():
    told = []
    place = StudyPlace(url="study.db", name="one", artifacts=Path("artifacts"), shared=False, sole=True)
    helpers = Helpers(None, None, place, count=2, after=20.0, progress=told.append)
    helpers.start_if_worth(19.0)
    helpers.stop()
    helpers.start_if_worth(1e9)
    assert not told
