"""Help: by -h too, options in groups, and completion of the shell."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
import typer

import lrfdse
from lrfdse.cli import run
from lrfdse.cli.app import app

COMMANDS = typer.main.get_command(app).commands


def test_both_options_of_every_command_print_its_help(capsys):
    for words in ([], *([name] for name in COMMANDS)):
        told = []
        for option in ("-h", "--help"):
            assert run([*words, option]) == 0
            told.append(capsys.readouterr().out)
        assert told[0] == told[1] and told[0].startswith(" ".join(["Usage: lrfdse", *words]))


def test_options_stand_in_groups_and_none_is_lost(capsys):
    run(["explore", "--help"])
    told = capsys.readouterr().out
    headings = re.findall(r"^(\S.*):$", told, re.MULTILINE)
    assert headings[0] == "Arguments" and headings[-1] == "Options" and len(headings) > 5
    listed = set(re.findall(r"^  .*?(--[a-z][a-z0-9-]*)", told, re.MULTILINE))
    assert listed == {parameter.opts[0] for parameter in COMMANDS["explore"].params if parameter.opts[0][0] == "-"} | {
        "--help"
    }


@pytest.mark.slow
def test_a_shell_completes_commands_options_and_targets():
    script = "import sys; from lrfdse.cli import main; sys.argv[0] = 'lrfdse'; main()"

    def completed(words):
        more = {"_LRFDSE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
        command = [sys.executable, "-c", script]
        return subprocess.run(command, env={**os.environ, **more}, capture_output=True, text=True).stdout.split()

    assert completed("lrfdse ins") == ["inspect"]
    assert completed("lrfdse explore --max-d") == ["--max-drop"]
    for command in ("explore", "inspect", "build", "doctor"):
        assert completed(f"lrfdse {command} --target riscv64-p") == ["riscv64-p550", "riscv64-p670"]


def test_the_package_runs_as_a_module():
    ended = subprocess.run([sys.executable, "-m", "lrfdse", "--version"], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.strip() == f"lrfdse {lrfdse.__version__}"
