"""Progress in plain words: an overall position that never goes back."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrfdse.base.events import Event
from lrfdse.cli.progress import EXPLORATION, Position, listening, stages_of
from lrfdse.explore.inputs import settings_for

STAGES = [stage for _, stages in EXPLORATION for stage in stages]


@given(st.lists(st.sampled_from(STAGES)))
def test_the_position_never_goes_back(stages):
    position = Position(EXPLORATION)
    places = [int(re.match(rf"stage (\d+) of {len(EXPLORATION)}: ", position.of(stage))[1]) for stage in stages]
    assert places == sorted(places)


def test_stages_are_those_that_were_asked_for(tmp_path):
    plain = settings_for(tmp_path / "net.onnx", "riscv64", output=tmp_path / "out")
    assert "running on the board" not in [words for words, _ in stages_of(plain)]
    asked = replace(plain, runner="ssh board", heal=True, runtime="litert")
    words = ["running on the board", "training factors", "timing whole models"]
    assert [each for each, _ in stages_of(asked)][-3:] == words and len(stages_of(asked)) == len(stages_of(plain)) + 3


def test_lines_tell_the_position_in_words(capsys):
    with listening(stages=EXPLORATION) as progress:
        progress(Event("note", "two layers"))
        progress(Event("kernels", "fc1", 3, 7))
    lines = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r" +\d+\.\ds note two layers", lines[0])
    assert re.fullmatch(r" +\d+\.\ds stage 5 of 12: compiling and timing kernels 3/7 fc1", lines[1])


@pytest.mark.parametrize(("stage", "words"), [("count", "counting designs"), ("new", "new")])
def test_a_run_without_an_order_of_stages_says_what_it_does(stage, words, capsys):
    with listening() as progress:
        progress(Event(stage, "fc1", 0, 2))
    assert f"s {words} 0/2 fc1" in capsys.readouterr().err
