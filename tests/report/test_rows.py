"""Designs as rows for programs."""

from __future__ import annotations

import csv
import io
import sys

import pytest

from lrfdse.report.rows import design_frame, design_row
from lrfdse.report.write import front_csv


def test_without_pandas_the_error_says_what_to_install(document, read, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    whole = read(document)
    with pytest.raises(ImportError, match=r"^a data frame needs pandas: pip install pandas$"):
        design_frame(whole.every_design(), whole)


def test_a_frame_has_every_design_with_the_numbers_of_the_csv(document, read):
    pandas = pytest.importorskip("pandas")
    whole = read(document)
    frame = design_frame(whole.every_design(), whole)
    assert list(frame.index) == [design.id for design in whole.every_design()]
    assert frame.loc["aaaaaaaa", "role"] == "recommended"
    assert frame.loc["aaaaaaaa", "plan.fc1"] == "tt:m=8x2,n=4x4,r=3"
    written = pandas.read_csv(io.StringIO(front_csv(whole)), index_col="id")
    same = [name for name in written if name in frame]
    assert len(same) == len(design_row(whole.original, whole)) - 1
    pandas.testing.assert_frame_equal(frame.loc[written.index, same], written[same], check_dtype=False)


def test_scores_of_random_inputs_are_in_no_row(unverified, read):
    whole = read(unverified)
    for design in whole.every_design():
        row = design_row(design, whole)
        assert (row["accuracy"], row["eval_accuracy"], row["fidelity"]) == (None, None, None)
    rows = list(csv.DictReader(io.StringIO(front_csv(whole))))
    assert [(row["fidelity"], row["params"]) for row in rows] == [("", str(d.params)) for d in whole.designs]
