"""Making the rows of one model and seed, in a process of its own."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.accuracy.cases import open_case
from benchmarks.accuracy.columns import Row, Runs, make_rows
from benchmarks.accuracy.compress import Compressor
from benchmarks.accuracy.probe import alone, proxies, surrogate
from benchmarks.records import Record, Records
from lrfdse.base.store import Store


@dataclass(frozen=True, slots=True)
class Done:
    """What is known of one model and seed."""

    name: str
    seed: int
    rows: list[Row]
    records: dict[str, Record]
    """By key, what was probed."""
    seconds: float
    """Processor time of this run."""


def run_unit(name: str, seed: int, trained: Path, cache: Path, runs: Runs, quick: bool, first: bool) -> Done:
    """Make every missing row of one model and seed, and return all of them."""
    start = time.process_time()
    case = open_case(name, seed, trained)
    known = Records(cache / "accuracy" / f"{name}-{seed}{'-quick' if quick else ''}.jsonl")
    kept = Store(cache)
    for row in make_rows(case, runs, kept, known.ask):
        print(f"{name}-{seed} {row.ratio:g}x {row.title}: {row.scores} ({row.seconds:.1f} s)", flush=True)
        known.put({"kind": "row", **row.to_json()})
    families = tuple(family for family in runs.families if family != "any")
    compressor = Compressor(case, kept, False, runs.candidates, runs.grid, families)
    probes = [
        alone(compressor, runs, known.ask),
        proxies(compressor, runs, known.ask),
        surrogate(compressor, known.ask),
    ]
    for probe in probes if runs.probe_all or first else []:
        for record in probe:
            known.put(record)
    asked = known.asked()
    rows = [Row(**{k: v for k, v in record.items() if k != "kind"}) for record in asked if record["kind"] == "row"]
    records = {record["key"]: record for record in asked if record["kind"] != "row"}
    return Done(name, seed, rows, records, time.process_time() - start)
