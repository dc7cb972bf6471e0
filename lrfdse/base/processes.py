"""Processes that this one starts: Ctrl-C leaves them to it, and none outlives it."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess

_PR_SET_PDEATHSIG = 1
"""Number of the call in prctl(2) by which Linux signals a child when its parent ends."""
_CLEANING = 1.0
"""Seconds that processes have to clean up behind themselves before they are killed. Chosen."""


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach: the parent, which it does reach a moment later, ends them itself."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent() -> None:
    """Have the system end this process when its parent is gone: a parent that is killed cannot."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid != os.getppid():
        # It was gone before the system was told.
        sys.exit(1)


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
