"""What is done with files of version 1: the page, the gate, the tables, the list of what to export."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from lrfdse.cli import run
from lrfdse.report.layer_tables import funnel_table, layer_table
from lrfdse.report.numbers import kib_text, times_text
from lrfdse.report.page.wording import recommendation
from lrfdse.report.tables import design_table
from lrfdse.results.read import read_document


@pytest.fixture
def folder(old, tmp_path):
    """An output folder with the file."""
    shutil.copy(old, tmp_path / "front.json")
    return tmp_path


def printed(lines):
    return "\n".join(line.plain for line in lines)


def test_the_page_is_written_again(folder, capsys):
    assert run(["report", str(folder)]) == 0
    page = (folder / "report.html").read_text()
    assert capsys.readouterr().out.strip() == str(folder / "report.html")
    for design in read_document(folder).every_design():
        assert f'id="design-{design.id}"' in page


def test_the_gate_judges_it(folder, capsys):
    document = read_document(folder)
    code = run(["check", str(folder), "--max-params", str(document.original.params)])
    recommends = document.recommended is not None
    assert code == (0 if recommends or document.is_refused else 1)
    verdict = "pass" if recommends else "skipped"
    assert re.search(rf"{verdict} +params", capsys.readouterr().out)
    assert run(["check", str(folder), "--design", document.original.id, "--max-params", "1"]) == 1
    assert run(["check", str(folder), "--baseline", str(folder)]) == code


def test_its_tables_hold_its_numbers(folder):
    raw, document = json.loads((folder / "front.json").read_text()), read_document(folder)
    designs = printed(design_table(document, 200))
    base = raw["baseline"]
    assert re.search(rf"{base['id']} +original +{kib_text(4 * base['params'])} ", designs)
    assert f"latency {document.meter.kind}" in designs
    assert ("board us" in designs) == any(entry.get("board") for entry in raw["designs"])
    if raw["recommended"] is not None:
        best = next(entry for entry in raw["designs"] if entry["id"] == raw["recommended"])
        kib, times = kib_text(4 * best["params"]), times_text(base["params"], best["params"])
        assert re.search(rf"> {best['id']} .* {kib} +{times} ", designs)
        assert f"{best['id']}, {kib} KiB of weights instead of {kib_text(4 * base['params'])}" in recommendation(
            document
        )
    layers, funnel = printed(layer_table(document.layers, 200)), printed(funnel_table(document.layers, 200))
    for layer in raw["layers"]:
        assert re.search(rf"{layer['name']} +{layer['in']} x {layer['out']} .* {layer['params']:,} ", layers)
    stages = [stage for layer in raw["layers"] for stage in layer["funnel"]["stages"]]
    assert all(word in funnel for stage in stages for word in (*stage["stage"].split(), f"{stage['designs']:,}"))


def test_export_and_bench_say_what_is_missing_beside_it(folder, capsys):
    design = read_document(folder).designs[0].id
    assert run(["export", str(folder), design]) == 2
    assert "space.toml: no such search space file" in capsys.readouterr().err
    assert run(["bench", str(folder), "--runner", "true {program}"]) == 2
    assert re.search("holds no program for a board|not the target that was explored", capsys.readouterr().err)
    assert run(["export", str(folder), "nosuchid"]) == 2
    assert "no design 'nosuchid' in front.json; it has" in capsys.readouterr().err
