from __future__ import annotations

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lrfdse.ir.space import SearchSpace
from lrfdse.space.count import count_designs

# notes of the project, exact to four digits: per-bond ranks, right to left, no unit modes, lanes of 8.
# size, cores: raw, (i) cheaper, (i)+(ii) aligned, (i)+(iii) multiples of 8, all three.
TABLE = {
    (300, 784, 2): (32740, 2626, 1881, 247, 211),
    (300, 784, 3): (1.74e7, 771500, 198500, 6476, 2308),
    (300, 784, 4): (1.22e9, 2.31e7, 2.13e6, 15190, 2513),
    (1024, 1024, 2): (23560, 1988, 1711, 211, 201),
    (1024, 1024, 3): (2.91e7, 1.26e6, 511800, 15080, 7060),
    (1024, 1024, 4): (9.92e9, 1.79e8, 4.17e7, 225800, 66280),
}
TOTALS = {
    (300, 784): (1.24e9, 2.39e7, 2.33e6, 21913, 5032),
    (1024, 1024): (9.95e9, 1.81e8, 4.22e7, 241091, 73541),
}


def _reference_rules(max_cores: int, aligned: bool) -> SearchSpace:
    return SearchSpace(
        max_cores=max_cores,
        unit_modes=False,
        directions=("rl",),
        dense_ranks_to=0,
        rank_step=1,
        lane_ranks=True,
        aligned=aligned,
    )


def _reference_counts(outputs: int, inputs: int, max_cores: int) -> tuple[int, ...]:
    free = dict(count_designs(outputs, inputs, _reference_rules(max_cores, False), 8).stages)
    ordered = dict(count_designs(outputs, inputs, _reference_rules(max_cores, True), 8).stages)
    assert free["raw designs"] == ordered["raw designs"]
    return (
        free["raw designs"],
        free["cheaper than dense"],
        ordered["aligned modes"],
        free["rank grid"],
        ordered["rank grid"],
    )


def _agrees(count: int, printed: float) -> bool:
    """Whether `printed` is the count to three or four significant digits."""
    return abs(count - printed) <= 0.5 * 10 ** (math.floor(math.log10(count)) - (2 if printed >= 1e6 else 3))


@pytest.mark.parametrize("outputs, inputs", TOTALS)
def test_reference_table(outputs, inputs):
    totals = [_reference_counts(outputs, inputs, cores) for cores in (2, 3, 4)]
    before = (0,) * 5
    for cores, counts in zip((2, 3, 4), totals, strict=True):
        for upto, shorter, printed in zip(counts, before, TABLE[outputs, inputs, cores], strict=True):
            assert _agrees(upto - shorter, printed), (cores, upto - shorter, printed)
        before = counts
    # The printed totals of the last columns are sums of rounded entries, so their last digit can differ.
    for upto, printed in zip(totals[-1], TOTALS[outputs, inputs], strict=True):
        assert upto == pytest.approx(printed, rel=5e-3 if printed >= 1e6 else 1e-4)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.sampled_from([(4, 6), (6, 4), (8, 8), (6, 9), (5, 12), (2, 16), (7, 7)]),
    space=st.builds(
        SearchSpace,
        max_cores=st.integers(2, 4),
        unit_modes=st.booleans(),
        directions=st.sampled_from([("rl",), ("lr",), ("rl", "lr"), ("lr", "rl")]),
        dense_ranks_to=st.integers(0, 3),
        rank_step=st.integers(1, 3),
        lane_ranks=st.booleans(),
        aligned=st.booleans(),
        min_ratio=st.sampled_from([1.0, 1.3, 2.0]),
    ),
    lanes=st.sampled_from([1, 2, 4]),
)
def test_counts_are_those_of_enumeration(every_design, is_aligned, is_consistent, size, space, lanes):
    _compare(every_design, is_aligned, is_consistent, size, space, lanes)


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("directions", [("rl",), ("rl", "lr")])
def test_counts_of_five_and_six_cores(every_design, is_aligned, is_consistent, aligned, directions):
    for cores, size in ((5, (4, 6)), (6, (4, 4))):
        space = SearchSpace(
            max_cores=cores, dense_ranks_to=2, rank_step=2, min_ratio=1.2, aligned=aligned, directions=directions
        )
        _compare(every_design, is_aligned, is_consistent, size, space, 1)


def _compare(every_design, is_aligned, is_consistent, size, space, lanes):
    outputs, inputs = size
    weights = outputs * inputs
    found = dict(count_designs(outputs, inputs, space, lanes).stages)
    grid = {
        rank
        for rank in range(1, weights + 1)
        if (rank <= space.dense_ranks_to or rank % space.rank_step == 0) and not (space.lane_ranks and rank % lanes)
    }
    kept = {name: set() for name in ("raw", "cheap", "aligned", "grid", "small")}
    for design in every_design(outputs, inputs, space, lanes, on_grid=False):
        key = (design.out_modes, design.in_modes, design.ranks)
        kept["raw"].add(key)
        if design.params >= weights or design.macs() >= weights:
            continue
        kept["cheap"].add(key)
        if space.aligned and not is_aligned(design):
            continue
        kept["aligned"].add(key)
        if not set(design.ranks) <= grid:
            continue
        kept["grid"].add(key)
        if is_consistent(design) and design.params <= weights / space.min_ratio:
            kept["small"].add(key)
    assert found["raw designs"] == len(kept["raw"])
    assert found["cheaper than dense"] == len(kept["cheap"])
    assert found.get("aligned modes", len(kept["aligned"])) == len(kept["aligned"])
    assert found.get("rank grid", len(kept["grid"])) == len(kept["grid"])
    last = found[f"consistent ranks, at most 1/{space.min_ratio:g} of the weights"]
    assert last == len(kept["small"])
    if not space.unit_modes:
        svds = [r for r in grid if r * (outputs + inputs) <= min(weights / space.min_ratio, weights - 1)]
        assert found["with plain SVD"] == last + len(svds)


def test_padding_adds_the_designs_of_the_larger_sizes():
    space = SearchSpace(max_cores=2, unit_modes=False)
    plain = dict(count_designs(22, 26, space, 1).stages)["raw designs"]
    larger = dict(count_designs(24, 27, space, 1).stages)["raw designs"]
    both = count_designs(22, 26, SearchSpace(max_cores=2, unit_modes=False, pad_to_smooth=True), 1)
    assert dict(both.stages)["raw designs"] == plain + larger


def test_stages_never_grow():
    stages = count_designs(100, 300, SearchSpace(), 8).stages
    assert [name for name, _ in stages] == [
        "raw designs",
        "cheaper than dense",
        "rank grid",
        "consistent ranks, at most 1/2 of the weights",
    ]
    assert [count for _, count in stages] == sorted((count for _, count in stages), reverse=True)


def test_too_much_work_is_left_out():
    space = SearchSpace(dense_ranks_to=0)
    whole = dict(count_designs(100, 120, space, 8).stages)
    found = dict(count_designs(100, 120, space, 8, most_work=1e6).stages)
    assert "cheaper than dense" not in found and {"raw designs", "rank grid"} <= set(found)
    assert found == {name: whole[name] for name in found}
