"""The table of int8 forms."""

from __future__ import annotations

import copy
import csv
import io
from pathlib import Path

import pytest

from lrfdse.report.int8 import int8_rows, int8_table
from lrfdse.report.page.html import report_html
from lrfdse.report.text import designs_text
from lrfdse.report.write import front_csv


def facts(before, after, value=None):
    score = None if value is None else {"value": value, "interval": None, "loss_standard_error": 0.0025}
    return {"float_bytes": before, "int8_bytes": after, "eval_score": score, "test_score": score, "model": None}


@pytest.fixture
def quantized(document):
    """The document with the original, the recommended design and onnxruntime's form as int8."""
    made = copy.deepcopy(document)
    made["int8_baseline"] = facts(409600, 112640, 0.9)
    for design in (made["original"], *made["designs"]):
        if design["id"] == "bbbbbbbb":
            design["int8"] = facts(409600, 102400, 0.904)
        if design["id"] == "aaaaaaaa":
            design["int8"] = facts(81920, 20480, 0.891)
    return made


def words(lines):
    return [line.plain.split() for line in lines]


@pytest.mark.parametrize("width", [80, 120])
def test_bytes_and_scores_stand_beside_each_other_on_80_columns(quantized, read, width):
    lines = int8_table(read(quantized), width)
    assert max(len(line.plain) for line in lines) <= width
    rows = {row[0]: row[1:] for row in words(lines)}
    assert rows["bbbbbbbb"] == ["original", "400", "100", "4.0x", "90.50", "90.40", "-0.10", "±0.49"]
    assert rows["onnxruntime"] == ["static", "int8", "400", "110", "3.6x", "90.50", "90.00", "-0.50", "±0.49"]
    assert rows["aaaaaaaa"] == ["recommended", "80", "20", "20x", "90.00", "89.10", "-1.40", "±0.49"]
    assert [row.design for row in int8_rows(read(quantized))] == ["bbbbbbbb", "onnxruntime", "aaaaaaaa"]
    assert " 20x " in designs_text(read(quantized), Path("out"))


def test_without_data_bytes_stay_and_scores_are_left_out(quantized, read):
    for each in (quantized["original"], *quantized["designs"]):
        if each.get("int8"):
            each["int8"] |= {"eval_score": None, "test_score": None}
    quantized["int8_baseline"] = None
    lines = words(int8_table(read(quantized), 80))
    assert ["bbbbbbbb", "original", "400", "100", "4.0x"] in lines
    assert not any("change" in line for line in lines)


def test_without_int8_there_is_no_table(document, read):
    assert int8_table(read(document), 80) == []
    assert "As int8" not in report_html(read(document))


def test_the_page_and_the_csv_have_the_same_numbers(quantized, read):
    whole = read(quantized)
    page = report_html(whole)
    assert "<h3>As int8</h3>" in page and "-1.40 ±0.49" in page and "onnxruntime" in page
    rows = {row["id"]: row for row in csv.DictReader(io.StringIO(front_csv(whole)))}
    assert (rows["aaaaaaaa"]["int8_bytes"], rows["aaaaaaaa"]["int8_accuracy"]) == ("20480", "0.891")
    assert rows["cccccccc"]["int8_bytes"] == ""
