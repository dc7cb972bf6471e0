"""Rows of the table and their cache: JSON lines keyed by what a row depends on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    """Rows by key, in a file of JSON lines to which each finished row is added at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, dict[str, Any]] = {}
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                # A line that was cut off when the run was killed is no row.
                try:
                    entry = json.loads(line)
                    self._known[entry["key"]] = entry["rows"]
                except (ValueError, KeyError, TypeError):
                    continue

    def get(self, key: str) -> dict[str, Row] | None:
        """Return the rows stored under a key, by peer."""
        known = self._known.get(key)
        return None if known is None else {peer: Row(**row) for peer, row in known.items()}

    def put(self, key: str, rows: dict[str, Row]) -> None:
        """Store rows."""
        stored = {peer: dataclasses.asdict(row) for peer, row in rows.items()}
        self._known[key] = stored
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            # The newline in front ends a line that was cut off.
            file.write("\n" + json.dumps({"key": key, "rows": stored}))


def key_of(*parts: object) -> str:
    """Return a digest of everything that a row depends on."""
    return hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).hexdigest()


def source_digest(*modules: str) -> str:
    """Return the digest of modules of this package."""
    digest = hashlib.sha256()
    for name in sorted(modules):
        digest.update(Path(__file__).with_name(f"{name}.py").read_bytes())
    return digest.hexdigest()[:16]
