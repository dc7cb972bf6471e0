"""No damaged file ends in anything but success or one line: what was found before, and two minutes of new ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.harness import Loader, mutants
from tests.fuzz.seeds import KINDS, seeds

CORPUS = sorted((Path(__file__).parent / "corpus").iterdir())
PACKS = {
    "onnx": 3000,
    "tflite": 60,
    "keras": 500,
    "healed": 500,
    "npz": 3000,
    "target": 120,
    "space": 100,
    "front": 40,
    "board": 60,
    "log": 100,
}
PACKS |= {"study": 20, "artifact": 20, "cache": 40}
"""Files of each kind: two minutes together on an idle core, with the exploration that they begin with. Commands run
on all but models and arrays."""
EXPLORED = ("study", "artifact", "cache")
"""Kinds whose whole files an exploration makes."""
LONG = (*EXPLORED, "space", "target")
"""Kinds whose whole files take seconds: designs of the model that is explored are counted for each."""


def kind_of(path):
    return path.name.partition("-")[0]


@pytest.fixture(scope="module")
def loader():
    with Loader() as made:
        yield made


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] * (kind in LONG)) for kind in sorted(KINDS)]
)
def test_seeds_are_whole(kind, loader):
    endings = [loader.load(kind, content) for content in seeds(kind)[:5]]
    assert {ending.kind for ending in endings} == {"ok"}, endings


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=[pytest.mark.slow] * (kind_of(path) in LONG), id=path.name) for path in CORPUS],
)
def test_what_was_found_before_stays_mended(path, loader):
    ending = loader.load(kind_of(path), path.read_bytes())
    assert ending.kind in ("ok", "refused"), ending.text


def test_findings_are_small():
    assert CORPUS
    assert all(path.stat().st_size < 10_000 for path in CORPUS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "kind"),
    [("raise KeyError(1)", "traceback"), ("import os; os._exit(3)", "crash"), ("bytearray(1 << 31)[:]", "memory")],
)
def test_the_harness_sees_what_it_should(damage, kind):
    """A kind of file that is a program: the harness must tell how it ends."""
    with Loader({"program": (".py", lambda path: exec(path.read_text()))}) as own:
        assert own.load("program", damage.encode()).kind == kind
        assert own.load("program", b"pass").kind == "ok", "the next file has a process again"


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_damaged_files_are_one_line(kind, loader):
    stream, findings = mutants(kind, 1), []
    for _ in range(PACKS[kind]):
        content = next(stream)
        ending = loader.load(kind, content)
        if ending.is_finding:
            findings.append((ending, content))
    assert not findings, f"{findings[0]}; `python -m tests.fuzz --kind {kind}` keeps such files"
