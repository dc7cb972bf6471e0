"""Explorations and inspections as plain text."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from lrfdse.report.page.wording import hidden_text
from lrfdse.report.text import designs_text, layers_text
from lrfdse.results.document import InspectionDocument
from lrfdse.results.layers import UntouchedPart
from lrfdse.results.roles import hidden, shown


@pytest.mark.parametrize("columns", ["", "20", "80", "240"])
def test_every_design_is_there_whole_however_narrow_the_terminal(columns, document, read, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    read_in = read(document)
    lines = designs_text(read_in, Path("out")).splitlines()
    assert lines[0] == "Designs for riscv64"
    for design in shown(read_in):
        (line,) = (line for line in lines if design.id in line and f"{design.params:,}" in line)
        assert f"{design.flops:,}" in line
        assert line.startswith(">") == (design.id == read_in.recommended)
    assert lines[-1] == "out/designs/aaaaaaaa/model.onnx"


def test_what_the_table_leaves_out_and_why_nothing_is_recommended_is_said(document, unverified, read):
    left = read(document)
    weak = dataclasses.replace(left.designs[0], id="eeeeeeee", on_front=True, eval_score=None, fidelity=0.1)
    left = dataclasses.replace(left, dominated=(*left.dominated, weak))
    assert hidden(left) == 1
    assert f"\n{hidden_text(left)}\n" in designs_text(left, Path())
    refused = designs_text(read(unverified), Path("out"))
    assert "not measured" in refused
    assert "No design is recommended, because nothing says what one loses" in refused
    assert "lrfdse export out ID" in refused


def test_names_do_nothing_to_a_terminal(document, read, monkeypatch):
    # A narrow terminal would break the name over lines.
    monkeypatch.setenv("COLUMNS", "180")
    named = json.dumps(document).replace('"fc1"', json.dumps("a\x1b[31m[bold]:x:"))
    text = designs_text(read(json.loads(named)), Path("o\x07ut"))
    assert "\x1b" not in text and "\x07" not in text
    assert "[31m[bold]:x:" in text


def test_layers_are_told_in_detail(document, read):
    whole = read(document)
    part = UntouchedPart(name="conv\x1b", op="Conv", params=1234, reason="not fully connected")
    text = layers_text(
        InspectionDocument(
            model=whole.model, target=whole.target, space=whole.space, layers=whole.layers, untouched=(part,)
        )
    )
    assert "working memory" in text and "1.00e10" in text
    assert text.endswith("Left untouched\n  conv\ufffd (Conv, 1,234 params): not fully connected")
