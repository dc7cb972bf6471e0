"""A finished run printed again: on every width, under other limits, with and without colours."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
from fcntl import ioctl
from termios import TIOCSWINSZ

import pytest

from lrfdse.cli import run
from tests.report.conftest import make, many_layers

SCRIPT = "import sys; from lrfdse.cli import main; sys.argv[0] = 'lrfdse'; main()"
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "front.json").write_text(json.dumps(make()))
    return tmp_path


def on_terminal(folder, columns, *words, **environment):
    leader, terminal = pty.openpty()
    ioctl(terminal, TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    without = ("CI", "NO_COLOR", "FORCE_COLOR", "COLUMNS")
    clean = {name: value for name, value in os.environ.items() if name not in without}
    command = [sys.executable, "-c", SCRIPT, *(words or ("show", str(folder)))]
    process = subprocess.Popen(
        command, stdin=terminal, stdout=terminal, stderr=terminal, env={**clean, "TERM": "xterm", **environment}
    )
    os.close(terminal)
    shown = b""
    while process.poll() is None or select.select([leader], [], [], 0.2)[0]:
        if select.select([leader], [], [], 0.05)[0]:
            try:
                shown += os.read(leader, 1 << 16)
            except OSError:
                break
    os.close(leader)
    assert process.wait() == 0, shown
    return shown.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("columns", [80, 100, 160])
def test_a_terminal_of_80_columns_wraps_nothing(columns, tmp_path):
    (tmp_path / "front.json").write_text(json.dumps(many_layers()))
    lines = ESCAPE.sub("", on_terminal(tmp_path, columns)).split("\n")
    paths = [line for line in lines if str(tmp_path) in line]
    assert {line.split()[0] for line in paths} == {"Report", "Model", "Kernels", "Next"}
    assert max(len(line) for line in lines if line not in paths) <= columns
    assert all(line == line.rstrip() for line in lines)
    assert sum(line.startswith("> aaaaaaaa") for line in lines) == 1


def test_verdicts_and_targets_fit_80_columns_too(folder):
    limits = (
        "--max-drop",
        "50%",
        "--max-latency",
        "1s",
        "--max-params",
        "1M",
        "--max-other-drop",
        "50%",
        "--max-size",
        "9M",
    )
    for words in (("targets",), ("check", str(folder), *limits)):
        lines = ESCAPE.sub("", on_terminal(folder, 80, *words)).split("\n")
        assert len(lines) > len(words) and all(line == line.rstrip() and len(line) <= 80 for line in lines)


@pytest.mark.slow
def test_no_color_takes_the_colours_and_nothing_else(folder):
    coloured, plain = on_terminal(folder, 80), on_terminal(folder, 80, NO_COLOR="1")
    assert re.search(r"\x1b\[[0-9;]*3[0-7]m", coloured)
    assert not re.search(r"\x1b\[[0-9;]*[349][0-7]m", plain)
    assert ESCAPE.sub("", coloured) == ESCAPE.sub("", plain)


def test_the_answer_ends_what_is_printed(folder, capsys):
    assert run(["show", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("Recommended: aaaaaaaa"))
    labels = [line.split("  ")[0] for line in lines[start + 1 : -1] if not line.startswith(" ")]
    before, after = ["Weights", "Latency", "Bound", "Accuracy"], ["Report", "Model", "Kernels", "Next"]
    assert labels == [*before, "Chosen for", "Why", *after]
    assert set(lines[-1]) == {"─"}


def test_other_limits_recommend_another_design_and_change_no_file(folder, capsys):
    before = (folder / "front.json").read_bytes()
    assert run(["show", str(folder), "--max-drop", "62%"]) == 0
    printed = capsys.readouterr().out
    assert "Recommended: eeeeeeee" in printed
    # A limit that is not given stays what it was.
    assert "a loss of at most 62 points of accuracy on the evaluation data and at most 5,000" in " ".join(
        printed.split()
    )
    # Its files were not kept.
    assert f"lrfdse export {folder} eeeeeeee" in printed
    assert (folder / "front.json").read_bytes() == before


def test_what_nothing_satisfies_is_an_exit_code_of_its_own(folder, capsys):
    assert run(["show", str(folder), "--max-params", "10"]) == 3
    shown = capsys.readouterr()
    assert "No design satisfies the limits" in shown.out
    assert "No design satisfies the limits: a loss of at most 1 point" in shown.err


def test_a_limit_in_bytes_takes_the_place_of_none(folder, capsys):
    assert run(["show", str(folder), "--max-drop", "60%", "--max-size", "360"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "Recommended: eeeeeeee" in printed and "at most 360 bytes of weights" in printed
    assert run(["show", str(folder), "--max-drop", "60%", "--max-size", "359"]) == 3
    assert run(["show", str(folder), "--max-size", "nothing"]) == 2
    assert "--max-size takes bytes such as" in capsys.readouterr().err


def test_a_folder_without_a_run_is_one_line(tmp_path, capsys):
    assert run(["show", str(tmp_path)]) == 2
    assert "front.json" in capsys.readouterr().err
    assert run(["show", str(tmp_path), "--max-drop", "two"]) == 2
