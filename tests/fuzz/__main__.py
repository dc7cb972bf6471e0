"""``python -m tests.fuzz --minutes N``: damage small files of every kind and load them; findings go to the corpus."""

from __future__ import annotations

import argparse
import collections
import hashlib
import sys
import time
from pathlib import Path

from tests.fuzz.harness import Loader, mutants, signature, tally
from tests.fuzz.seeds import KINDS

CORPUS = Path(__file__).parent / "corpus"
LARGEST = 10_000
"""Bytes above which a finding is not kept."""


def main() -> int:
    """Run until the time, or the number of files of each kind, is reached; return 1 where anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--cases", type=int, default=sys.maxsize, help="files of each kind")
    parser.add_argument("--kind", choices=sorted(KINDS), action="append", help="default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--corpus", type=Path, default=CORPUS)
    options = parser.parse_args()
    end = time.monotonic() + 60 * options.minutes
    kinds = options.kind or sorted(KINDS)
    streams = {kind: mutants(kind, options.seed) for kind in kinds}
    endings: collections.Counter[tuple[str, str]] = collections.Counter()
    found: dict[str, str] = {}
    with Loader() as loader:
        for _ in range(options.cases):
            if time.monotonic() >= end:
                break
            for kind in kinds:
                content = next(streams[kind])
                ending = loader.load(kind, content)
                endings[kind, ending.kind] += 1
                if ending.is_finding and (cause := f"{kind}: {signature(ending)}") not in found:
                    found[cause] = ending.text
                    print(f"{cause}\n{ending.text}", flush=True)
                    if len(content) <= LARGEST:
                        options.corpus.mkdir(parents=True, exist_ok=True)
                        name = hashlib.sha256(content).hexdigest()[:12] + KINDS[kind][0]
                        (options.corpus / f"{kind}-{name}").write_bytes(content)
    print(tally(endings))
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
