"""Results by content: what was computed once for a key is never computed again, on any run."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lrfdse.base.files import RegularFile, folder_below, open_regular, read_regular, write_atomically
from lrfdse.errors import InputError

T = TypeVar("T")

Arrays = dict[str, NDArray[Any]]

_UNREADABLE = (OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError, InputError)
"""What reading a value of another form raises, from a file that was damaged, or that another version wrote."""


@dataclass(frozen=True, slots=True)
class Store:
    """A folder of small JSON and NumPy files; a file that cannot be read as what was asked for counts as absent.

    Links are not followed, and what is no regular file is not waited for.
    """

    folder: Path

    def get(self, kind: str, key: str, read: Callable[[Any], T]) -> T | None:
        """Return what `read` makes of the JSON value, or None.

        Parameters
        ----------
        kind, key
            The result's name.
        read
            Makes a result of the value; what it raises on a value that is none (`ValueError`, `TypeError`, `KeyError`
            and the like) means that the result is absent.
        """
        try:
            return read(json.loads(read_regular(self._path(kind, key, "json"), links=False)))
        except _UNREADABLE:
            return None

    def put(self, kind: str, key: str, value: Any) -> None:
        """Keep a JSON value."""
        self._write(kind, key, "json", json.dumps(value).encode())

    def get_arrays(self, kind: str, key: str, read: Callable[[Arrays], T]) -> T | None:
        """Return what `read` makes of the arrays by name, or None; see `get`."""
        try:
            with open_regular(self._path(kind, key, "npz")) as file:
                _check_sizes(file)
                with np.load(file, allow_pickle=False) as stored:
                    return read({name: stored[name] for name in stored.files})
        except (*_UNREADABLE, MemoryError, zipfile.BadZipFile, EOFError, NotImplementedError):
            return None

    def put_arrays(self, kind: str, key: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep named arrays."""
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **dict(arrays))
        self._write(kind, key, "npz", buffer.getvalue())

    def _write(self, kind: str, key: str, suffix: str, content: bytes) -> None:
        write_atomically(folder_below(self.folder, kind, key[:2]) / f"{key}.{suffix}", content)

    def _path(self, kind: str, key: str, suffix: str) -> Path:
        """Return the path of a file; a link on the way to it from the store's own folder leads nowhere."""
        folder = self.folder / kind / key[:2]
        if folder.is_symlink() or folder.parent.is_symlink():
            raise OSError(f"{folder}: a link")
        return folder / f"{key}.{suffix}"


def _check_sizes(file: RegularFile) -> None:
    """Refuse an archive whose parts are larger than it is itself: ours are not compressed."""
    whole = os.fstat(file.fileno()).st_size
    with zipfile.ZipFile(file) as archive:
        if sum(part.file_size for part in archive.infolist()) > whole:
            raise ValueError("compressed")
    file.seek(0)
