"""Counts, spectra and surrogate fronts of the design space on one core; writes results/space.md.

Each case runs in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from typing import Any

import numpy as np

from benchmarks.machine import described, machine
from benchmarks.program import apart, parser
from benchmarks.results import table, write
from lrfdse.factorize.spectra import bond_tails
from lrfdse.ir.space import SearchSpace
from lrfdse.space.count import count_designs
from lrfdse.space.front import front
from lrfdse.space.lattice import bonds, rank_bound

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
    options = parser("space", __doc__)
    options.add_argument("--case", type=int, help=argparse.SUPPRESS)
    asked = options.parse_args()
    if asked.case is not None:
        print(json.dumps(measure(asked.case)))
        return
    about, rows = machine("scipy"), []
    for case in range(len(CASES)):
        rows.append(apart("space", "--case", str(case)))
        print(rows[-1], flush=True)
    write(asked.out, "space", page_of(about, rows), {"machine": about, "cases": rows})


def page_of(about: dict[str, object], rows: list[dict[str, Any]]) -> list[str]:
    """Return the page."""
    return [
        "# Design space: counts, spectra and surrogate fronts",
        "",
        "Written by `python -m benchmarks.space`. One thread. Wall time depends on what else the machine does (its",
        "load average is below), CPU time hardly. Peak memory is that of the whole process, Python and NumPy among it.",
        "Fronts are over 2 to 4 cores, both directions, unit modes, all factor orders, 8 lanes and one row, on",
        "independent power-law spectra for every bond (singular values `i^-a`, a in 0.5..0.8; steep: 1.0..1.5),",
        "spectra given.",
        "A gap of 0 means that the front is exact. Spectra are those of a random weight.",
        "",
        described(about),
        "",
        *table(
            ["what", "layer (in→out)", "space", "wall s", "CPU s", "peak MiB", "result"],
            [
                [r["what"], f"{r['inputs']}→{r['outputs']}", r["space"]]
                + [r[name] for name in ("seconds", "cpu_seconds", "peak_mib", "result")]
                for r in rows
            ],
        ),
    ]


if __name__ == "__main__":
    main()
