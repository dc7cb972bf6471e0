"""Running a static program elsewhere, through a command that the user gives."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from lrfdse.board.transport import ProcessResult
from lrfdse.errors import InputError, ToolError

_MOST_OUTPUT = 16 << 20
"""Bytes that a command may print; a bench program prints some hundred a kernel. Chosen, not measured."""
_START_SECONDS = 1.0
"""Timeout for the start of a thread (s). Chosen, not measured."""
_PROGRAM, _ARGUMENTS = "{program}", "{arguments}"


class Runner:
    """A command that runs a program on a board.

    A template with ``{program}`` gets the program's path in its place, and ``{arguments}`` the program's arguments.
    Any other gets one more argument: a command line for a POSIX shell on the board, which ``ssh user@board`` and its
    likes pass on; it reads the program from standard input. The command must relay the program's standard output and
    exit code. It runs without a shell on this side and without a terminal, so it cannot ask for a password.

    Parameters
    ----------
    template
        The command, quoted as for a POSIX shell.

    Raises
    ------
    InputError
        The template is empty or its quotes do not match.
    """

    def __init__(self, template: str) -> None:
        try:
            self._words = shlex.split(template)
        except ValueError as error:
            raise InputError(f"--runner {template!r}: {error}") from error
        if not self._words:
            raise InputError("--runner takes a command such as 'ssh user@board', but got nothing")

    @property
    def name(self) -> str:
        """The command's first word, for messages: what follows may name users and machines."""
        return self._words[0]

    def run(self, program: Path, arguments: Sequence[str] = (), timeout: float = 600.0) -> ProcessResult:
        """Run `program` with `arguments` on the board.

        Parameters
        ----------
        program
            A static program for the board.
        arguments
            Its arguments; plain words.
        timeout
            Seconds after which the command is ended.

        Raises
        ------
        ToolError
            The command is missing, does not end in time, or prints without end.
        InputError
            There are arguments, but the template has no place for them.
        """
        command, streams = self._command(program, arguments)
        # Files, not pipes: ssh may leave a master connection behind that holds its standard error open.
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            with open(program if streams else os.devnull, "rb") as given:
                code = self._wait(_Start(command, given, output, errors), timeout)
            return ProcessResult(code, self._text(output), self._text(errors))

    def _wait(self, start: _Start, timeout: float) -> int:
        """Return the exit code; whatever happens, what was started is gone afterwards."""
        try:
            start.start()
            return start.process().wait(timeout)
        except OSError as error:
            raise ToolError(f"--runner: {self.name} cannot be started: {error.strerror or error}") from error
        except subprocess.TimeoutExpired as error:
            raise ToolError(f"--runner: `{self.name}` has not ended after {timeout:g} s") from error
        finally:
            start.end()

    def _command(self, program: Path, arguments: Sequence[str]) -> tuple[list[str], bool]:
        """Return the command, and whether it reads the program from standard input."""
        if not any(_PROGRAM in word for word in self._words):
            return [*self._words, remote_command(arguments)], True
        if arguments and _ARGUMENTS not in self._words:
            raise InputError(
                f"--runner: {' '.join(arguments)} must reach the program: give the template the word {_ARGUMENTS}"
            )
        words: list[str] = []
        for word in self._words:
            words += arguments if word == _ARGUMENTS else [word.replace(_PROGRAM, str(program.resolve()))]
        return words, False

    def _text(self, file: IO[bytes]) -> str:
        if file.seek(0, os.SEEK_END) > _MOST_OUTPUT:
            raise ToolError(f"--runner: `{self.name}` printed more than {_MOST_OUTPUT >> 20} MiB")
        file.seek(0)
        return file.read().decode(errors="replace")


def remote_command(arguments: Sequence[str] = ()) -> str:
    r"""Return a command line that runs the program on its standard input and leaves no file behind.

    `arguments` are plain words. A login shell of any kind hands the single-quoted part to ``sh``.

    >>> remote_command(["--repeats", "5"]).endswith('"$t" --repeats 5\'')
    True
    """
    steps = [
        "t=$(mktemp) || exit 126",
        r'trap "rm -f \"\$t\"" EXIT',
        'trap "exit 130" HUP INT TERM',
        'cat >"$t" && chmod 700 "$t" || exit 126',
        " ".join(('"$t"', *arguments)),
    ]
    return f"sh -c '{'; '.join(steps)}'"


class _Start(threading.Thread):
    """Starts a command in a thread of its own, where no interrupt can come between the process and its name."""

    def __init__(self, command: Sequence[str], given: IO[bytes], output: IO[bytes], errors: IO[bytes]) -> None:
        super().__init__()
        self._command = command
        self._streams = given, output, errors
        self._process: subprocess.Popen[bytes] | None = None
        self._error: OSError | None = None
        # CPython 3.11's join() takes a thread for finished after an interrupt, so an event says when it is.
        self._done = threading.Event()

    def run(self) -> None:
        """Start the command in a session of its own: it has no terminal to ask on, and ends as a whole."""
        try:
            given, output, errors = self._streams
            self._process = subprocess.Popen(
                self._command, stdin=given, stdout=output, stderr=errors, start_new_session=True
            )
        except OSError as error:
            self._error = error
        finally:
            self._done.set()

    def process(self) -> subprocess.Popen[bytes]:
        """Return the process once it is there, or raise what prevented it."""
        self._done.wait()
        if self._process is None:
            raise self._error or OSError("it was not started")
        return self._process

    def end(self) -> None:
        """End the process, where there is one."""
        # An interrupt may have come before the thread had begun, and then it may never begin.
        self._done.wait(_START_SECONDS if self.ident is None else None)
        if self._process is not None:
            _end(self._process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End what the command has left running in its session."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1.0)
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
