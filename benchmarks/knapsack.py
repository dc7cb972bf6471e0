"""Time, memory and gap of the knapsack over many layers: writes results/knapsack.md.

The tables are synthetic, shaped like a transformer encoder's (4 square and 2 wide layers a block): power-law spectra,
designs scattered around the SVD's params, latency and error, the dense layer among them.
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
from lrfdse.search.plans.knapsack import plans
from lrfdse.search.plans.tables import Choice, LayerTable

BLOCK = ((768, 768),) * 4 + ((3072, 768), (768, 3072))
CASES = ((3, None), (6, None), (12, None), (24, None), (24, 0.3), (36, None), (36, 0.3))


def layer_table(layer: int, choices: int, rng: np.random.Generator) -> LayerTable:
    outputs, inputs = BLOCK[layer % len(BLOCK)]
    dense = outputs * inputs + outputs
    exponent = rng.uniform(0.8, 1.4)
    energy = np.arange(1, min(outputs, inputs) + 1) ** (-2 * exponent)
    tail = np.append(1 - np.cumsum(energy) / energy.sum(), 0).clip(1e-12)
    made = [Choice("dense", dense, dense / 8e3, 0.0)]
    largest = outputs * inputs // (2 * (outputs + inputs))
    for rank in np.unique(np.geomspace(2, largest, 3 * choices).astype(int)):
        params = int(rank) * (outputs + inputs)
        made.append(Choice(f"svd:r={rank}", params + outputs, params / 7e3 + 3, float(tail[rank])))
        for form in range(3):
            share = rng.uniform(0.5, 1.2)
            latency = params * share * rng.uniform(0.8, 2.5) / 7e3 + 3
            error = float(tail[rank] * rng.uniform(0.75, 1.3))
            made.append(Choice(f"tt:{rank}.{form}", int(params * share) + outputs, float(latency), error))
    front = plans([LayerTable(f"fc{layer}", tuple(made))])
    taken = np.unique(np.linspace(0, len(front) - 1, choices).round().astype(int))
    texts = {front.texts(i)[f"fc{layer}"] for i in taken} | {"dense"}
    return LayerTable(f"fc{layer}", tuple(c for c in made if c.text in texts))


def one(layers: int, max_error: float | None) -> dict[str, float | int | None]:
    rng = np.random.default_rng(0)
    tables = [layer_table(i, 40, rng) for i in range(layers)]
    start = time.process_time()
    front = plans(tables, max_error=max_error)
    return {
        "layers": layers,
        "choices": round(float(np.mean([len(t.choices) for t in tables])), 1),
        "max_error": max_error,
        "seconds": round(time.process_time() - start, 2),
        "plans": len(front),
        "gap": round(front.gap, 5),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def main() -> None:
    options = parser("knapsack", __doc__)
    options.add_argument("--case", type=int, help=argparse.SUPPRESS)
    asked = options.parse_args()
    if asked.case is not None:
        print(json.dumps(one(*CASES[asked.case])))
        return
    rows = []
    for case in range(len(CASES)):
        rows.append(apart("knapsack", "--case", str(case)))
        print(rows[-1], flush=True)
    about = machine()
    write(asked.out, "knapsack", page_of(about, rows), {"machine": about, "rows": rows})


def page_of(about: dict[str, object], rows: list[dict[str, Any]]) -> list[str]:
    """Return the page."""
    heads = ["layers", "choices a layer", "error at most", "seconds", "plans", "gap", "peak MiB"]
    return [
        "# The knapsack over many layers",
        "",
        "Written by `python -m benchmarks.knapsack`: synthetic tables, see its docstring. One core, processor time.",
        "A gap of 0 is the exact front.",
        "",
        described(about),
        "",
        *table(
            heads,
            [
                [
                    r["layers"],
                    r["choices"],
                    "any" if r["max_error"] is None else r["max_error"],
                    r["seconds"],
                    r["plans"],
                    f"{r['gap']:.2%}",
                    r["peak_mib"],
                ]
                for r in rows
            ],
        ),
    ]


if __name__ == "__main__":
    main()
