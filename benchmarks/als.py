"""Trains fitted to outputs: speed, gain over closed forms, and the surrogate's choice; writes results/als.md.

Large layers have a weight with a power-law spectrum and rectified, correlated inputs, 1.5 samples an input. One BLAS
thread, as the tool sets it. Every large case runs in a process of its own. The surrogate's choice is compared with a
fit of every design of two cores at a ratio, on three synthetic layers and on the second layer of the LeNet example.
``--only`` takes the part that is not run from results/als.json.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.machine import described, machine
from benchmarks.numbers import spearman
from benchmarks.program import apart, parser
from benchmarks.results import TOP, page, table
from lrfdse.base.files import write_atomically
from lrfdse.factorize.als import SWEEPS
from lrfdse.factorize.fit import Fitter
from lrfdse.factorize.spectra import bond_tails, whitened_bond_tails
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.factors import Moments

if TYPE_CHECKING:
    from lrfdse.ir.factorization import Array

CASES = (
    (1024, "tt:m=32x32,n=32x32,r=32"),
    (1024, "tt:m=256x4,n=4x256,r=32"),
    (1024, "tt:m=16x8x8,n=8x8x16,r=32x32"),
    (4096, "tt:m=64x64,n=64x64,r=64"),
    (4096, "tt:m=512x8,n=8x512,r=64"),
)
SYNTHETIC = ((96, 128), (128, 120), (180, 144))
RATIOS = (4, 8, 16)


def layer(outputs: int, inputs: int, seed: int) -> tuple[Array, Moments]:
    """Return a weight and the moments of its inputs."""
    rng = np.random.default_rng(seed)
    hidden = inputs // 4
    scales = np.arange(1, hidden + 1, dtype=np.float32) ** np.float32(-0.6)
    latent = rng.standard_normal((3 * inputs // 2, hidden), dtype=np.float32) * scales
    x = latent @ rng.standard_normal((hidden, inputs), dtype=np.float32)
    x = np.maximum(x + 0.1 * rng.standard_normal(x.shape, dtype=np.float32), 0).astype(np.float64)
    moments = Moments(len(x), x.mean(axis=0), x.T @ x / len(x))
    rank = min(outputs, inputs, 512)
    u, v = (np.linalg.qr(rng.standard_normal((size, rank)))[0] for size in (outputs, inputs))
    noise = rng.standard_normal((outputs, inputs)) * 0.025 / np.sqrt(inputs)
    return (u * np.arange(1, rank + 1) ** -0.7) @ v.T + noise, moments


def timed(fitter: Fitter, design: Factorization) -> dict[str, float]:
    """Return the error and the times of a fit, with all that the fitter's first fit computes once."""
    wall, cpu = time.perf_counter(), time.process_time()
    error = fitter.fit(design).output_error
    assert error is not None
    return {
        "output_error": round(error, 4),
        "seconds": round(time.perf_counter() - wall, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
    }


def large(size: int, text: str) -> dict[str, object]:
    """Fit one design of a square layer by each method."""
    weight, moments = layer(size, size, 0)
    design = Factorization.parse(text, size, size)
    svd = Factorization.svd(size, size, design.params // (2 * size))
    row: dict[str, object] = {"size": size, "design": text, "params": design.params, "svd": str(svd)}
    for name, method, shape, sweeps in (
        ("tt_svd", "svd", design, SWEEPS),
        ("whitened_tt_svd", "svd-whitened", design, SWEEPS),
        ("als", "als", design, SWEEPS),
        ("svd", "svd", svd, SWEEPS),
        ("whitened_svd", "svd-whitened", svd, SWEEPS),
        ("als_1", "als", design, 1),
        ("als_2", "als", design, 2),
    ):
        row[name] = timed(Fitter(weight, moments, method, sweeps=sweeps), shape)
    row["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return row


def divisors(size: int) -> list[int]:
    return [k for k in range(1, size + 1) if size % k == 0]


def designs(outputs: int, inputs: int, ratio: int) -> list[Factorization]:
    """Return every design of two cores at the largest rank that the ratio allows."""
    made = []
    for m in divisors(outputs):
        for n in divisors(inputs):
            if (m, n) in ((1, 1), (outputs, inputs)) or (m, n) == (1, inputs):
                continue
            rank = outputs * inputs // ratio // (m * n + outputs * inputs // (m * n))
            if 1 <= rank <= min(m * n, outputs * inputs // (m * n)):
                made.append(Factorization((m, outputs // m), (n, inputs // n), (rank,)))
    return made


def surrogate(name: str, weight: Array, moments: Moments, ratio: int) -> dict[str, object]:
    """Compare what the spectra promise with what fits of all designs reach."""
    outputs, inputs = weight.shape
    shapes = designs(outputs, inputs, ratio)
    fitter = Fitter(weight, moments)
    reached = [fitter.fit(shape).output_error or 0.0 for shape in shapes]
    bonds: dict[tuple[int, int], int] = {}
    for shape in shapes:
        bond = (shape.out_modes[0], shape.in_modes[0])
        bonds[bond] = max(bonds.get(bond, 0), shape.ranks[0])
    row: dict[str, object] = {"layer": name, "ratio": ratio, "designs": len(shapes), "best": round(min(reached), 4)}
    row["best_design"] = str(shapes[int(np.argmin(reached))])
    for label, tails in (
        ("whitened", whitened_bond_tails(weight, moments, bonds)),
        ("weight", bond_tails(weight, bonds)),
    ):
        promised = [float(tails[s.out_modes[0], s.in_modes[0]][s.ranks[0]]) for s in shapes]
        order = np.argsort(promised, kind="stable")
        row[label] = {
            "spearman": round(spearman(promised, reached), 3),
            "regret": round(reached[order[0]] / min(reached) - 1, 4),
            "regret_of_5": round(min(reached[i] for i in order[:5]) / min(reached) - 1, 4),
        }
    return row


def lenet() -> tuple[Array, Moments]:
    """Return the second layer of the LeNet example with the moments of its inputs."""
    from lrfdse.model.data import load_data
    from lrfdse.model.graph import load_model
    from lrfdse.repair.moments import moments

    folder = TOP / "examples" / "lenet300-fashion"
    model = load_model(folder / "model.onnx")
    name = model.layers[1].name
    return model.weight(name), moments(model, load_data(folder / "calib.npz", model.inputs), [name])[name]


def surrogates() -> list[dict[str, object]]:
    """Compare the surrogate's choice on all small layers."""
    layers = [(f"synthetic {n}→{m}", *layer(m, n, seed)) for seed, (m, n) in enumerate(SYNTHETIC, 1)]
    layers.append(("LeNet 300→100", *lenet()))
    return [surrogate(name, weight, moments, ratio) for name, weight, moments in layers for ratio in RATIOS]


def main() -> None:
    options = parser("als", __doc__)
    options.add_argument("--only", choices=["large", "surrogate"], help="leave the other part as it was written before")
    options.add_argument("--child", help=argparse.SUPPRESS)
    asked = options.parse_args()
    if asked.child:
        print(json.dumps(surrogates() if asked.child == "surrogate" else large(*CASES[int(asked.child)])))
        return
    path = asked.out / "als.json"
    old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    rows, choices = old.get("large", []), old.get("surrogate", [])
    if asked.only != "surrogate":
        rows = [apart("als", "--child", str(case)) for case in range(len(CASES))]
    if asked.only != "large":
        choices = apart("als", "--child", "surrogate")
    about = machine("scipy")
    write_atomically(path, json.dumps({"machine": about, "large": rows, "surrogate": choices}, indent=1) + "\n")
    page(asked.out, "als", page_of(about, rows, choices))


def page_of(about: dict[str, object], rows: list[dict[str, Any]], choices: list[dict[str, Any]]) -> list[str]:
    """Return the page: fits of large layers, then what the spectra choose of small ones."""
    ways = ("tt_svd", "whitened_tt_svd", "als", "als_2", "als_1", "svd", "whitened_svd")
    heads = ["TT-SVD", "whitened TT-SVD", "ALS", "ALS, 2 sweeps", "ALS, 1 sweep", "SVD", "activation-aware SVD"]
    fits = [
        [
            f"{row['size']}→{row['size']} {row['design']}",
            row["params"],
            *(f"{row[way]['output_error']:.3f}, {row[way]['cpu_seconds']} s ({row[way]['seconds']} s)" for way in ways),
            row["peak_mib"],
        ]
        for row in rows
    ]
    labels = ("whitened", "weight")
    found = [
        [row["layer"], f"{row['ratio']}x", row["designs"], row["best_design"], f"{row['best']:.3f}"]
        + [
            cell
            for each in (row[label] for label in labels)
            for cell in (f"{each['spearman']:.3f}", f"{each['regret']:.1%}", f"{each['regret_of_5']:.1%}")
        ]
        for row in choices
    ]
    lines = [
        "# Trains fitted to outputs",
        "",
        "Written by `python -m benchmarks.als`; see its docstring. One BLAS thread. Errors are relative output errors",
        "on the calibration data, the mean taken out. Seconds are processor time of one fit with all that a layer's",
        "first fit computes once; in brackets, wall time on a machine shared with other work. SVD has the same",
        "parameters or fewer.",
        "",
        described(about),
        "",
        *table(["design", "params", *heads, "peak MiB"], fits),
        "",
        "## What the spectra choose, against an exhaustive fit",
        "",
        "Every design of two cores, unit modes included, at the largest rank that the ratio allows. Spearman",
        "correlation of the promised with the fitted error; regret: how far the fitted error of the design with the",
        "least promise is above the least fitted error; of 5: the same for the best of the five least promises.",
        "",
        *table(
            ["layer", "ratio", "designs", "best design", "its error"]
            + [head for label in labels for head in (f"{label}: correlation", "regret", "of 5")],
            found,
        ),
    ]
    if choices:
        best = {label: sum(row[label]["regret"] == 0 for row in choices) for label in labels}
        within = {label: sum(row[label]["regret"] <= 0.01 for row in choices) for label in labels}
        lines += [
            "",
            f"Of {len(choices)} cases the first choice of the whitened spectra is the best design in",
            f"{best['whitened']} and within 1 % of it in {within['whitened']}; that of the weight's spectra in",
            f"{best['weight']} and {within['weight']}.",
        ]
    return lines


if __name__ == "__main__":
    main()
