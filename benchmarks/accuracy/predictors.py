"""Sections on what predicts the loss: effective ranks, error proxies, the surrogate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.accuracy.probe import PROXIES
from benchmarks.numbers import spearman
from benchmarks.records import Record
from benchmarks.results import table

FEWEST = 4
"""Layers from which on a rank correlation is worth printing."""


def predictors(records: Mapping[str, list[Record]]) -> list[str]:
    """Return the lines of all three sections; those without records are left out."""
    return [*_alone(records["alone"]), *_proxies(records["proxies"]), *_surrogate(records["surrogate"])]


def _alone(records: Sequence[Record]) -> list[str]:
    """Tell how well each quantity orders layers by what the model loses when only they are compressed."""
    points: dict[str, dict[float, list[tuple[dict[str, float], float]]]] = {}
    for record in records:
        for each in record["measured"]:
            known = {f"effective rank of {name}": rank for name, rank in record["effective_ranks"].items()}
            known |= {"weight error": each["weight_error"], "output error": each["output_error"]}
            known["estimated loss"] = float("nan") if each["loss"] is None else each["loss"]
            for group in (record["model"], "all models"):
                points.setdefault(group, {}).setdefault(each["ratio"], []).append((known, each["deviation"]))
    rows = []
    for group, ratios in points.items():
        for ratio, found in sorted(ratios.items()):
            if len(found) >= FEWEST:
                losses = [loss for _, loss in found]
                cells = [spearman([known[name] for known, _ in found], losses) for name in found[0][0]]
                rows.append([group, f"{ratio:g}x", len(found), *("-" if c != c else f"{c:+.2f}" for c in cells)])
    if not rows:
        return []
    names = list(next(iter(next(iter(points.values())).values()))[0][0])
    return [
        "## What predicts the loss of one layer",
        "",
        "Each layer alone is compressed by activation-aware SVD; the loss is the squared deviation of the model's",
        "outputs on validation data, relative to their variance. Spearman's correlation of that loss with what was",
        "known before running the model, over layers and seeds. Effective ranks are divided by the smaller side",
        "(normalized); of *outputs*: of the weight times a root of the inputs' covariance. *Estimated loss* is the",
        "second-order estimate, where the model's derivatives are within reach.",
        "",
        *table(["model", "ratio", "layers x seeds", *names], rows),
        "",
    ]


def _proxies(records: Sequence[Record]) -> list[str]:
    if not records:
        return []
    scores: dict[tuple[str, float], dict[str, list[float]]] = {}
    for record in records:
        for each in record["results"]:
            row = scores.setdefault((record["model"], each["ratio"]), {})
            row.setdefault(each["proxy"], []).append(each["scores"]["test"])
    lines = [
        "## Which error an allocation should sum",
        "",
        "Test score (mean over seeds) of the plan that the knapsack chooses by each proxy from the same options a",
        "layer, factors fitted to outputs, not corrected. *Loss* is that of `--proxy loss`: divergences of outputs at",
        "a few options of one layer alone, on calibration data. Fidelity and score are measured for every option, on",
        "validation data.",
        "",
    ]
    rows = []
    wins = dict.fromkeys(PROXIES, 0)
    for (model, ratio), row in scores.items():
        means = {proxy: float(np.mean(row[proxy])) if proxy in row else float("nan") for proxy in PROXIES}
        best = max(value for value in means.values() if value == value)
        for proxy, value in means.items():
            wins[proxy] += value >= best - 0.005
        rows.append([model, f"{ratio:g}x", *("-" if value != value else f"{value:.2f}" for value in means.values())])
    lines += [
        *table(["model", "ratio", *PROXIES], rows),
        "",
        "Best in so many rows (ties count for all): " + ", ".join(f"{p} {n}" for p, n in wins.items()) + ".",
        "",
    ]
    return lines


def _surrogate(records: Sequence[Record]) -> list[str]:
    if not records:
        return []
    lines = [
        "## How good the surrogate's choice is",
        "",
        "All trains of two cores within the ratio, each fitted: how far the error of the surrogate's first, and of the",
        "best of its first three and five, lies above the least. The error is the root of the estimated loss; where",
        "there is none, the relative output error.",
        "",
    ]
    heads = ["model", "seed", "layer", "ratio", "shapes", "least error", "first", "best of three", "best of five"]
    rows = [
        [r["model"], r["seed"], r["layer"], f"{each['ratio']:g}x", each["shapes"], f"{each['best']:.4f}"]
        + [f"+{each[share]:.1%}" for share in ("first", "first_three", "first_five")]
        for r in records
        for each in r["results"]
    ]
    return [*lines, *table(heads, rows), ""]
