"""What is done with files of version 1: the page, the gate, the tables, the list of what to export."""

from __future__ import annotations

import io
import json
import re
import shutil

import pytest
from rich.console import Console

from lrfdse.cli import run
from lrfdse.report.page.wording import recommendation
from lrfdse.report.tables import design_table, funnel_table, layer_table
from lrfdse.results.read import read_document


@pytest.fixture
def folder(old, tmp_path):
    """An output folder with the file."""
    shutil.copy(old, tmp_path / "front.json")
    return tmp_path


def printed(table):
    console = Console(file=io.StringIO(), width=200)
    console.print(table)
    return console.file.getvalue()


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
    assert re.search(rf"params .*{verdict}", capsys.readouterr().out)
    assert run(["check", str(folder), "--design", document.original.id, "--max-params", "1"]) == 1
    assert run(["check", str(folder), "--baseline", str(folder)]) == code


def test_its_tables_hold_its_numbers(folder):
    raw, document = json.loads((folder / "front.json").read_text()), read_document(folder)
    designs = printed(design_table(document))
    base = raw["baseline"]
    assert re.search(rf"{base['id']} +{base['params']:,} +{base['flops']:,} ", designs)
    assert f"latency, {raw['latency']['kind']}" in designs
    assert ("on the board" in designs) == any(entry.get("board") for entry in raw["designs"])
    if raw["recommended"] is not None:
        best = next(entry for entry in raw["designs"] if entry["id"] == raw["recommended"])
        times = base["params"] / best["params"]
        assert re.search(rf"> {best['id']} +{best['params']:,} +{times:.1f}x ", designs)
        assert f"{best['id']}, {times:.1f}x fewer parameters" in recommendation(document, folder)
    layers, funnel = printed(layer_table(document.layers)), printed(funnel_table(document.layers))
    for layer in raw["layers"]:
        assert re.search(rf"{layer['name']} +{layer['in']} x {layer['out']} .* {layer['params']:,} ", layers)
    stages = [stage for layer in raw["layers"] for stage in layer["funnel"]["stages"]]
    assert all(stage["stage"] in funnel and f"{stage['designs']:,}" in funnel for stage in stages)


def test_export_and_bench_say_what_is_missing_beside_it(folder, capsys):
    design = read_document(folder).designs[0].id
    assert run(["export", str(folder), design]) == 2
    assert "space.toml: no such search space file" in capsys.readouterr().err
    assert run(["bench", str(folder), "--runner", "true {program}"]) == 2
    assert re.search("holds no program for a board|not the target that was explored", capsys.readouterr().err)
    assert run(["export", str(folder), "nosuchid"]) == 2
    assert "no design 'nosuchid' in front.json; it has" in capsys.readouterr().err
