"""Trains fitted to outputs: speed, gain over closed forms, and the surrogate's choice: writes results/als.{json,md}.

Large layers have a weight with a power-law spectrum and rectified, correlated inputs, 1.5 samples an input. One BLAS
thread, as the tool sets it. Every large case runs in a process of its own. The surrogate's choice is compared with a
fit of every design of two cores at a ratio, on three synthetic layers and on the second layer of the LeNet example.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from machine import described, machine

from lrfdse.design import Factorization, Moments
from lrfdse.factorize import Fitter
from lrfdse.factorize.spectra import bond_tails, whitened_bond_tails

if TYPE_CHECKING:
    from lrfdse.design import Array

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "results"
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


def timed(work: Callable[[], float]) -> tuple[float, float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    return found, time.perf_counter() - wall, time.process_time() - cpu


def large(size: int, text: str) -> dict[str, object]:
    """Fit one design of a square layer by each method."""
    weight, moments = layer(size, size, 0)
    design = Factorization.parse(text, size, size)
    svd = Factorization.svd(size, size, design.params // (2 * size))
    row: dict[str, object] = {"size": size, "design": text, "params": design.params, "svd": str(svd)}
    for name, method, shape in (
        ("tt_svd", "svd", design),
        ("whitened_tt_svd", "svd-whitened", design),
        ("als", "als", design),
        ("svd", "svd", svd),
        ("whitened_svd", "svd-whitened", svd),
    ):
        fitter = Fitter(weight, moments, method)
        error, wall, cpu = timed(lambda f=fitter, s=shape: f.fit(s).output_error)  # type: ignore[misc]
        row[name] = {"output_error": round(error, 4), "seconds": round(wall, 1), "cpu_seconds": round(cpu, 1)}
    for sweeps in (1, 2):
        fitter = Fitter(weight, moments, "als", sweeps=sweeps)
        error, wall, cpu = timed(lambda f=fitter: f.fit(design).output_error)  # type: ignore[misc]
        row[f"als_{sweeps}"] = {
            "output_error": round(error, 4),
            "seconds": round(wall, 1),
            "cpu_seconds": round(cpu, 1),
        }
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


def spearman(first: list[float], second: list[float]) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(first, second).statistic)


def surrogate(name: str, weight: Array, moments: Moments, ratio: int) -> dict[str, object]:
    """Compare what the spectra promise with what fits of all designs reach."""
    shapes = designs(*weight.shape, ratio)
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
    from lrfdse.model import load_data, load_model, moments

    folder = ROOT / "examples" / "lenet300-fashion"
    model = load_model(folder / "model.onnx")
    name = model.layers[1].name
    return model.weight(name), moments(model, load_data(folder / "calib.npz", model.inputs), [name])[name]


def surrogates() -> list[dict[str, object]]:
    """Compare the surrogate's choice on all small layers."""
    layers = [(f"synthetic {n}→{m}", *layer(m, n, seed)) for seed, (m, n) in enumerate(SYNTHETIC, 1)]
    layers.append(("LeNet 300→100", *lenet()))
    return [surrogate(name, weight, moments, ratio) for name, weight, moments in layers for ratio in RATIOS]


def apart(*arguments: str) -> object:
    """Run this script with one BLAS thread and return what it prints."""
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | one)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=["large", "surrogate"], help="leave the other part as it was written before")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(surrogates() if arguments.child == "surrogate" else large(*CASES[int(arguments.child)])))
        return
    path = RESULTS / "als.json"
    old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    rows, choices = old.get("large", []), old.get("surrogate", [])
    if arguments.only != "surrogate":
        rows = [apart("--child", str(case)) for case in range(len(CASES))]
    if arguments.only != "large":
        choices = apart("--child", "surrogate")
    write(path, machine("scipy"), rows, choices)


def write(path: Path, about: dict[str, object], rows: list, choices: list) -> None:  # type: ignore[type-arg]
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"machine": about, "large": rows, "surrogate": choices}, indent=1) + "\n")
    lines = [
        "# Trains fitted to outputs",
        "",
        "Written by `scripts/bench/als.py`; see its docstring. One BLAS thread. Errors are relative output errors on",
        "the calibration data, the mean taken out. Seconds are processor time of one fit with all that a layer's first",
        "fit computes once; in brackets, wall time on a machine shared with other work. SVD has the same parameters or",
        "fewer.",
        "",
        described(about),
        "",
        "| design | params | TT-SVD | whitened TT-SVD | ALS | ALS, 2 sweeps | ALS, 1 sweep | SVD "
        "| activation-aware SVD | peak MiB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [
            f"{row[name]['output_error']:.3f}, {row[name]['cpu_seconds']} s ({row[name]['seconds']} s)"
            for name in ("tt_svd", "whitened_tt_svd", "als", "als_2", "als_1", "svd", "whitened_svd")
        ]
        cells = [row["design"], f"{row['params']}", *cells, f"{row['peak_mib']}"]
        lines.append(f"| {row['size']}→{row['size']} {' | '.join(cells)} |")
    lines += [
        "",
        "## What the spectra choose, against an exhaustive fit",
        "",
        "Every design of two cores, unit modes included, at the largest rank that the ratio allows. Spearman",
        "correlation of the promised with the fitted error; regret: how far the fitted error of the design with the",
        "least promise is above the least fitted error; of 5: the same for the best of the five least promises.",
        "",
        "| layer | ratio | designs | best design | its error | whitened: correlation | regret | of 5 "
        "| weight: correlation | regret | of 5 |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in choices:
        cells = [
            f"{row[label]['spearman']:.3f} | {row[label]['regret']:.1%} | {row[label]['regret_of_5']:.1%}"
            for label in ("whitened", "weight")
        ]
        lines.append(
            f"| {row['layer']} | {row['ratio']}x | {row['designs']} | {row['best_design']} | {row['best']:.3f} "
            f"| {' | '.join(cells)} |"
        )
    if choices:
        best = {label: sum(row[label]["regret"] == 0 for row in choices) for label in ("whitened", "weight")}
        within = {label: sum(row[label]["regret"] <= 0.01 for row in choices) for label in best}
        lines += [
            "",
            f"Of {len(choices)} cases the first choice of the whitened spectra is the best design in",
            f"{best['whitened']} and within 1 % of it in {within['whitened']}; that of the weight's spectra in",
            f"{best['weight']} and {within['weight']}.",
        ]
    path.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
