"""Programs of an output folder that somebody else made: what is no plain file there is never run or sent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lrfdse.base.events import silent
from lrfdse.calibrate.programs import BenchOptions, run_programs
from lrfdse.errors import InputError
from lrfdse.targets.catalog import load_target


class Nobody:
    """A transport that must not be used."""

    name = "nobody"

    def run(self, program, arguments=(), timeout=600.0):
        raise AssertionError(f"{program} was run")


def spoil(program: Path, how: str, victim: Path) -> None:
    """Put something in the place of a program, or of a folder above it."""
    match how:
        case "link":
            program.symlink_to(victim / "bench")
        case "linked design":
            program.parent.rmdir()
            program.parent.symlink_to(victim)
        case "linked designs":
            program.parent.rmdir()
            program.parent.parent.rmdir()
            (victim / program.parent.name).symlink_to(victim)
            program.parent.parent.symlink_to(victim)
        case "FIFO":
            os.mkfifo(program)
        case "folder":
            program.mkdir()
        case "huge":
            with program.open("wb") as file:
                file.truncate(1 << 40)


@pytest.mark.parametrize("how", ["link", "linked design", "linked designs", "FIFO", "folder", "huge"])
def test_what_is_no_plain_file_is_refused_in_one_line(how, tmp_path):
    victim, program = tmp_path / "victim", tmp_path / "out" / "designs" / "0123abcd" / "bench"
    victim.mkdir()
    (victim / "bench").write_text("a secret")
    program.parent.mkdir(parents=True)
    spoil(program, how, victim)
    with pytest.raises(InputError, match="bench: cannot be read: ") as caught:
        run_programs({"0123abcd": program}, Nobody(), load_target("riscv64"), BenchOptions(), silent)
    assert "\n" not in str(caught.value)


def test_a_design_without_a_program_is_left_out(tmp_path):
    told = []
    program = tmp_path / "designs" / "0123abcd" / "bench"
    assert run_programs({"0123abcd": program}, Nobody(), load_target("riscv64"), BenchOptions(), told.append) == []
    assert "design 0123abcd has no program for a board: left out" in [event.text for event in told]
