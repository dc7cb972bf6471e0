"""Which way to a board a text names."""

from __future__ import annotations

import pytest

from lrfdse.board.command import Runner
from lrfdse.board.transport import RUNNERS, ProcessResult, open_transport
from lrfdse.errors import InputError


class Drawer:
    """Runs nothing: says what it was asked for."""

    def __init__(self, text):
        self.text = text
        self.name = "drawer"

    def run(self, program, arguments=(), timeout=600.0):
        return ProcessResult(0, f"{self.text} {program.name} {' '.join(arguments)}", "")


def test_a_command_alone_is_the_command_runners(tmp_path):
    for text in ("sh -c 'echo yes'", "command:sh -c 'echo yes'"):
        way = open_transport(text)
        assert isinstance(way, Runner)
        (tmp_path / "program").touch()
        assert way.run(tmp_path / "program").output == "yes\n"


def test_a_runners_name_opens_it_with_the_rest(tmp_path):
    with RUNNERS.register("drawer", Drawer):
        way = open_transport("drawer:left: upper")
    assert way.run(tmp_path / "bench", ["--core", "1"]).output == "left: upper bench --core 1"


def test_a_name_that_is_neither_runner_nor_command_is_said():
    with pytest.raises(InputError, match="'drawr' is neither a command nor one of the runners command"):
        open_transport("drawr:left")


def test_a_command_may_look_like_a_name(tmp_path, monkeypatch):
    program = tmp_path / "run:it"
    program.write_text("#!/bin/sh\necho ran\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (tmp_path / "program").touch()
    assert open_transport("run:it").run(tmp_path / "program").output == "ran\n"


@pytest.mark.parametrize("text", ["", "  ", "command:"])
def test_nothing_is_no_way(text):
    with pytest.raises(InputError, match="but got nothing"):
        open_transport(text)
