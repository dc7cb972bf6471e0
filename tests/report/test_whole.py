"""What is said of whole models: the line of the answer, and the rows of the page."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest

from lrfdse.report.page.html import report_html
from lrfdse.report.text import designs_text
from lrfdse.report.whole import whole_facts, whole_text


def at(us):
    return {"us": us, "low_us": 0.9 * us, "high_us": 1.1 * us}


def whole(*operators, kind="modelled"):
    """A whole model of operators, each a layer or None and its microseconds."""
    total = sum(us for _, us in operators)
    return {
        "latency": {"warm": at(total), "cold": at(3 * total)},
        "flash_bytes": 6 * 1024,
        "code_bytes": 2 * 1024,
        "weight_bytes": 4 * 1024,
        "arena_bytes": 1024,
        "meter": "model",
        "kind": kind,
        "library": None,
        "operators": [
            {"name": f"n{k}", "op": "FullyConnected", "latency": {"warm": at(us), "cold": None}, "layer": layer}
            for k, (layer, us) in enumerate(operators)
        ],
    }


@pytest.fixture
def compiled(document):
    """The document whose original and recommended design were compiled as wholes, and the layers of the latter."""
    best = next(design for design in document["designs"] if design["id"] == document["recommended"])
    changed = [name for name, choice in best["plan"].items() if choice["factorization"] != "dense"]
    document["original"]["whole_model"] = whole(*((name, 100.0) for name in changed), (None, 300.0))
    for design in document["designs"]:
        if design["id"] == document["original"]["id"]:
            design["whole_model"] = document["original"]["whole_model"]
    best["whole_model"] = whole((None, 50.0), (None, 300.0))
    return document, changed


def test_the_answer_has_one_line_of_80_columns(compiled, read, monkeypatch):
    document, changed = compiled
    monkeypatch.setenv("COLUMNS", "80")
    lines = designs_text(read(document), Path("out")).splitlines()
    (line,) = (line for line in lines if line.startswith("Whole model "))
    before, count = 300 + 100 * len(changed), len(changed)
    times, share = f"{before / 350:.1f}x", f"{100 * count / before:.0%}"
    assert line.split(maxsplit=2)[2] == (
        f"{before} -> 350 us ({times}, modelled), {count} of {count + 1} operators took {share} of it"
    )
    assert len(line) <= 80


def test_the_line_of_a_large_model_goes_on_below_its_column(document, read, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    best = next(design for design in document["designs"] if design["id"] == document["recommended"])
    changed = [name for name, choice in best["plan"].items() if choice["factorization"] != "dense"]
    parts = [(name, 6000.0) for name in changed] + [(None, 1000.0)] * 110
    document["original"]["whole_model"], best["whole_model"] = whole(*parts), whole((None, 101_000.0))
    lines = designs_text(read(document), Path("out")).splitlines()
    (at,) = (index for index, line in enumerate(lines) if line.startswith("Whole model "))
    assert re.search(r"operators took \d+%$", lines[at]) and len(lines[at]) <= 80
    assert lines[at + 1] == " " * 13 + "of it"


def test_a_share_is_said_only_where_every_layer_is_found(compiled, read):
    document, changed = compiled
    lost = copy.deepcopy(document)
    operators = lost["original"]["whole_model"]["operators"]
    operators[0]["layer"] = None
    found = read(lost)
    assert whole_text(found, found.best).endswith("modelled)")
    assert found.original.whole_model.share_of(changed) is None


def test_an_estimate_is_explained_where_one_is_shown(compiled, read, monkeypatch):
    document, _ = compiled
    document["latency"]["rest"] = at(0.5)
    for design in document["designs"]:
        if design["id"] not in (document["original"]["id"], document["recommended"]):
            design["whole_model"] = {"estimated": at(70.0)}
    for columns, many in ((80, 0), (160, 1)):
        monkeypatch.setenv("COLUMNS", str(columns))
        text = designs_text(read(document), Path("out"))
        assert text.count("~ estimated whole model") == many and (text.count("~70") > 0) == bool(many)


def test_without_whole_models_nothing_is_said(document, read, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    found = read(document)
    assert "Whole model" not in designs_text(found, Path("out"))
    assert whole_facts(found) == []
    assert "whole model," not in report_html(found)


def test_the_page_has_the_numbers(compiled, read):
    document, changed = compiled
    found = read(document)
    rows = dict(whole_facts(found))
    before = 300 + 100 * len(changed)
    sizes = "2.0 KiB of code, 4.0 KiB of weights, 1.0 KiB of arena"
    assert rows["whole model, original"].startswith(f"warm {before} us, cold ")
    assert "us (modelled), " in rows["whole model, original"] and rows["whole model, recommended"].endswith(sizes)
    assert "whole model, SVD at equal size" not in rows
    assert all(name in report_html(found) for name in rows)


def test_a_runtime_s_latency_says_whose_it_is(document, read):
    ran = {"runtime": "litert", "package": "ai-edge-litert", "version": "2.3.0", "where": "board", "machine": "aarch64"}
    document["original"]["whole_model"] = {"runtimes": [{**ran, "threads": 1, "repeats": 21, "latency": at(42.0)}]}
    found = dict(whole_facts(read(document)))
    text = "42.0 us (measured, ai-edge-litert 2.3.0, 1 thread, board: aarch64)"
    assert found == {"whole model, original, in litert": text}


def test_runtimes_have_columns_of_their_own_on_the_page(document, read):
    ran = {"runtime": "litert", "package": "p", "version": "1", "where": "this machine", "machine": "m", "threads": 1}
    for name, us in (("original", 42.0), (document["recommended"], 21.0)):
        design = document[name] if name == "original" else next(d for d in document["designs"] if d["id"] == name)
        design["whole_model"] = {"runtimes": [{**ran, "repeats": 21, "latency": at(us)}]}
    page = report_html(read(document))
    assert "LiteRT on this machine (µs), whole model" in page
    row = page.partition(f'id="design-{document["recommended"]}"')[2].partition("</tr>")[0]
    assert '<td class="n o" data-value="21.0">21.0</td><td class="n x o" data-value="2.0">2.0×</td>' in row
