"""Rows of the table and their cache: JSON lines keyed by what a row depends on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from benchmarks.records import Records

TOO_SLOW = "too slow"


@dataclass(frozen=True, slots=True)
class Row:
    """What one peer did on one case, or why there is no number."""

    us: float | None = None
    """Warm: the median of the rounds, or the modelled latency."""
    low_us: float | None = None
    high_us: float | None = None
    least_us: float | None = None
    """Least of the rounds; nothing where the number is modelled."""
    instructions: int | None = None
    """Executed in one call, where the number is modelled."""
    max_error: float | None = None
    note: str = ""
    """The schedule, or why there is no number."""


def failed(reason: str) -> Row:
    """Return the row of a peer that gave no number."""
    return Row(note=reason or "no reason given")


def too_slow(reason: str = "") -> Row:
    """Return the row of a peer that took longer than a row may."""
    return Row(note=f"{TOO_SLOW}: {reason}" if reason else TOO_SLOW)


class RowCache:
    """Rows by key; those of one key, by peer, are finished together."""

    def __init__(self, path: Path) -> None:
        self._records = Records(path)

    def get(self, key: str) -> dict[str, Row] | None:
        """Return the rows stored under a key, by peer."""
        record = self._records.get(key)
        return None if record is None else {peer: Row(**row) for peer, row in record["rows"].items()}

    def put(self, key: str, rows: dict[str, Row]) -> None:
        """Store rows."""
        self._records.put({"key": key, "rows": {peer: dataclasses.asdict(row) for peer, row in rows.items()}})


def key_of(*parts: object) -> str:
    """Return a digest of everything that a row depends on."""
    return hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).hexdigest()
