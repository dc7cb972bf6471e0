"""The folders of lrfdse: what ships with it, and what it can compute again."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from lrfdse.errors import ToolError

CACHE_VARIABLE = "LRFDSE_CACHE"
"""Environment variable that names the cache folder."""


def data_folder(name: str) -> Path:
    """Return the folder `name` ("targets", "search_spaces", "qemu") of the installed package or of the checkout."""
    package = Path(__file__).parents[1]
    installed = package / "_data" / name
    return installed if installed.is_dir() else package.parent / name


def cache_folder() -> Path:
    """Return the folder of everything that can be computed again; nothing is created.

    It is ``$LRFDSE_CACHE``, else ``$XDG_CACHE_HOME/lrfdse``, else ``~/.cache/lrfdse``. A relative ``XDG_CACHE_HOME`` is
    ignored, as the XDG Base Directory specification demands.
    """
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named).absolute()
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "lrfdse"


def private_folder(name: str, cache: Path | None = None) -> Path:
    """Return the folder `name` of the cache, for what is executed: made where it is missing, nobody else's.

    One that others may read, as earlier versions made them, becomes the user's alone.

    Parameters
    ----------
    name
        Of the folder.
    cache
        The cache; None means that of `cache_folder`.

    Raises
    ------
    ToolError
        It is a link, another user's or writable by others, or cannot be made: who can put a file there could have this
        machine run it.
    """
    folder = (cache or cache_folder()) / name
    try:
        folder.parent.mkdir(0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(0o700)
        found = folder.lstat()
    except OSError as error:
        raise ToolError(
            f"cannot write to the cache folder {folder}: {error.strerror or error}; name another with --cache"
        ) from error
    wrong = ""
    if not stat.S_ISDIR(found.st_mode):
        wrong = "a link or a file, and no folder"
    elif found.st_uid != os.geteuid():
        wrong = "another user's"
    elif found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        wrong = "writable by others"
    if wrong:
        raise ToolError(
            f"cache folder {folder}: {wrong}, so nothing in it is run: remove it, or name another with --cache"
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        folder.chmod(0o700)
    return folder


@contextlib.contextmanager
def cache_folder_at(folder: Path | None) -> Iterator[None]:
    """Have this process, and those that it starts, use another cache folder; None changes nothing."""
    before = os.environ.get(CACHE_VARIABLE)
    if folder is not None:
        os.environ[CACHE_VARIABLE] = str(folder.absolute())
    try:
        yield
    finally:
        if folder is not None:
            os.environ.pop(CACHE_VARIABLE)
            if before is not None:
                os.environ[CACHE_VARIABLE] = before
