"""A folder for files that are needed for a moment."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lrfdse.errors import ToolError


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder that nobody else can read, and remove it with all that is in it.

    Raises
    ------
    ToolError
        There is no place for temporary files, or it is full: what the body raises as an `OSError` counts as that.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="lrfdse-") as folder:
            yield Path(folder)
    except OSError as error:
        place = os.environ.get("TMPDIR") or "/tmp"
        reason = error.strerror or " ".join(str(error).split())
        raise ToolError(
            f"{place}: temporary files cannot be written: {reason}; name another folder by TMPDIR"
        ) from error
