"""``python -m tests.fuzz --minutes N``: damage small files of every kind and load them; findings go to the corpus."""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from pathlib import Path

from tests.fuzz.harness import Loader, mutants, signature
from tests.fuzz.report import Row, table, write_report
from tests.fuzz.seeds import KINDS

CORPUS = Path(__file__).parent / "corpus"
LARGEST = 10_000
"""Bytes above which a finding is not kept."""
MINUTES = 2.0
"""How long a run takes that says neither a time nor a number of files."""


def main() -> int:
    """Run until the time, or the number of files of each kind, is reached; return 1 where anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, help=f"default: {MINUTES:g}, or what --cases take")
    parser.add_argument("--cases", type=int, help="files of each kind")
    parser.add_argument("--kind", choices=sorted(KINDS), action="append", help="default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--corpus", type=Path, default=CORPUS)
    parser.add_argument("--report", type=Path, help="Markdown in which the rows of these kinds are replaced")
    options = parser.parse_args()
    minutes = options.minutes or (sys.maxsize if options.cases else MINUTES)
    end = time.monotonic() + 60 * minutes
    rows = {kind: Row(kind, options.seed) for kind in options.kind or sorted(KINDS)}
    streams = {kind: mutants(kind, options.seed) for kind in rows}
    with Loader() as loader:
        for _ in range(options.cases or sys.maxsize):
            if time.monotonic() >= end:
                break
            for kind, row in rows.items():
                content = next(streams[kind])
                ending = loader.load(kind, content)
                row.count(ending)
                if ending.is_finding and (cause := signature(ending)) not in row.causes:
                    row.causes.append(cause)
                    print(f"{kind}: {cause}\n{ending.text}", flush=True)
                    if len(content) <= LARGEST:
                        options.corpus.mkdir(parents=True, exist_ok=True)
                        name = hashlib.sha256(content).hexdigest()[:12] + KINDS[kind][0]
                        (options.corpus / f"{kind}-{name}").write_bytes(content)
    print("\n".join(table(rows.values())))
    if options.report:
        write_report(options.report, rows.values())
    return int(any(row.causes for row in rows.values()))


if __name__ == "__main__":
    sys.exit(main())
