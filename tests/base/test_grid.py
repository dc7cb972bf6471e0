"""Tables that fit their width: what is dropped, in which order, and that nothing is cut."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lrfdse.base.grid import Column, fitted
from lrfdse.report.fold import folded, names_text, shortened

words = st.text(st.sampled_from("abx1 µ"), max_size=12).map(str.strip)


@st.composite
def tables(draw):
    rows = draw(st.integers(1, 4))
    cells = st.lists(words, min_size=rows, max_size=rows)
    column = st.builds(
        Column,
        words,
        cells,
        left=st.booleans(),
        drop=st.none() | st.integers(0, 9),
        more=st.just(()) | cells,
        drop_more=st.integers(0, 9),
    )
    return draw(st.lists(column, min_size=1, max_size=6))


def texts(columns, width):
    return [line.plain for line in fitted(columns, width)]


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(tables(), st.integers(1, 200))
def test_lines_fit_or_hold_no_more_than_what_always_stays(columns, width):
    lines = texts(columns, width)
    least = texts([Column(c.name, c.cells, c.left) for c in columns if c.drop is None], 1)
    assert max(map(len, lines), default=0) <= max(width, max(map(len, least), default=0))
    assert all(line == line.rstrip(" ") for line in lines)
    wide = texts(columns, 10_000)
    for column in columns:
        assert all(cell in line for cell, line in zip(column.cells, wide[-len(column.cells) :], strict=True))


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(tables(), st.integers(1, 100), st.integers(0, 100))
def test_a_wider_line_never_shows_less(columns, width, more):
    def shown(wide):
        line = " ".join(texts(columns, wide))
        return sum(not character.isspace() for character in line)

    assert shown(width) <= shown(width + more)


def test_columns_go_in_the_order_that_is_given():
    columns = [
        Column("id", ["a1"]),
        Column("first", ["x" * 10], drop=3),
        Column("n", ["7"], more=["2.0x"], drop_more=2),
        Column("second", ["y" * 10], drop=1),
    ]
    assert texts(columns, 40)[-1] == "a1  xxxxxxxxxx  7 2.0x  yyyyyyyyyy"
    assert texts(columns, 33)[-1] == "a1  7 2.0x  yyyyyyyyyy"
    assert texts(columns, 21)[-1] == "a1  7  yyyyyyyyyy"
    assert texts(columns, 16)[-1] == "a1  7"
    assert texts(columns, 2)[-1] == "a1  7"


def test_heads_stand_above_each_other():
    assert texts([Column("layer", ["fc"], left=True), Column("front by error", ["7"])], 80) == [
        "       front",
        "          by",
        "layer  error",
        "fc         7",
    ]


@given(st.lists(st.integers(0, 5)))
def test_folding_loses_nothing(items):
    groups = folded(items, lambda item: item % 3)
    assert sorted(item for group in groups for item in group) == sorted(items)
    assert len(groups) == len({item % 3 for item in items})


def test_names_of_several_layers_share_what_they_have_in_common():
    assert names_text([f"h.{k}.mlp.1" for k in (0, 1, 2)]) == "h.{0..2}.mlp.1"
    assert names_text(["h.1.mlp", "h.5.mlp"]) == "h.{1,5}.mlp"
    assert names_text(["q1", "k1", "v1"]) == "q1 and 2 more"
    # Two numbers differ: a range of one of them would be a lie.
    assert names_text(["h.0.fc.0", "h.1.fc.1"]) == "h.0.fc.0 and 1 more"


@given(st.text(min_size=1, max_size=60), st.integers(3, 40))
def test_short_names_keep_their_ends(name, widest):
    short = shortened(name, widest)
    assert len(short) <= max(widest, 1)
    assert short == name if len(name) <= widest else short[-1] == name[-1]


def test_words_joined_by_a_no_break_space_stay_together_and_are_shown_with_a_blank():
    assert texts([Column("change \u00b1\u00a095\u00a0%", ["1"])], 1) == ["change", "\u00b1 95 %", "     1"]
