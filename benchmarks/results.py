"""What benchmarks write: the page ``results/NAME.md`` that git keeps, and the numbers behind it, which it does not."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from lrfdse.base.files import write_atomically

TOP = Path(__file__).resolve().parents[1]
RESULTS = TOP / "results"
RAW = RESULTS / "raw"
"""Ignored by git: numbers that only a re-run needs, and the models, data and caches of explorations."""


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return the lines of a Markdown table.

    >>> table(["layer", "us"], [["fc1", 1.5]])
    ['| layer | us |', '|---|---|', '| fc1 | 1.5 |']
    """
    first, *others = ("|" + "".join(f" {cell} |" if str(cell) else " |" for cell in row) for row in (heads, *rows))
    return [first, "|---" * len(heads) + "|", *others]


def page(out: Path, name: str, lines: Iterable[str]) -> None:
    """Write ``NAME.md``."""
    write_atomically(out / f"{name}.md", "\n".join(lines).rstrip("\n") + "\n")


def write(out: Path, name: str, lines: Iterable[str], numbers: object) -> None:
    """Write ``NAME.md``, and beside it ``raw/NAME.json``."""
    page(out, name, lines)
    raw(out, name, numbers)


def raw(out: Path, name: str, numbers: object) -> None:
    """Write ``raw/NAME.json``."""
    write_atomically(out / "raw" / f"{name}.json", json.dumps(numbers, indent=1) + "\n")
