"""What a run of the fuzzer counted, as a table that later runs of other kinds add to."""

from __future__ import annotations

import collections
import datetime
import importlib.metadata
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from lrfdse.base.files import write_atomically
from tests.fuzz.harness import Ending

HEAD = """# Damaged files

Written by `python -m tests.fuzz --report results/fuzz.md`, one row a kind of file. The same files are made again by
`python -m tests.fuzz --kind KIND --cases FILES --seed SEED`. [docs/security.md](../docs/security.md#what-is-checked)
says what is damaged, what then runs, and what is a finding. Longest: CPU seconds of the one file that took most,
programs that it started included. Memory: the highest resident size of the process that loads, which holds Python,
the libraries and whatever earlier files left there.
"""
COLUMNS = (
    "kind",
    "files",
    "seed",
    "taken",
    "refused in one line",
    "findings",
    "longest, s",
    "memory, MiB",
    "date",
    "commit",
)
LIBRARIES = ("numpy", "onnx", "onnxruntime", "optuna")
FOUND = "## Found in these runs"


@dataclass
class Row:
    """What one kind of file came to."""

    kind: str
    seed: int
    endings: collections.Counter[str] = field(default_factory=collections.Counter)
    causes: list[str] = field(default_factory=list)
    """Signatures of the findings, each once."""
    longest: float = 0.0
    """CPU seconds of the file that took most."""
    memory: int = 0
    """Bytes, highest of any process that loaded."""

    def count(self, ending: Ending) -> None:
        self.endings[ending.kind] += 1
        self.longest = max(self.longest, ending.seconds)
        self.memory = max(self.memory, ending.memory)

    @property
    def cells(self) -> tuple[str, ...]:
        taken, refused = self.endings["ok"], self.endings["refused"]
        files = self.endings.total()
        numbers = (f"{files:,}", f"{self.seed}", f"{taken:,}", f"{refused:,}", f"{files - taken - refused:,}")
        return (f"`{self.kind}`", *numbers, f"{self.longest:.1f}", f"{self.memory / 2**20:,.0f}", *day_and_commit())


def table(rows: Iterable[Row]) -> list[str]:
    """Return the lines of the Markdown table."""
    return [_line(COLUMNS), _line(["---"] * len(COLUMNS)), *(_line(row.cells) for row in rows)]


def write_report(path: Path, rows: Iterable[Row]) -> None:
    """Write the rows into a report, in which those of other kinds stay."""
    earlier = path.read_text().splitlines() if path.exists() else []
    made = {row.kind: row for row in rows}

    def others(prefix: str) -> list[str]:
        lines = [line for line in earlier if line.startswith(f"{prefix}`")]
        return [line for line in lines if line.split("`")[1] not in made]

    head, rule, *new = table(made.values())
    found = [f"- `{kind}`: {cause}" for kind, row in made.items() for cause in row.causes]
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)
    lines = [
        HEAD,
        f"The last run had Python {platform.python_version()}, {versions}.",
        "",
        head,
        rule,
        *sorted((*others("| "), *new)),
        "",
        FOUND,
        "",
    ]
    write_atomically(path, "\n".join((*lines, *(sorted((*others("- "), *found)) or ["Nothing."]))) + "\n")


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def day_and_commit() -> tuple[str, str]:
    """Return the day, and the commit that is run."""
    root = Path(__file__).parents[2]
    asked = ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude", "*"]
    commit = subprocess.run(asked, check=False, capture_output=True, text=True).stdout.strip()
    return str(datetime.datetime.now(datetime.UTC).date()), commit
