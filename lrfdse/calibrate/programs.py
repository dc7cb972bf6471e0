"""Bench programs on a board: one that only asks for the board's description, and those of designs."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrfdse.base.events import Event, Listener
from lrfdse.base.files import read_regular
from lrfdse.base.temporary import temporary_folder
from lrfdse.board.result import BoardRun, read_run
from lrfdse.deploy.bench_program import MOST_BYTES, build_program
from lrfdse.deploy.designs import BENCH
from lrfdse.errors import InputError, ToolError
from lrfdse.targets.target import Target

if TYPE_CHECKING:
    from lrfdse.board.transport import Transport

_MOST_BYTES = 2 * MOST_BYTES
"""Most that a program may have: its weights, and as much for all else."""
_NO_DESIGN = ""
"""The design's id in a program that has no kernels and only describes the board."""
_PROBE_TIMEOUT = 120.0
"""Most seconds that a board may take to answer for the first time, waking up included; chosen, not measured."""


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """How a board measures; None leaves the choice to the program."""

    repeats: int | None = None
    """Samples of each kernel in each cache regime."""
    min_time_ms: int | None = None
    """Least duration of one warm sample."""
    core: int | None = None
    """Number of the processor to stay on."""
    timeout: float = 600.0
    """Seconds for one design, the way to the board and back included."""
    allow_emulator: bool = False
    """Whether the programs may run under an emulator: they are checked there, and its times are no latencies."""

    @property
    def arguments(self) -> list[str]:
        """The program's command line."""
        given = {"--repeats": self.repeats, "--min-time": self.min_time_ms, "--core": self.core}
        return [word for name, value in given.items() if value is not None for word in (name, str(value))]


def describe_board(runner: Transport, target: Target) -> Mapping[str, Any]:
    """Run a program without kernels on the board and return the board's description.

    Raises
    ------
    ToolError
        The board cannot be reached, or does not run programs for `target`.
    """
    with temporary_folder() as folder:
        program = folder / BENCH
        program.write_bytes(build_program((), target, _NO_DESIGN))
        program.chmod(0o755)
        ended = runner.run(program, timeout=_PROBE_TIMEOUT)
    return read_run(ended, runner.name, _NO_DESIGN, target.name).board


def run_programs(
    programs: Mapping[str, Path], runner: Transport, target: Target, options: BenchOptions, progress: Listener
) -> list[BoardRun]:
    """Run the programs of designs, by the designs' ids, one after another.

    Raises
    ------
    InputError
        A program cannot be read.
    ToolError
        The board cannot be reached, or a kernel crashed or computed wrong numbers there.
    """
    found = []
    for done, (identity, program) in enumerate(programs.items()):
        progress(Event("board", identity, done, len(programs)))
        if not os.path.lexists(program):
            progress(Event("note", f"design {identity} has no program for a board: left out"))
            continue
        content = _content(program)
        ended = runner.run(program, options.arguments, options.timeout)
        run = read_run(ended, runner.name, identity, target.name)
        _check_kernels(run, content, runner.name)
        found.append(run)
    progress(Event("board", "", len(programs), len(programs)))
    return found


def _content(program: Path) -> bytes:
    """Return what a program consists of; a link on the way to it from the folder of all designs leads nowhere.

    The folder may be somebody else's: what a link there leads to would be sent to the board.
    """
    try:
        if linked := [folder for folder in (program.parent.parent, program.parent) if folder.is_symlink()]:
            raise OSError(errno.ELOOP, f"{linked[0]} is a link")
        return read_regular(program, _MOST_BYTES, links=False)
    except OSError as error:
        raise InputError(f"{program}: cannot be read: {error.strerror or error}") from error


def _check_kernels(run: BoardRun, program: bytes, command: str) -> None:
    """Refuse numbers of kernels that the program does not hold: a copy of an earlier one lay on the board."""
    from lrfdse.deploy.bench_data import kernel_members

    for kernel in run.kernels:
        if kernel_members(kernel.layer, kernel.use, kernel.spec, kernel.schedule) not in program:
            raise ToolError(
                f"--runner: `{command}` ran another program than design {run.design}'s of now: it has no "
                f"{kernel.spec} as {kernel.schedule}"
            )
