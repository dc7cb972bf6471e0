"""Interrupts that wait until processes have begun."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(slots=True)
class _Held:
    """Whether interrupts of the main thread wait."""

    depth: int = 0
    waiting: bool = False


_held = _Held()


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach: the parent, which it does reach a moment later, ends them itself.

    A signal that this thread does not take is taken by another one, and Python's handler runs in the main thread all
    the same; where that is `interrupt`, it waits until the processes have what they are started with, too.
    """
    holds = threading.current_thread() is threading.main_thread()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    _held.depth += holds
    try:
        yield
    finally:
        _held.depth -= holds
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if holds and not _held.depth and _held.waiting:
            _held.waiting = False
            raise KeyboardInterrupt


def interrupt(number: int, frame: object) -> None:
    """Handle a signal as Ctrl-C: `KeyboardInterrupt`, where `interrupts_held` is left behind."""
    if _held.depth:
        _held.waiting = True
        return
    raise KeyboardInterrupt
