"""Progress: a bar on a terminal, timestamped lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lrfdse.explore.events import Event, Listener

_LINE_EVERY = 10.0
"""Seconds between lines of the same stage where there is no terminal."""


@contextmanager
def listening() -> Iterator[Listener]:
    """Yield a listener that shows events on stderr, and clean up after it."""
    if sys.stderr.isatty() and not os.environ.get("CI"):
        with _bar() as listener:
            yield listener
    else:
        yield _lines()


@contextmanager
def _bar() -> Iterator[Listener]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description:>12}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        tasks: dict[str, TaskID] = {}

        def show(event: Event) -> None:
            if event.stage == "note":
                progress.console.print(event.text, highlight=False)
                return
            if event.stage not in tasks:
                for task in tasks.values():
                    progress.update(task, visible=False)
                tasks[event.stage] = progress.add_task(event.stage, total=event.total, text=event.text)
            progress.update(tasks[event.stage], completed=event.done, total=event.total, text=event.text)

        yield show


def _lines() -> Listener:
    started, last = time.monotonic(), dict[str, float]()

    def show(event: Event) -> None:
        now = time.monotonic()
        finished = event.done is not None and event.done == event.total
        if event.stage != "note" and not finished and now - last.get(event.stage, -_LINE_EVERY) < _LINE_EVERY:
            return
        last[event.stage] = now
        count = f" {event.done}/{event.total}" if event.total else ""
        left = ""
        if event.done and event.total and not finished and event.stage in first:
            rate = (now - first[event.stage][0]) / max(1, event.done - first[event.stage][1])
            left = f" (about {rate * (event.total - event.done):.0f} s left)"
        first.setdefault(event.stage, (now, event.done or 0))
        print(f"{now - started:7.1f}s {event.stage}{count}{left} {event.text}".rstrip(), file=sys.stderr, flush=True)

    first: dict[str, tuple[float, int]] = {}
    return show
