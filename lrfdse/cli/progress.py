"""Progress: a bar on a terminal, timestamped lines elsewhere, or JSON lines."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING

from lrfdse.base.text import clean
from lrfdse.cli.terminal import is_terminal

if TYPE_CHECKING:
    from lrfdse.base.events import Event, Listener

_LINE_EVERY = 10.0
"""Seconds between lines of the same stage where there is no terminal."""


class LogFormat(StrEnum):
    """How progress is told on stderr."""

    TEXT = "text"
    JSON = "json"


@contextmanager
def listening(log_format: LogFormat = LogFormat.TEXT) -> Iterator[Listener]:
    """Yield a listener that shows events on stderr, and clean up after it."""
    if log_format is LogFormat.JSON:
        yield _json_lines
    elif is_terminal(sys.stderr) and not os.environ.get("NO_COLOR"):
        with _bar() as progress:
            yield progress
    else:
        yield _lines()


@contextmanager
def _bar() -> Iterator[Listener]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description:>12}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True, markup=False, emoji=False), transient=True) as progress:
        tasks: dict[str, TaskID] = {}

        def show(event: Event) -> None:
            text = clean(event.text)
            if event.stage == "note":
                progress.console.print(text, highlight=False)
                return
            if event.stage not in tasks:
                for task in tasks.values():
                    progress.update(task, visible=False)
                tasks[event.stage] = progress.add_task(event.stage, total=event.total, text=text)
            progress.update(tasks[event.stage], completed=event.done, total=event.total, text=text)

        yield show


def _json_lines(event: Event) -> None:
    from lrfdse.base.log import event_line

    sys.stderr.write(event_line(event))
    sys.stderr.flush()


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
        line = f"{now - started:7.1f}s {event.stage}{count}{left} {clean(event.text)}"
        print(line.rstrip(), file=sys.stderr, flush=True)

    first: dict[str, tuple[float, int]] = {}
    return show
