"""Processes that this one starts: Ctrl-C leaves them to it, and none outlives it."""

from __future__ import annotations

import ctypes
import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Container, Sequence
from multiprocessing.process import BaseProcess
from typing import Any

from lrfdse.errors import RoomError, ToolError

_PR_SET_PDEATHSIG = 1
"""Number of the call in prctl(2) by which Linux signals a child when its parent ends."""
FAULTS = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP, signal.SIGSYS})
"""Signals that a program's own instructions can bring about; others come from outside, or of a lack of memory."""
_CLEANING = 1.0
"""Seconds that processes have to clean up behind themselves before they are killed. Chosen."""


def end_with_parent() -> None:
    """Have the system end this process when its parent is gone: a parent that is killed cannot."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid != os.getppid():
        # It was gone before the system was told.
        os._exit(1)


def end_all(processes: Sequence[BaseProcess]) -> None:
    """End processes now; those that do not go are killed."""
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + _CLEANING
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
    for process in processes:
        if process.is_alive():
            process.kill()
            process.join(1)


def run_to_end(
    command: Sequence[str], what: str, faults: Container[int] = FAULTS, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a program and return its status and what it printed, as text.

    Parameters
    ----------
    command
        The program and its arguments.
    what
        Names the step in errors.
    faults
        Signals by which the program may end through what it was given to run; it is for the caller to say so.
    options
        More of `subprocess.run`.

    Raises
    ------
    RoomError
        It was ended by another signal, as where memory is out, or there is no memory to start it.
    ToolError
        It cannot be started for another reason.
    subprocess.TimeoutExpired
        See the option ``timeout``.
    """
    try:
        ended = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    except OSError as error:
        kind = RoomError if error.errno in _NO_ROOM else ToolError
        raise kind(f"{what} failed: {error.strerror or error}") from error
    # A shell, and zig for its parts, add 128 to the number.
    number = -ended.returncode if ended.returncode < 0 else ended.returncode - 128
    if 0 < number < signal.NSIG and number not in faults:
        raise RoomError(
            f"{what} failed: it was ended by {signal.Signals(number).name}: is there room on disk, and memory?"
        )
    return ended


_NO_ROOM = frozenset({errno.ENOMEM, errno.EAGAIN, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE})
"""Errors by which the system says that it has no memory, process, disk or file left."""
