"""± means one thing wherever it is printed: half the 95 % interval, named once; and counts agree with their nouns."""

from __future__ import annotations

import re
from statistics import NormalDist

import pytest

from lrfdse.check.gate import Request, check
from lrfdse.check.github import step_summary
from lrfdse.check.table import check_lines
from lrfdse.report.answer import answer_of
from lrfdse.report.card import design_card
from lrfdse.report.page.hover import hover_text
from lrfdse.report.page.html import report_html
from lrfdse.report.page.wording import hidden_text, loss_sentences, sentence_of, weak_text
from lrfdse.report.tables import design_table
from lrfdse.results.asked import Limits

TESTED, EVALUATED = (f"{100 * NormalDist(0, error).inv_cdf(0.975):.2f}" for error in (0.0031, 0.004))
"""Half the 95 % interval of the losses on the test data and on the evaluation data, in points."""


def designs(document):
    return "\n".join(line.plain for line in design_table(document, 200))


def within(text):
    """Return what stands behind every ±, and is no name of it."""
    return re.findall(r"± ?(\d+\.\d+)(?![\d ]*%)", re.sub(r"</?\w[^>]*>", " ", text))


def test_all_reports_print_half_the_95_percent_interval(document, read):
    found = read(document)
    best = found.best
    table, card, page = designs(found), design_card(found, best), report_html(found)
    assert set(within(table)) == {TESTED}
    assert within(card) == [TESTED, EVALUATED]
    assert within(hover_text(best, found)) == [TESTED, EVALUATED]
    assert set(within(page[: page.index("<script")])) == {TESTED, EVALUATED}
    for text in (table, card):
        assert text.count("± 95 %") == 1
    assert "points, ± 95 %" in page


def test_the_gate_prints_half_the_95_percent_interval(document, folder_of):
    report = check(Request(folder_of(document), limits=Limits(max_drop=0.01)))
    # The gate judges the loss on the evaluation data and mentions the one on the test data.
    expected = [f"{float(EVALUATED):.2g}", f"{float(TESTED):.2g}"]
    for text in ("\n".join(line.plain for line in check_lines(report, 200)), step_summary(report)):
        assert within(text) == expected
        assert text.count("± 95 %") == 1


def test_without_an_error_nothing_is_said_of_it(document, read):
    for design in (document["original"], *document["designs"], *document["dominated"]):
        for role in ("eval_score", "test_score"):
            design[role]["loss_standard_error"] = None
    found = read(document)
    for text in (designs(found), design_card(found, found.best), hover_text(found.best, found)):
        assert within(text) == []
    assert "(95 %)" not in report_html(found)


@pytest.mark.parametrize(
    ("drop", "said"),
    [(0.01, "at most 1 point of"), (0.02, "at most 2 points of"), (0.005, "at most 0.5 points of")],
)
def test_one_point_is_singular(drop, said, document, read):
    document["settings"]["limits"]["max_drop"] = drop
    assert said in sentence_of(read(document))


def test_one_design_is_singular(document, read):
    # Of the front only eeeeeeee loses more than ten points.
    found = read(document)
    assert hidden_text(found) == "1 more design of the front loses over 10 points; front.csv has it"
    assert weak_text(found, 2) == "2 more designs lose over 10 points"


@pytest.mark.parametrize("lost", [0.0, 0.03])
def test_more_than_the_limit_on_test_data_is_said(document, read, lost, tmp_path):
    found = read(document)
    best = next(design for design in document["designs"] if design["id"] == found.best.id)
    best["test_score"]["value"] = found.original.reported_score - lost
    changed = read(document)
    said = "above the limit, unlike on evaluation data"
    quality = dict(answer_of(changed, tmp_path).lines)["Accuracy"]
    assert (said in quality) == (said in loss_sentences(changed)) == (lost > changed.settings.limits.max_drop)
