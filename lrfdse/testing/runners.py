"""What every runner must do.

The programs of these tests are shell scripts, so the board needs a POSIX shell. A plug-in's author writes::

    class TestMine(RunnerContract):
        @pytest.fixture
        def text(self):
            return "mine:board-7"
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lrfdse.board.transport import Transport, open_transport
from lrfdse.errors import ToolError

Program = Callable[[str], Path]


class RunnerContract:
    """Tests of one way to a board; a subclass gives the fixture `text`."""

    @pytest.fixture
    def text(self) -> str:
        """Return what ``--runner`` is given."""
        raise NotImplementedError("give the fixture `text`")

    @pytest.fixture
    def transport(self, text: str) -> Transport:
        """Return the way to the board, open."""
        return open_transport(text)

    @pytest.fixture
    def program(self, tmp_path: Path) -> Program:
        """Return a function from the body of a shell script to an executable file, in a folder with a space."""
        folder = tmp_path / "a folder"
        folder.mkdir()

        def written(body: str) -> Path:
            path = folder / "bench"
            path.write_text(f"#!/bin/sh\n{body}\n")
            path.chmod(0o755)
            return path

        return written

    def test_its_name_is_one_word(self, transport: Transport) -> None:
        """Messages call it by a word."""
        assert transport.name
        assert len(transport.name.split()) == 1

    def test_output_errors_and_exit_code_come_back(self, transport: Transport, program: Program) -> None:
        """What the program writes and how it ends is returned as it is; an exit code is no error of the way."""
        ended = transport.run(program("echo out; echo 'and more'; echo bad >&2; exit 7"))
        assert ended.code == 7
        assert ended.output == "out\nand more\n"
        assert "bad" in ended.errors

    def test_arguments_reach_the_program_in_order(self, transport: Transport, program: Program) -> None:
        """Arguments arrive as they were given."""
        ended = transport.run(program('echo "$#:$*"'), ["--repeats", "5", "--core", "0"])
        assert (ended.code, ended.output) == (0, "4:--repeats 5 --core 0\n")

    def test_much_output_comes_back_whole(self, transport: Transport, program: Program) -> None:
        """A document of a megabyte is not cut."""
        body = "i=0; while [ $i -lt 1000 ]; do printf '%01000d' 7; i=$((i + 1)); done"
        assert transport.run(program(body)).output == ("0" * 999 + "7") * 1000

    def test_a_program_of_before_is_not_run_again(self, transport: Transport, program: Program) -> None:
        """Each run is of the program's content now, under the same path, too."""
        assert transport.run(program("echo first")).output == "first\n"
        assert transport.run(program("echo second")).output == "second\n"

    def test_a_program_that_hangs_is_given_up_in_one_line(self, transport: Transport, program: Program) -> None:
        """After `timeout` seconds the run is an error."""
        with pytest.raises(ToolError) as caught:
            transport.run(program("exec sleep 600"), timeout=1.0)
        assert "\n" not in str(caught.value)
