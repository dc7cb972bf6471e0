"""Measure counts, spectra and surrogate fronts of the design space on one core; writes results/space.md and .json.

Run from the repository: ``python scripts/bench/space.py``. Each case runs in a process of its own, so that its peak
memory is its own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from machine import described, machine

from lrfdse.design import SearchSpace
from lrfdse.factorize.spectra import bond_tails
from lrfdse.space import bonds, count_designs, front, rank_bound

LANES = 8
REFERENCE = SearchSpace(unit_modes=False, directions=("rl",), dense_ranks_to=0, rank_step=1, lane_ranks=True)
DEFAULT = SearchSpace()
EIGHTS = SearchSpace(dense_ranks_to=0)

CASES: list[tuple[str, str, int, int, str]] = [
    ("counts", "d = 2..4, no unit modes, right to left, r % 8", 300, 784, "reference"),
    ("counts", "d = 2..4, no unit modes, right to left, r % 8", 1024, 1024, "reference"),
    ("counts", "default space", 300, 784, "default"),
    ("counts", "default space", 1024, 1024, "default"),
    ("spectra", "default space", 300, 784, "default"),
    ("spectra", "default space", 1024, 1024, "default"),
    ("front", "default space", 300, 784, "default"),
    ("front", "default space", 1024, 1024, "default"),
    ("front", "default space", 4096, 4096, "default"),
    ("front", "ranks % 8", 4096, 4096, "eights"),
    ("front", "ranks % 8", 4096, 25088, "eights"),
    ("front, steep spectra", "default space", 300, 784, "default"),
    ("front, steep spectra", "ranks % 8", 4096, 4096, "eights"),
    ("front, steep spectra", "ranks % 8", 4096, 25088, "eights"),
]
SPACES = {"reference": REFERENCE, "default": DEFAULT, "eights": EIGHTS}


def power_law(
    outputs: int, inputs: int, space: SearchSpace, decay: float, spread: float
) -> dict[tuple[int, int], np.ndarray]:
    """Return tails of singular values ``i ** -a``, with `a` drawn for each bond from `decay` on over `spread`."""
    rng = np.random.default_rng(0)
    tails = {}
    for bond, rank in bonds(outputs, inputs, space).items():
        squared = np.arange(1, rank_bound(outputs, inputs, bond) + 1) ** (-2 * (decay + spread * rng.random()))
        tails[bond] = (np.append(np.cumsum(squared[::-1])[::-1], 0.0) / squared.sum())[: rank + 1]
    return tails


def measure(index: int) -> dict[str, object]:
    what, rule, outputs, inputs, name = CASES[index]
    space = SPACES[name]
    result = ""
    if what == "counts":
        start, cpu = time.perf_counter(), time.process_time()
        funnel = count_designs(outputs, inputs, space, LANES)
        result = ", ".join(f"{count} {stage}" for stage, count in funnel.stages)
    elif what == "spectra":
        weight = np.random.default_rng(0).standard_normal((outputs, inputs))
        start, cpu = time.perf_counter(), time.process_time()
        result = f"{len(bond_tails(weight, bonds(outputs, inputs, space), 0))} bonds"
    else:
        tails = power_law(outputs, inputs, space, *((1.0, 0.5) if "steep" in what else (0.5, 0.3)))
        start, cpu = time.perf_counter(), time.process_time()
        found, funnel = front(outputs, inputs, 1, LANES, space, tails)
        result = f"{len(found)} designs, gap {funnel.gap:g}"
    return {
        "what": what,
        "outputs": outputs,
        "inputs": inputs,
        "space": rule,
        "seconds": round(time.perf_counter() - start, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "result": result,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", type=int, help="measure one case and print it as JSON")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[2] / "results")
    options = parser.parse_args()
    if options.case is not None:
        print(json.dumps(measure(options.case)))
        return
    threads = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    about, rows = machine("scipy"), []
    for index in range(len(CASES)):
        command = [sys.executable, __file__, "--case", str(index)]
        done = subprocess.run(command, env=os.environ | threads, check=True, capture_output=True, text=True)
        rows.append(json.loads(done.stdout))
        print(done.stdout.strip(), flush=True)
    options.out.mkdir(exist_ok=True)
    (options.out / "space.json").write_text(json.dumps({"machine": about, "cases": rows}, indent=1) + "\n")
    lines = [
        "# Design space: counts, spectra and surrogate fronts",
        "",
        "Written by `scripts/bench/space.py`. One thread. Wall time depends on what else the machine does (its load",
        "average is below), CPU time hardly. Peak memory is that of the whole process, Python and NumPy among it.",
        "Fronts are over 2 to 4 cores, both directions, unit modes, all factor orders, 8 lanes and one row, on",
        "independent power-law spectra for every bond (singular values `i^-a`, a in 0.5..0.8; steep: 1.0..1.5),",
        "spectra given.",
        "A gap of 0 means that the front is exact. Spectra are those of a random weight.",
        "",
        described(about),
        "",
        "| what | layer (in→out) | space | wall s | CPU s | peak MiB | result |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['what']} | {r['inputs']}→{r['outputs']} | {r['space']} | {r['seconds']} | {r['cpu_seconds']} "
        f"| {r['peak_mib']} | {r['result']} |"
        for r in rows
    ]
    (options.out / "space.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
