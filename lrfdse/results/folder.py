"""The output folder: what an exploration writes there, and whether a folder is one that it may write to."""

from __future__ import annotations

import json
import os
from pathlib import Path

from lrfdse.base.files import is_marked, read_regular
from lrfdse.base.log import last_run
from lrfdse.errors import InputError
from lrfdse.results.config import CONFIG

_WRITTEN = (
    "front.json",
    "front.csv",
    "report.html",
    CONFIG,
    "log.jsonl",
    "board.json",
    "designs",
    "artifacts",
    "study.db",
)
"""What explorations and boards write."""


def check_output(folder: Path) -> None:
    """Refuse a folder in which an exploration would follow a link, or write over what is not lrfdse's.

    A folder that holds other files, but none of a name that is written, will do: a shell may have put a run's output
    there. So will one that an earlier version wrote, or that was copied without its hidden files.

    Raises
    ------
    InputError
        The folder is not one of ours; the message names what stands in the way.
    """
    there = [name for name in (".lock", *_WRITTEN) if os.path.lexists(folder / name)]
    if links := [name for name in there if (folder / name).is_symlink()]:
        raise InputError(f"{folder / links[0]}: a symbolic link, which is not followed; choose another --output")
    written = [name for name in there if name != ".lock"]
    if written and not (is_marked(folder) or last_run(folder) is not None or _is_front(folder / "front.json")):
        raise InputError(
            f"{folder}: {written[0]} there was not written by lrfdse, and would be lost; choose another --output"
        )


def _is_front(path: Path) -> bool:
    try:
        document = json.loads(read_regular(path))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(document, dict) and type(document.get("schema_version")) is int
