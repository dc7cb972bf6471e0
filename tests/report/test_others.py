"""Outputs that count beside the judged one: what designs keep of them is wherever designs are shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from lrfdse.report.answer import answer_of
from lrfdse.report.card import design_card
from lrfdse.report.page.content import content_of
from lrfdse.report.page.hover import hover_text
from lrfdse.report.rows import design_row
from lrfdse.report.tables import design_table


@pytest.fixture
def two_heads(document):
    """A document of a model with two more outputs, one of them named to break pages."""
    for name, kind, measure in (
        ("y", "classes", "agreement"),
        ("<b>", "numbers", "R2"),
        ("mask", "whole", "agreement"),
    ):
        document.setdefault("outputs", []).append(
            {
                "name": name,
                "kind": kind,
                "reason": "it is one",
                "measure": measure,
                "loss": None,
                "scale": None,
                "chances": None,
                "threshold": None,
            }
        )
    for place, design in enumerate((document["original"], *document["designs"], *document["dominated"])):
        first = design["id"] == document["original"]["id"]
        design["others"] = {"<b>": 1.0 if first else 0.98 - place / 100, "mask": 1.0 if first else 0.9925}
    return document


@pytest.mark.parametrize("width", (80, 160))
def test_the_table_has_the_least_of_them(width, two_heads, read):
    found = read(two_heads)
    lines = [line.plain for line in design_table(found, width)]
    assert max(map(len, lines)) <= width
    head, rows = " ".join(lines[1:4]).split(), {line[2:10]: line for line in lines if len(line) > 10}
    assert "others" in head and "keep" in head
    assert " 96.00" in rows["aaaaaaaa"] and " 95.00" in rows["cccccccc"]
    assert "100.00" not in rows["bbbbbbbb"]


def test_the_answer_names_each_with_its_measure(two_heads, read):
    lines = dict(answer_of(read(two_heads), Path("out")).lines)
    expected = "<b> 96.00% (R²), mask 99.25% (agreement) of the original's outputs, on the evaluation data"
    assert lines["Others keep"] == expected


def test_the_page_the_card_and_the_rows_have_them(two_heads, read):
    found = read(two_heads)
    content = content_of(found)
    (fact,) = (fact for fact in content["facts"] if fact["name"] == "Least of other outputs")
    assert (fact["value"], fact["lines"][0]) == ("96.00", "<b> 96.00% (R²)")
    row = next(row for row in content["listed"] if row["id"] == "aaaaaaaa")
    assert content["has_others"] and row["kept_text"] == "96.00" and "mask 99.25%" in row["kept_all"]
    assert "&lt;b&gt; 96.00%" in hover_text(found.best, found)
    assert "mask 99.25%" in design_card(found, found.best)
    assert design_row(found.best, found)["others_kept"] == 0.96


def test_nothing_is_said_where_the_judged_output_is_alone(document, read):
    found = read(document)
    assert not content_of(found)["has_others"]
    assert "keep" not in " ".join(line.plain for line in design_table(found, 160))
    assert "Others keep" not in dict(answer_of(found, Path("out")).lines)
    assert design_row(found.best, found)["others_kept"] is None
