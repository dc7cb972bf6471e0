"""Progress: a bar on a terminal, timestamped lines elsewhere, or JSON lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING

from lrfdse.base.text import clean
from lrfdse.cli.pace import Pace, left_text
from lrfdse.cli.terminal import colours, is_terminal

if TYPE_CHECKING:
    from lrfdse.base.events import Event, Listener
    from lrfdse.results.settings import Settings

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
"""The stages of an exploration in plain words, each with the stages of its events; the last on a board alone."""
_AFTER = (("training factors", ("heal",)), ("timing whole models", ("runtime",)))
"""What an exploration does in the end where it is asked to."""
_OTHERS = {
    "count": "counting designs",
    "heal": "training factors",
    "board": "running on the board",
    "predict": "counting what kernels do",
    "plans": "evaluating plans",
    "runtime": "timing whole models",
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


def stages_of(settings: Settings) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return the stages that an exploration has by its settings, for `Position`."""
    asked = (settings.heal, settings.runtime is not None)
    after = tuple(stage for stage, is_asked in zip(_AFTER, asked, strict=True) if is_asked)
    return (EXPLORATION if settings.runner is not None else EXPLORATION[:-1]) + after


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
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
    from rich.table import Column

    rest = Column(no_wrap=True, overflow="ellipsis", ratio=1)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        TextColumn("{task.fields[left]}", markup=False),
        TextColumn("{task.fields[text]}", markup=False, table_column=rest),
    )
    console = Console(stderr=True, markup=False, emoji=False, no_color=not colours(sys.stderr))
    with Progress(*columns, console=console, transient=True, expand=True) as progress:
        tasks: dict[str, TaskID] = {}
        paces: dict[str, Pace] = {}

        def show(event: Event) -> None:
            text = clean(event.text)
            if event.stage == "note":
                progress.console.print(text, highlight=False)
                return
            for stage, other in tasks.items():
                if stage != event.stage:
                    progress.update(other, visible=False)
            if event.stage not in tasks:
                tasks[event.stage] = progress.add_task("", total=event.total, text=text, left="")
            left = _left(paces, event)
            named = position.of(event.stage)
            task = tasks[event.stage]
            progress.update(task, description=named, text=text, left=left, visible=True)
            progress.update(task, completed=event.done, total=event.total)

        yield show


def _json_lines(event: Event) -> None:
    from lrfdse.base.log import event_line

    sys.stderr.write(event_line(event))
    sys.stderr.flush()


def _lines(position: Position) -> Listener:
    started, last, paces = time.monotonic(), dict[str, float](), dict[str, Pace]()

    def show(event: Event) -> None:
        now, left = time.monotonic(), _left(paces, event)
        finished = event.done is not None and event.done == event.total
        if event.stage != "note" and not finished and now - last.get(event.stage, -_LINE_EVERY) < _LINE_EVERY:
            return
        last[event.stage] = now
        count = f" {event.done}/{event.total}" if event.total else ""
        named = "note" if event.stage == "note" else position.of(event.stage)
        line = f"{now - started:7.1f}s {named}{count}{f' ({left})' if left else ''} {clean(event.text)}"
        print(line.rstrip(), file=sys.stderr, flush=True)

    return show


def _left(paces: dict[str, Pace], event: Event) -> str:
    """Take an event into the pace of its stage, and return what is left; empty at the end, and where unknown."""
    if event.done is None or not event.total:
        return ""
    pace = paces.setdefault(event.stage, Pace())
    pace.saw(time.monotonic(), event.done)
    return "" if event.done >= event.total else left_text(pace.left(event.total))
