"""``NAME.json`` and the table: what is said of a library."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from lrfdse.base.codec import from_plain
from lrfdse.ir.latency import Latency
from lrfdse.library.facts import ArrayFacts, LibraryFacts, MeterFacts, OperatorFacts
from lrfdse.library.table import library_text
from lrfdse.library.tensor import Tensor

PAGE = Path(__file__).parents[2] / "docs" / "library.md"


def us(value):
    return Latency(value, value, value)


def operator(kind, value, **more):
    given = {
        "symbol": f"net_{kind.split()[0].lower()}",
        "kind": kind,
        "nodes": (f"{kind}_0",),
        "schedule": "",
        "macs": 10,
        "weight_bytes": 2048,
        "work_bytes": 0,
        "arrays": (ArrayFacts("input", "arena", 64, 16, "float32"),),
        "warm": us(value),
        "cold": us(2 * value),
    }
    return OperatorFacts(**{**given, **more})


@pytest.fixture
def facts():
    operators = (
        operator("Convolution", 71.0),
        operator("Foreign TopK", 20.0),
        operator("Foreign Cast", 4.0),
        operator("Softmax", 5.0),
    )
    return LibraryFacts(
        schema_version=1,
        version="0",
        name="net",
        model="m.onnx",
        model_sha256="0" * 64,
        target="riscv64",
        core="a core",
        inputs=(Tensor("x", "float32", (1, 4), 16),),
        outputs=(Tensor("y", "int64", (), 8),),
        arena_bytes=4096,
        arena_bound=4096,
        weight_bytes=8192,
        weights_in="library",
        code_bytes=1024,
        macs=40,
        operators=operators,
        meter=MeterFacts("model", "modelled", {}),
        warm=us(100.0),
        cold=us(200.0),
        checked=True,
        max_error=1e-7,
        tolerance=1e-4,
    )


def test_the_file_reads_back(facts):
    assert from_plain(LibraryFacts, json.loads(facts.json)) == facts


def test_an_operator_without_a_schedule_that_takes_long_is_named(facts):
    assert [each.kind for each in facts.slow()] == ["Foreign TopK"]
    assert dataclasses.replace(facts, warm=None).slow() == ()


def test_the_table_says_what_kind_of_latency_it_is(facts):
    text = library_text(facts, Path("out"))
    assert re.search(r"^ +weights +scratch +modelled +cold$", text, re.MULTILINE)
    assert re.search(r"net_foreign +Foreign TopK_0 +10 +2\.0 +20\.0 +40\.0 +20\.0%", text)
    assert "modelled (model meter): 100.0 us warm, 200.0 us cold" in text
    bare = tuple(dataclasses.replace(each, warm=None, cold=None) for each in facts.operators)
    unknown = dataclasses.replace(facts, operators=bare, meter=None, warm=None, cold=None)
    assert "us)" not in library_text(unknown, Path("out"))


@pytest.mark.parametrize("noun", [LibraryFacts, OperatorFacts, ArrayFacts, MeterFacts, Tensor])
def test_every_key_stands_on_the_page(noun):
    page = PAGE.read_text(encoding="utf-8").partition("## net.json")[2]
    assert {field.name for field in dataclasses.fields(noun)} <= set(re.findall(r"`(\w+)`", page))
