"""Results by content: what was computed once for a key is never computed again, on any run."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrfdse.base.files import write_atomically


@dataclass(frozen=True, slots=True)
class Store:
    """A folder of small JSON and NumPy files; a file that cannot be read counts as absent."""

    folder: Path

    def get(self, kind: str, key: str) -> Any | None:
        """Return the JSON value, or None."""
        try:
            return json.loads(self._path(kind, key, "json").read_text())
        except (OSError, ValueError):
            return None

    def put(self, kind: str, key: str, value: Any) -> None:
        """Keep a JSON value."""
        write_atomically(self._path(kind, key, "json"), json.dumps(value))

    def get_arrays(self, kind: str, key: str) -> dict[str, NDArray[Any]] | None:
        """Return the arrays, or None."""
        try:
            with np.load(self._path(kind, key, "npz"), allow_pickle=False) as stored:
                return {name: stored[name] for name in stored.files}
        except (OSError, ValueError, zipfile.BadZipFile):
            return None

    def put_arrays(self, kind: str, key: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep named arrays."""
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **dict(arrays))
        write_atomically(self._path(kind, key, "npz"), buffer.getvalue())

    def _path(self, kind: str, key: str, suffix: str) -> Path:
        return self.folder / kind / key[:2] / f"{key}.{suffix}"
