"""Functions that run in processes of their own, none of which outlives the block that asked, or a parent's death."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from lrfdse.base.interrupts import interrupts_held
from lrfdse.base.processes import end_all, end_with_parent

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Pool:
    """Processes that take one call after the other; see `process_pool`."""

    executor: ProcessPoolExecutor

    def submit(self, run: Callable[..., Found], *given: object) -> Future[Found]:
        """Have a process run a function, both picklable.

        What waits for the result raises `concurrent.futures.process.BrokenProcessPool` where any of the processes has
        died, or was told to end.
        """
        with interrupts_held():
            return self.executor.submit(_run, run, *given)


@contextmanager
def process_pool(processes: int) -> Iterator[Pool]:
    """Give processes that start with the first calls, and end them when the block is left: what is under way is lost.

    A process that is told to end, as the system does where its parent is killed, lets what it runs clean up behind
    itself and then is gone, whatever else has taken its `SystemExit` for an error.
    """
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(processes, mp_context=context, initializer=_start)
    try:
        yield Pool(executor)
    finally:
        end_all(list((executor._processes or {}).values()))
        # What one of them had sent in part would be waited for, and the executor's own thread waits for all of them.
        executor._result_queue._writer.close()  # type: ignore[attr-defined]
        executor.shutdown(cancel_futures=True)


@dataclass(slots=True)
class _Told:
    """In one of the processes: whether it runs a function, and whether it was told to end."""

    runs: bool = False
    ends: bool = False


_told = _Told()


def _start() -> None:
    signal.signal(signal.SIGTERM, _end)
    end_with_parent()


def _end(number: int, frame: object) -> None:
    _told.ends = True
    if not _told.runs:
        # The executor takes an exception for a result, and would wait for the next call, or for a parent that is gone
        # to take what it was sent.
        os._exit(1)
    sys.exit(1)


def _run(run: Callable[..., Found], *given: Any) -> Found:
    try:
        _told.runs = True
        return run(*given)
    finally:
        _told.runs = False
        # The executor, or a library that calls Python back, may have taken SystemExit for an error of the function.
        if _told.ends:
            os._exit(1)
