"""``log.jsonl``: every event of every run into one folder, one JSON object a line, and how each run ended."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import io
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

from lrfdse.base.events import Event, Listener
from lrfdse.base.files import DOCUMENT_BYTES, open_regular, sole_writer
from lrfdse.errors import DeviceError, InputError, LrfdseError

NAME = "log.jsonl"

FailureKind = Literal["input", "tool", "device", "interrupted", "crash"]


@dataclass(frozen=True, slots=True)
class LastRun:
    """How the last run into a folder ended, if it did."""

    state: Literal["started", "finished", "failed"]
    """A run that only started was killed, or is still going on."""
    kind: FailureKind | None = None
    text: str = ""
    """Why it failed."""
    model: str = ""
    target: str = ""


@contextmanager
def logged(path: Path, progress: Listener, facts: Mapping[str, str] | None = None) -> Iterator[Listener]:
    """Yield a listener that writes each event to `path` before it hands it on; a run that ends well is marked as such.

    Parameters
    ----------
    path
        The log, which is added to.
    progress
        Called with each event.
    facts
        What the run is of ("model", "target"), written at its start.
    """
    try:
        file = _opened(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error
    with file:

        def write(line: str) -> None:
            try:
                file.write(line)
                file.flush()
            except OSError as error:
                raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error

        def write_and_pass_on(event: Event) -> None:
            write(event_line(event))
            progress(event)

        write(_line({"stage": "started", **(facts or {})}))
        yield write_and_pass_on
        write(_line({"stage": "finished"}))


@contextmanager
def failures_logged(folder: Path, facts: Mapping[str, str]) -> Iterator[None]:
    """Note in the folder's log why a run failed, so that an older result beside it is not taken for the run's own.

    A folder is made for a tool or device that fails, not for a mistake in the input.
    """
    try:
        yield
    except BaseException as error:
        kind = failure_kind(error)
        if folder.is_dir() or kind in ("tool", "device"):
            line = _line({"stage": "failed", "kind": kind, "text": str(error), **facts})
            # The folder may be another exploration's, or the disk may be what failed: the error itself says more.
            with contextlib.suppress(LrfdseError, OSError), sole_writer(folder), _opened(folder / NAME) as file:
                file.write(line)
        raise


def failure_kind(error: BaseException) -> FailureKind:
    """Return what kind of failure an exception is."""
    if isinstance(error, DeviceError):
        return "device"
    if isinstance(error, InputError):
        return "input"
    if isinstance(error, LrfdseError):
        return "tool"
    return "interrupted" if isinstance(error, (KeyboardInterrupt, SystemExit)) else "crash"


def event_line(event: Event) -> str:
    """Return an event as a line of JSON: "time" (UTC), "stage", and "text", "done", "total" where there are such."""
    facts = {name: value for name, value in dataclasses.asdict(event).items() if value not in (None, "")}
    return _line(facts)


def last_run(folder: Path) -> LastRun | None:
    """Return how the last run into `folder` ended; None where its log says nothing of it."""
    try:
        with open_regular(folder / NAME, links=True) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - DOCUMENT_BYTES))
            lines = file.read(DOCUMENT_BYTES).decode(errors="replace").splitlines()
    except OSError:
        return None
    found: LastRun | None = None
    for line in lines:
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            # The process was killed while it wrote.
            continue
        stage = event.get("stage") if isinstance(event, dict) else None
        if stage in ("started", "finished", "failed"):
            model, target = str(event.get("model", "")), str(event.get("target", ""))
            kind = event.get("kind") if event.get("kind") in FailureKind.__args__ else None  # type: ignore[attr-defined]
            found = LastRun(stage, kind, str(event.get("text", "")), model, target)
    return found


def _opened(path: Path) -> TextIO:
    """Open a log to add to it."""
    return io.TextIOWrapper(open_regular(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), encoding="utf-8")


def _line(facts: Mapping[str, Any]) -> str:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    return json.dumps({"time": now, **facts}) + "\n"
