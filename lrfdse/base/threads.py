"""How many threads linear algebra uses: one a call, so that results do not depend on the number of cores.

Several such calls may run side by side, each in a thread of its own (`in_threads`).
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

BLAS_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables that libraries read once, when they are loaded."""


def use_one_thread() -> None:
    """Set one thread for what this process loads from now on, and for its children; a number that is set stays."""
    for variable in BLAS_VARIABLES:
        os.environ.setdefault(variable, "1")


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Set one thread for every process that is started inside; a number that is set stays."""
    missing = [variable for variable in BLAS_VARIABLES if variable not in os.environ]
    use_one_thread()
    try:
        yield
    finally:
        for variable in missing:
            os.environ.pop(variable, None)


def ahead(run: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """Yield ``run(item)`` of every item in their order, made in one other thread as long as the caller is busy.

    What is made is the same as without: one thread makes all, one after another. For errors and whoever stops
    listening see `in_threads`.

    >>> list(ahead(lambda n: n * n, range(3)))
    [0, 1, 4]
    """
    waiting: queue.SimpleQueue[tuple[R | None, BaseException | None]] = queue.SimpleQueue()
    over = threading.Event()

    def work() -> None:
        for item in items:
            if over.is_set():
                return
            try:
                waiting.put((run(item), None))
            except BaseException as error:
                waiting.put((None, error))
                return

    threading.Thread(target=work, daemon=True).start()
    try:
        for _ in items:
            found, error = waiting.get()
            if error is not None:
                raise error
            yield found  # type: ignore[misc]
    finally:
        over.set()


def in_threads(run: Callable[[T], R], items: Sequence[T], threads: int) -> Iterator[R]:
    """Yield ``run(item)`` of every item in their order, up to `threads` of them made at once.

    Linear algebra and onnxruntime leave the interpreter to others while they compute, and threads share what is large.
    Whoever stops listening, or gets an error, waits for nobody: items that nobody has begun are left out, and threads
    that are at work end with the process.

    Parameters
    ----------
    run
        What makes a result of an item, in whatever thread; the first error in the order of the items is raised.
    items
        The items.
    threads
        Threads at most; one makes each result when it is asked for, in the caller's own.

    >>> list(in_threads(lambda n: n * n, range(5), 2))
    [0, 1, 4, 9, 16]
    """
    if min(threads, len(items)) <= 1:
        yield from map(run, items)
        return
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for place in range(len(items)):
        waiting.put(place)
    made: list[queue.SimpleQueue[tuple[R | None, BaseException | None]]] = [queue.SimpleQueue() for _ in items]
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            try:
                place = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                made[place].put((run(items[place]), None))
            except BaseException as error:
                made[place].put((None, error))

    for _ in range(min(threads, len(items))):
        threading.Thread(target=work, daemon=True).start()
    try:
        for each in made:
            found, error = each.get()
            if error is not None:
                raise error
            yield found  # type: ignore[misc]
    finally:
        over.set()
