"""The way to a board: templates, the command line for a shell there, and what ends a run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from lrfdse.board.command import Runner, remote_command
from lrfdse.errors import InputError, ToolError

# What `ssh host COMMAND` does: a shell gets the command line as one text, and the program on standard input.
LIKE_SSH = """sh -c 'exec {shell} -c "$1"' ssh"""


@pytest.fixture
def script(tmp_path):
    """A program that a shell can run, in a folder whose name needs quotes."""
    folder = tmp_path / "a 'folder' $HOME"
    folder.mkdir()

    def written(text: str) -> Path:
        path = folder / "program"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    return written


def test_a_template_with_the_programs_place_runs_it_there(script):
    program = script('echo "$0 has $# arguments"; echo bad >&2; exit 7')
    ended = Runner("env X=1 {program}").run(program)
    assert (ended.code, ended.errors) == (7, "bad\n")
    assert ended.output == f"{program} has 0 arguments\n"
    ended = Runner("env {program} first {arguments} last").run(program, ["--repeats", "5"])
    assert ended.output == f"{program} has 4 arguments\n"


def test_arguments_need_a_place(script):
    with pytest.raises(InputError, match=r"--repeats 5 must reach the program.*\{arguments\}"):
        Runner("env {program}").run(script("exit 0"), ["--repeats", "5"])


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox sh", "zsh", "fish", "tcsh"])
def test_any_login_shell_runs_the_program_and_leaves_nothing(shell, script, tmp_path, monkeypatch):
    if shutil.which(shell.split()[0]) is None:
        pytest.skip(f"no {shell} here")
    temporary = tmp_path / 'tmp "of" the $board'
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    program = script('echo "$0|$*"; exit 9')
    ended = Runner(LIKE_SSH.format(shell=shell)).run(program, ["--core", "3"])
    assert ended.code == 9, ended
    path, arguments = ended.output.strip().rsplit("|", 1)
    assert arguments == "--core 3"
    assert Path(path).parent == temporary
    assert list(temporary.iterdir()) == []


def test_a_board_without_room_says_so(script, monkeypatch):
    monkeypatch.setenv("TMPDIR", "/nonexistent")
    ended = Runner(LIKE_SSH.format(shell="sh")).run(script("echo no"))
    assert (ended.code, ended.output) == (126, "")
    assert "nonexistent" in ended.errors


def test_the_command_line_is_one_shell_word_of_plain_characters():
    command = remote_command(["--repeats", "5"])
    assert command.startswith("sh -c '")
    assert command.count("'") == 2
    assert "\n" not in command
    assert "!" not in command


@pytest.mark.parametrize("template", ["", "  ", "ssh 'board"])
def test_what_is_no_command_is_refused(template):
    with pytest.raises(InputError, match="--runner"):
        Runner(template)


def test_a_missing_command_is_named(script):
    with pytest.raises(ToolError, match="no-such-client cannot be started: No such file"):
        Runner("no-such-client ssh").run(script("exit 0"))


def test_no_shell_on_this_side_sees_the_template(script, tmp_path):
    ended = Runner(f"echo $(touch {tmp_path}/made) ; {{program}}").run(script("exit 0"))
    assert ended.output.startswith("$(touch")
    assert not (tmp_path / "made").exists()


def test_what_takes_too_long_is_ended_with_all_it_started(script, tmp_path):
    program = script(f'sleep 3600 & echo $! > "{tmp_path}/pid"; wait')
    assert _is_gone(_ended_while_it_ran(Runner("sh {program}"), program, tmp_path / "pid"))


def test_what_does_not_want_to_end_is_killed(script, tmp_path):
    program = script(f'trap "" TERM; echo $$ > "{tmp_path}/pid"; while :; do sleep 1; done')
    assert _is_gone(_ended_while_it_ran(Runner("{program}"), program, tmp_path / "pid"))


def test_an_interrupt_ends_the_command(script, tmp_path):
    program = script(f'echo $$ > "{tmp_path}/pid"; kill -INT {os.getpid()}; sleep 3600')
    with pytest.raises(KeyboardInterrupt):
        Runner("{program}").run(program, timeout=600)
    assert _is_gone(int((tmp_path / "pid").read_text()))


def test_the_command_has_no_terminal_to_ask_on(script):
    ended = Runner("{program}").run(script("(: < /dev/tty) 2>/dev/null && echo asks || echo silent; cat"))
    assert ended.output == "silent\n"


def test_output_without_end_is_refused(script):
    with pytest.raises(ToolError, match="printed more than 16 MiB"):
        Runner("{program}").run(script("head -c 17000000 /dev/zero"))


def test_a_process_that_is_left_behind_does_not_hold_the_run_up(script):
    """As ssh does with ControlPersist: the master keeps standard error open."""
    ended = Runner("{program}").run(script("sleep 3600 & echo $!"), timeout=3000)
    # Raises where it is gone, and so was waited for.
    os.kill(int(ended.output), signal.SIGKILL)


def _ended_while_it_ran(runner: Runner, program: Path, started: Path) -> int:
    """Run what never ends until a limit has come after it had written its process id, which is returned."""
    for seconds in (0.5, 2, 8, 32, 128, 512):
        with pytest.raises(ToolError, match=f"has not ended after {seconds:g} s"):
            runner.run(program, timeout=seconds)
        if started.exists() and (text := started.read_text().strip()):
            return int(text)
    pytest.fail("a shell script does not begin within minutes")


def _is_gone(process: int) -> bool:
    for _ in range(2000):
        state = subprocess.run(["ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True, check=False)
        if state.stdout.strip()[:1] in ("", "Z"):
            return True
        time.sleep(0.05)
    return False
