"""A folder for files that are needed for a moment; those of processes that were killed are removed by later ones."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from lrfdse.errors import RoomError

_PREFIX = "lrfdse-held-"
"""What the names of temporary folders begin with."""
_YOUNG = 60.0
"""Seconds for which an empty folder that nobody holds may be one that was made this moment. Chosen."""


@contextlib.contextmanager
def temporary_folder(place: Path | None = None) -> Iterator[Path]:
    """Make a folder that nobody else can read, and remove it with all that is in it.

    A process that is killed leaves its folder behind. The next one that makes a folder there removes it: whoever made a
    folder holds a lock on it, and the system lets go of it when the process, and those that it forked, are gone.

    Parameters
    ----------
    place
        Where to make it; None means the user's place for temporary files.

    Raises
    ------
    RoomError
        There is no place for temporary files, or it is full: what the body raises as an `OSError` counts as that.
    OSError
        The same of a `place` that was given.
    """
    try:
        where = str(place) if place is not None else tempfile.gettempdir()
        _remove_orphans(where)
        with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=where) as folder, _held(folder):
            yield Path(folder)
    except OSError as error:
        if place is not None:
            raise
        named = os.environ.get("TMPDIR") or "/tmp"
        reason = error.strerror or " ".join(str(error).split())
        raise RoomError(
            f"{named}: temporary files cannot be written: {reason}; name another folder by TMPDIR"
        ) from error


@contextlib.contextmanager
def _held(folder: str) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # Where a file system has no locks, nobody takes a folder for one that was left behind.
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


@functools.cache
def _remove_orphans(place: str) -> None:
    """Remove what killed processes of this user left in a place; once a process."""
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(place)):
            if entry.name.startswith(_PREFIX):
                with contextlib.suppress(OSError):
                    _remove_orphan(entry.path)


def _remove_orphan(path: str) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        found = os.fstat(handle)
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            return
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.listdir(handle) or abs(time.time() - found.st_mtime) > _YOUNG:
            shutil.rmtree(path)
    finally:
        os.close(handle)
