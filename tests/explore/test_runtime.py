"""``explore --runtime``: what is written is timed at the end, and what could not be is refused before anything runs."""

from __future__ import annotations

import dataclasses
import hashlib
import sys

import numpy as np
import pytest

from lrfdse.base.events import silent
from lrfdse.cli import run
from lrfdse.errors import ToolError
from lrfdse.explore.inputs import settings_for
from lrfdse.explore.runtime import time_kept
from lrfdse.ir.latency import Latency
from lrfdse.report.runtimes import runtime_columns
from lrfdse.report.tables import design_table
from lrfdse.report.text import designs_text
from lrfdse.results.asked import Asked, MeterFacts, ModelFile, TargetFacts
from lrfdse.results.designs import DesignFacts, Score
from lrfdse.results.document import Document
from lrfdse.results.layers import Choice, Latencies
from lrfdse.results.read import read_document
from lrfdse.results.write import write_document
from lrfdse.targets.catalog import load_target, noun_digest
from tests.formats.tflite_models import mlp

FIRST, SECOND = "00000001", "00000002"


@pytest.fixture
def explored(tmp_path):
    """A finished folder with a design of a TensorFlow Lite model, its settings and its document."""
    pytest.importorskip("ai_edge_litert")
    content = mlp(np.random.default_rng(0))
    (tmp_path / "net.tflite").write_bytes(content)
    folder = tmp_path / "out"
    place = folder / "designs" / SECOND
    place.mkdir(parents=True)
    (place / "model.tflite").write_bytes(mlp(np.random.default_rng(1)))

    def design(identity, factorization):
        return DesignFacts(
            id=identity,
            origin="knapsack",
            on_front=True,
            plan={"fc1": Choice(factorization=factorization)},
            params=8,
            weight_bytes=32,
            flops=16,
            cache_regime="cold",
            latency=Latencies(cold=Latency(1.0, 1.0, 1.0)),
            eval_score=Score(value=0.5),
            model=None if identity == FIRST else f"designs/{SECOND}/model.onnx",
        )

    first = design(FIRST, "dense")
    document = Document(
        model=ModelFile(name="net", path="../net.tflite", sha256=hashlib.sha256(content).hexdigest()),
        target=TargetFacts(name="host", source="host", digest=noun_digest(load_target("host"))),
        meter=MeterFacts(name="model", kind="modelled"),
        metric="accuracy",
        settings=Asked(),
        verified=True,
        original=first,
        designs=(first, design(SECOND, "svd:r=1")),
        recommended=SECOND,
    )
    write_document(document, folder)
    settings = settings_for(tmp_path / "net.tflite", "host", output=folder, runtime="litert")
    return settings, document


def test_what_is_kept_is_timed_and_has_a_column_that_says_whose_it_is(explored):
    settings, document = explored
    written = []
    found = time_kept(settings, document, silent, lambda told, folder: written.append((told, folder)))
    assert written == [(found, settings.output)]
    stored = read_document(settings.output)
    for each in (stored.original, *stored.designs):
        (facts,) = each.whole_model.runtimes
        assert (facts.runtime, facts.where) == ("litert", "this machine") and 0 < facts.cpu_us < 1e6
    # It decides nothing, and what is modelled stays as it was.
    plain = [dataclasses.replace(each, whole_model=document.original.whole_model) for each in found.designs]
    assert (tuple(plain), found.recommended) == (document.designs, document.recommended)
    (column,) = runtime_columns([found.original, *found.designs], found)
    assert column.name == "LiteRT on this machine us" and all(column.cells)
    assert "LiteRT" in "".join(line.plain for line in design_table(found, 200))
    # Where the line breaks depends on the digits of what was measured.
    told = " ".join(designs_text(found, settings.output).split())
    assert "Runtime LiteRT on this machine: " in told and "the whole model, measured)" in told


def test_without_the_option_nothing_is_timed(explored):
    settings, document = explored
    assert time_kept(dataclasses.replace(settings, runtime=None), document, silent, None) is document


def test_what_cannot_be_timed_at_the_end_leaves_the_exploration(explored):
    settings, document = explored
    place = settings.output / "designs" / SECOND / "model.tflite"
    whole = place.read_bytes()
    place.write_bytes(b"nonsense")
    with pytest.raises(ToolError, match=r"all else was written: go on with `lrfdse bench .*out --runtime litert`$"):
        time_kept(settings, document, silent, lambda *_: None)
    assert read_document(settings.output) == document
    place.unlink()
    found = time_kept(settings, document, silent, lambda *_: None)
    assert "nothing was timed in litert: " in found.notes[-1] and found == read_document(settings.output)
    place.write_bytes(whole)


def test_what_could_time_nothing_is_refused_before_anything_runs(chain_folder, tmp_path, capsys, monkeypatch):
    def said(code, *arguments):
        asked = [str(chain_folder), "--target", "riscv64", "--output", str(tmp_path / "out"), *arguments]
        assert run(["explore", *asked]) == code
        (line,) = [each for each in capsys.readouterr().err.splitlines() if each.startswith("lrfdse: ")]
        return line

    assert "--runtime takes litert or onnxruntime, but got 'iree'" in said(2, "--runtime", "iree")
    needed = "--runtime litert runs model.tflite, which no design would have: add --format tflite"
    assert said(2, "--runtime", "litert").endswith(needed)
    assert said(2, "--runtime", "litert", "--dry-run").endswith(needed)
    for module in ("ai_edge_litert", "tflite_runtime"):
        monkeypatch.setitem(sys.modules, module, None)
    line = said(ToolError.exit_code, "--runtime", "litert", "--format", "tflite")
    assert line.endswith("is not installed: run `pip install 'lrfdse[tflite]'`")
    assert not (tmp_path / "out" / "designs").exists()
