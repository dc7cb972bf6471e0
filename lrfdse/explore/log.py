"""``log.jsonl``: every event of every run into one folder, one JSON object a line."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lrfdse.errors import InputError
from lrfdse.explore.events import Event, Listener


@contextmanager
def logged(path: Path, listen: Listener) -> Iterator[Listener]:
    """Yield a listener that writes each event to `path` before it hands it on."""
    try:
        file = open(path, "a", encoding="utf-8")  # noqa: SIM115 (held across the yield)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error
    with file:

        def tell(event: Event) -> None:
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
            facts = {name: value for name, value in dataclasses.asdict(event).items() if value not in (None, "")}
            try:
                file.write(json.dumps({"time": now, **facts}) + "\n")
                file.flush()
            except OSError as error:
                raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error
            listen(event)

        yield tell
