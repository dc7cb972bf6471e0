"""Files that appear whole or not at all, and folders that one process at a time writes to."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lrfdse.errors import InputError


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write `content` beside `path` and rename it into place; readers see the old file or the new one.

    Raises
    ------
    InputError
        The folder cannot be written (permissions, full disk); nothing is left behind.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Hold `folder` for one exploration; a second one is refused until the first ends, however it ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / ".lock", "w")  # noqa: SIM115 (held across the yield)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written: {error.strerror or error}; name another with --output"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(
                f"{folder}: another exploration is writing here; wait for it, or write elsewhere"
            ) from error
        yield
