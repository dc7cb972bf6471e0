"""Progress: a bar on a terminal, timestamped lines elsewhere, or JSON lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING

from lrfdse.base.text import clean
from lrfdse.cli.terminal import colours, is_terminal

if TYPE_CHECKING:
    from lrfdse.base.events import Event, Listener

EXPLORATION: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("compiling the original as a whole", ("original",)),
    ("reading calibration data", ("calibrate",)),
    ("looking at the layers", ("layers", "spectra")),
    ("listing factorizations", ("fronts",)),
    ("compiling and timing kernels", ("kernels",)),
    ("fitting factorizations", ("fit",)),
    ("estimating losses", ("sensitivity", "knapsack")),
    ("evaluating whole models", ("plans",)),
    ("refining the best", ("refine",)),
    ("writing designs", ("write", "predict")),
    ("compiling whole models", ("program", "operators", "library")),
    ("running on the board", ("board",)),
)
"""The stages of an exploration in plain words, each with the stages of its events."""
_OTHERS = {
    "count": "counting designs",
    "board": "running on the board",
    "predict": "counting what kernels do",
    "plans": "evaluating plans",
}
"""What other commands do, by the stage of their events."""

_LINE_EVERY = 10.0
"""Seconds between lines of the same stage where there is no terminal."""


class LogFormat(StrEnum):
    """How progress is told on stderr."""

    TEXT = "text"
    JSON = "json"


class Position:
    """Where a run is: which of its stages, in plain words.

    Parameters
    ----------
    stages
        The stages of the run, each with those of its events; none where a run has no order of stages.

    Examples
    --------
    >>> position = Position(EXPLORATION)
    >>> position.of("kernels")
    'stage 5 of 12: compiling and timing kernels'
    >>> position.of("refine"), position.of("plans")
    ('stage 9 of 12: refining the best', 'stage 9 of 12: evaluating whole models')
    """

    def __init__(self, stages: tuple[tuple[str, tuple[str, ...]], ...] = ()) -> None:
        self._count = len(stages)
        self._known = {name: (place, words) for place, (words, names) in enumerate(stages, 1) for name in names}
        self._place = 0

    def of(self, stage: str) -> str:
        """Return what stands before the counts of an event; a place that was reached is never gone back from."""
        if stage not in self._known:
            return _OTHERS.get(stage, stage)
        place, words = self._known[stage]
        self._place = max(self._place, place)
        return f"stage {self._place} of {self._count}: {words}"


@contextmanager
def listening(
    log_format: LogFormat = LogFormat.TEXT, stages: tuple[tuple[str, tuple[str, ...]], ...] = ()
) -> Iterator[Listener]:
    """Yield a listener that shows events on stderr, and clean up after it; for `stages` see `Position`."""
    if log_format is LogFormat.JSON:
        yield _json_lines
    elif is_terminal(sys.stderr):
        with _bar(Position(stages)) as progress:
            yield progress
    else:
        yield _lines(Position(stages))


@contextmanager
def _bar(position: Position) -> Iterator[Listener]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
    from rich.table import Column

    rest = Column(no_wrap=True, overflow="ellipsis", ratio=1)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}", markup=False, table_column=rest),
    )
    console = Console(stderr=True, markup=False, emoji=False, no_color=not colours(sys.stderr))
    with Progress(*columns, console=console, transient=True, expand=True) as progress:
        tasks: dict[str, TaskID] = {}

        def show(event: Event) -> None:
            text = clean(event.text)
            if event.stage == "note":
                progress.console.print(text, highlight=False)
                return
            for stage, task in tasks.items():
                if stage != event.stage:
                    progress.update(task, visible=False)
            if event.stage not in tasks:
                tasks[event.stage] = progress.add_task("", total=event.total, text=text)
            named = position.of(event.stage)
            progress.update(
                tasks[event.stage], description=named, completed=event.done, total=event.total, text=text, visible=True
            )

        yield show


def _json_lines(event: Event) -> None:
    from lrfdse.base.log import event_line

    sys.stderr.write(event_line(event))
    sys.stderr.flush()


def _lines(position: Position) -> Listener:
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
        named = "note" if event.stage == "note" else position.of(event.stage)
        line = f"{now - started:7.1f}s {named}{count}{left} {clean(event.text)}"
        print(line.rstrip(), file=sys.stderr, flush=True)

    first: dict[str, tuple[float, int]] = {}
    return show
