"""The folder of a library: it appears whole, and nobody else's files are touched."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

from lrfdse.base.files import read_regular, write_atomically
from lrfdse.base.temporary import temporary_folder
from lrfdse.errors import InputError

MANIFEST = ".lrfdse-library.json"
"""Names, in a folder of ours, the files that lrfdse wrote there."""


def check_folder(folder: Path) -> None:
    """Refuse a folder that a library cannot be written to: before anything expensive is done for it.

    Raises
    ------
    InputError
        It is no folder, a link, one that has files and that lrfdse has not made, or one that cannot be written to.
    """
    try:
        found = folder.lstat()
    except FileNotFoundError:
        _check_writable(next(above for above in folder.absolute().parents if above.exists()), folder)
        return
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror or error}") from error
    if not stat.S_ISDIR(found.st_mode):
        raise InputError(f"{folder}: a file or a link, and no folder: name another with --output")
    if _files_of(folder) is None and any(folder.iterdir()):
        raise InputError(f"{folder}: not made by `lrfdse build`, and not empty: name another with --output")
    _check_writable(folder, folder)


def _check_writable(there: Path, folder: Path) -> None:
    """Refuse a folder that is to be written where a file cannot be made in one that is there."""
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written: {error.strerror or error}: name another with --output"
        ) from error


def write_library(folder: Path, files: Mapping[str, bytes], last: str) -> None:
    """Write the files of a library.

    A new folder appears whole. In one that lrfdse made before, each file is replaced; `last` is taken away first and
    written last, so that its presence marks a whole library. What others put there stays.

    Parameters
    ----------
    folder
        Where to write.
    files
        Name to content.
    last
        The file that is written last.

    Raises
    ------
    InputError
        The folder cannot be written, or is none of ours (see `check_folder`); a new one is not there then.
    """
    check_folder(folder)
    manifest = json.dumps({"files": sorted(files)}, indent=1) + "\n"
    known = _files_of(folder)
    try:
        if known is None:
            if not folder.is_mount():
                _appear(folder, {**files, MANIFEST: manifest.encode()})
                return
            # Nothing takes the place of a mount, such as a container's volume: it is a folder of ours from now on.
            write_atomically(folder / MANIFEST, manifest)
            known = set()
        (folder / last).unlink(missing_ok=True)
        write_atomically(folder / MANIFEST, json.dumps({"files": sorted({*files, *known})}, indent=1) + "\n")
        for name in [each for each in files if each != last] + [last]:
            write_atomically(folder / name, files[name])
        for name in known - set(files):
            (folder / name).unlink(missing_ok=True)
        write_atomically(folder / MANIFEST, manifest)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror or error}") from error


def clear_library(folder: Path) -> None:
    """Remove the files of a library that lrfdse wrote, and the folder where nothing else is in it.

    Where others put files there, it stays a folder that a library can be written to. What is none of ours, or behind a
    link, is left alone.
    """
    if folder.is_symlink() or (known := _files_of(folder)) is None:
        return
    # Where a file cannot be removed, the folder stays with it.
    with contextlib.suppress(OSError):
        for name in known:
            (folder / name).unlink(missing_ok=True)
        if [path.name for path in folder.iterdir()] == [MANIFEST]:
            (folder / MANIFEST).unlink()
            folder.rmdir()


def _appear(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(folder.parent) as beside:
        made = beside / folder.name
        made.mkdir()
        for name, content in files.items():
            write_atomically(made / name, content)
        # Over an empty folder, too; over one that got files meanwhile it is an error.
        os.rename(made, folder)


def _files_of(folder: Path) -> set[str] | None:
    """Return the files that lrfdse wrote into a folder; None where nothing says that it did."""
    try:
        found = json.loads(read_regular(folder / MANIFEST, links=False))
        names = found["files"]
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return None
    is_plain = isinstance(names, list) and all(isinstance(n, str) and n == os.path.basename(n) and n for n in names)
    return {name for name in names if name not in (".", "..")} if is_plain else None
