"""Transports: what runs a static program on a board, by name."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lrfdse.base.registry import Registry
from lrfdse.errors import InputError


@dataclass(frozen=True, slots=True)
class ProcessResult:
    """Exit code and output of a program on a board, or of the command that was to run it."""

    code: int
    """Exit code."""
    output: str
    """What it wrote to standard output."""
    errors: str
    """What it, or the command, wrote to standard error."""


class Transport(Protocol):
    """An open connection to a board, or whatever else runs programs there."""

    @property
    def name(self) -> str:
        """What messages call it; it must not name users or machines."""

    def run(self, program: Path, arguments: Sequence[str] = (), timeout: float = 600.0) -> ProcessResult:
        """Run `program` with `arguments` on the board and wait for its end.

        Parameters
        ----------
        program
            A static program for the board.
        arguments
            Its arguments; plain words.
        timeout
            Seconds after which the run is given up and whatever was started is ended.

        Raises
        ------
        ToolError
            The board cannot be reached, or the program does not end in time, or prints without end. A program that
            ends with an exit code is none of these: the code is returned.
        InputError
            The transport cannot pass arguments on.
        """


RUNNERS: Registry[Callable[[str], Transport]] = Registry(
    "lrfdse.runners", "runner", {"command": "lrfdse.board.command:Runner"}
)
"""The runners by name: each opens a transport from the text that ``--runner NAME:TEXT`` gives it, and raises
`InputError` where it cannot use the text. A plug-in adds one under the entry-point group "lrfdse.runners"."""

_NAMED = re.compile(r"([A-Za-z][\w-]*):(.*)", re.DOTALL)


def open_transport(text: str) -> Transport:
    """Return the open transport that ``--runner`` names.

    Parameters
    ----------
    text
        ``NAME:TEXT`` with a name of `RUNNERS`, or a command alone, which is the runner "command"'s text.

    Raises
    ------
    InputError
        The text begins like a runner's name, but there is neither such a runner nor such a command; or the runner
        cannot use its text.
    ToolError
        The plug-in that offers the runner is broken.
    """
    found = _NAMED.fullmatch(text)
    if found and found[1] in RUNNERS.names():
        return RUNNERS.get(found[1])(found[2])
    if found and shutil.which(text.split()[0]) is None:
        raise InputError(
            f"--runner {text!r}: {found[1]!r} is neither a command nor one of the runners {', '.join(RUNNERS.names())}"
        )
    return RUNNERS.get("command")(text)
