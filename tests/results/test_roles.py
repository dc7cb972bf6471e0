from __future__ import annotations

import pytest

from lrfdse.results.roles import hidden, role_of, shown, worth_showing


@pytest.fixture
def designs(make):
    return {
        "original": make("original", 1000, 100.0, 0.90, origin="dense"),
        "best": make("best", 300, 30.0, 0.895),
        "svd": make("svd", 290, 35.0, 0.88, on_front=False),
        "near": make("near", 250, 40.0, 0.85, origin="uniform-svd", on_front=False),
        "far": make("far", 100, 20.0, 0.85, origin="uniform-svd", on_front=False),
        "large": make("large", 400, 50.0, 0.89, origin="uniform-svd", on_front=False),
        "int8": make("int8", 280, 60.0, 0.89, origin="dense-int8", on_front=False),
        "weak": make("weak", 50, 5.0, 0.79),
        "edge": make("edge", 60, 6.0, 0.80),
        "beaten": make("beaten", 900, 90.0, 0.5, on_front=False),
    }


def test_every_design_has_the_first_role_that_holds(designs, small):
    found = small(*designs.values(), recommended="best", svd_at_equal_size="svd")
    roles = {name: role_of(design, found) for name, design in designs.items()}
    assert roles == {
        "original": "original",
        "best": "recommended",
        "svd": "SVD at equal size",
        "near": "uniform SVD",
        "far": "uniform SVD",
        "large": "uniform SVD",
        "int8": "dense int8",
        "weak": "front",
        "edge": "front",
        "beaten": "dominated",
    }
    alone = small(*designs.values(), recommended="original", svd_at_equal_size="original")
    assert role_of(designs["original"], alone) == "recommended"


def test_the_short_table_has_the_front_within_reason_and_what_to_compare_with(designs, small):
    found = small(*designs.values(), recommended="best", svd_at_equal_size="svd")
    assert [design.id for design in shown(found)] == ["original", "int8", "near", "svd", "best", "edge"]
    assert hidden(found) == 1


def test_without_a_recommendation_nothing_is_compared(designs, small):
    found = small(*designs.values())
    assert [design.id for design in shown(found)] == ["original", "int8", "best", "edge"]


def test_a_user_who_allows_more_sees_more(designs, small):
    found = small(*designs.values(), max_drop=0.2)
    assert worth_showing(found) == 0.2
    assert hidden(found) == 0


def test_the_original_is_shown_where_it_is_beaten(make, small):
    original = make("original", 1000, 100.0, 0.90, origin="dense", on_front=False)
    found = small(original, make("best", 300, 30.0, 0.91), recommended="best")
    assert [design.id for design in shown(found)] == ["original", "best"]
