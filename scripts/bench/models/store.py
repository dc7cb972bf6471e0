"""Results as JSON lines: appended as they are made, so that a run that ends early loses what was under way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class Store:
    """One file of records with a "key" each; of two with one key, the later counts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._records: dict[str, dict[str, Any]] = {}
        self._asked: dict[str, None] = {}
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    record = json.loads(line)
                except ValueError:
                    # The line that was being written when a run was ended.
                    continue
                self._records[record["key"]] = record

    def ask(self, key: str) -> bool:
        """Return whether a record is known; it is one of this run's either way."""
        self._asked[key] = None
        return key in self._records

    def put(self, record: dict[str, Any]) -> None:
        """Keep a record."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        torn = self._path.is_file() and not self._path.read_bytes().endswith(b"\n")
        with self._path.open("a", encoding="utf-8") as file:
            file.write(("\n" if torn else "") + json.dumps(record) + "\n")
        self._records[record["key"]] = record

    def asked(self) -> list[dict[str, Any]]:
        """Return the records of this run, in the order in which they were asked for."""
        return [self._records[key] for key in self._asked if key in self._records]
