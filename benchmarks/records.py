"""Finished work as JSON lines: appended as it is made, so that a run that ends early loses what was under way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Record = dict[str, Any]


class Records:
    """One file of records with a "key" each; of two with one key, the later counts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._records: dict[str, Record] = {}
        self._asked: dict[str, None] = {}
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                # A line that was being written when a run was ended is no record.
                try:
                    self._keep(json.loads(line))
                except (ValueError, KeyError, TypeError):
                    continue

    def ask(self, key: str) -> bool:
        """Return whether a record is known; it is one of this run's either way."""
        self._asked[key] = None
        return key in self._records

    def get(self, key: str) -> Record | None:
        """Return the record of a key, or None where there is none."""
        return self._records.get(key)

    def last(self, field: str, value: object) -> Record | None:
        """Return the record that was put last of those whose `field` is `value`, or None where there is none."""
        return next((each for each in reversed(self._records.values()) if each.get(field) == value), None)

    def put(self, record: Record) -> None:
        """Keep a record."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            # The newline in front ends a line that was cut off.
            file.write("\n" + json.dumps(record))
        self._keep(record)

    def _keep(self, record: Record) -> None:
        # One that is replaced is the last one, too.
        self._records.pop(record["key"], None)
        self._records[record["key"]] = record

    def asked(self) -> list[Record]:
        """Return the records of this run, in the order in which they were asked for."""
        return [self._records[key] for key in self._asked if key in self._records]
