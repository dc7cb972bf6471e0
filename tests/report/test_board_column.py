"""A board's numbers in the page: a column of their own, beside the modelled latency and never in it."""

from __future__ import annotations

import copy

import pytest
from lxml import html

from lrfdse.errors import InputError
from lrfdse.report.page.html import report_html

DESCRIPTION = {
    "uname": {"sysname": "Linux", "release": "6.6", "machine": "riscv64", "nodename": "</script><b>board"},
    "cpuinfo": {"isa": "rv64imafdcv"},
    "governor": "performance",
    "frequency_khz": 1600000,
}


def with_board(document, times):
    """The document with what a board took for some of its designs, by id."""
    found = copy.deepcopy(document)
    for design in (found["original"], *found["designs"]):
        us = times.get(design["id"])
        entry = (
            {
                "whole": {"us": us, "low_us": us - 1, "high_us": us + 2},
                "layers": [],
                "repeats": 21,
                "description": DESCRIPTION,
            }
            if us
            else None
        )
        design["board"] = entry
    return found


def tables(page):
    """Head and rows, as lists of texts, of every table of designs."""
    found = []
    for table in html.fromstring(page).xpath("//section[@id='designs']//table"):
        head = [" ".join(cell.text_content().split()) for cell in table.xpath("./thead/tr/th")]
        rows = [
            [" ".join(cell.text_content().split()) for cell in row.xpath("./th|./td")]
            for row in table.xpath("./tbody/tr")
        ]
        found.append((head, rows))
    return found


def test_the_column_stands_beside_the_modelled_latency(document, read):
    base, other = document["original"]["id"], document["recommended"]
    page = report_html(read(with_board(document, {base: 400.0, other: 50.0})))
    seen = {}
    for head, rows in tables(page):
        place = head.index("on the board (µs)")
        warm, cold = head.index("warm (µs), modelled"), head.index("cold (µs), modelled")
        assert warm < cold < place
        assert head[place : place + 3] == ["on the board (µs)", "quartiles", "× faster"]
        for row in rows:
            assert len(row) == len(head)
            seen[row[0][1:]] = row[place : place + 3], row[warm:place]
    assert seen[base][0] == ["400", "399..402", ""]
    assert seen[other][0] == ["50.0", "49.0..52.0", "8.0×"]
    assert {tuple(cells) for name, (cells, _) in seen.items() if name not in (base, other)} == {("", "", "")}
    without = {row[0][1:]: row for head, rows in tables(report_html(read(document))) for row in rows}
    for name, (_, modelled) in seen.items():
        assert " ".join(modelled) in " ".join(without[name])


def test_the_board_is_described_and_cannot_write_into_the_page(document, read):
    page = report_html(read(with_board(document, {document["recommended"]: 50.0})))
    assert "</script><b>board" not in page
    latency = html.fromstring(page).xpath("//section[@id='latency']")[0].text_content()
    assert "Linux 6.6 riscv64 </script><b>board, rv64imafdcv, governor performance, 1600 MHz" in latency


def test_without_a_board_there_is_no_column(document, read):
    for found in (document, with_board(document, {})):
        page = report_html(read(found))
        assert "on the board" not in page


@pytest.mark.parametrize("board", [7, {"whole": 3}, {"whole": {"us": 1, "low_us": 2}}, {"whole": {"us": "x"}}, []])
def test_a_damaged_board_is_one_clear_error(document, read, board):
    document["designs"][0]["board"] = board
    with pytest.raises(InputError, match=r"designs\[0\]\.board") as told:
        read(document)
    assert "\n" not in str(told.value)
