"""The tables of results/meter.md about the machine at hand, and the numbers behind it."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.meter.cases import STREAMING, name_of
from benchmarks.meter.compare import Row, by_layer, errors, rank_correlation, regret
from benchmarks.meter.machine_target import Hierarchy
from benchmarks.meter.predict import COLD, KINDS, MEMORY_RULES, WARM, Rules
from benchmarks.results import table

GOAL_RANK = 0.85
GOAL_ERROR = 0.25
_WORST = 15
_STREAMING = {name_of(size) for size in STREAMING}


def summary(rows: Sequence[Row], hierarchy: Hierarchy) -> list[str]:
    """Return the goals beside what was reached, and the noise floor beside both."""
    ranks, noise = layer_ranks(rows, hierarchy), noise_ranks(rows)
    found = errors(*_pairs(rows, hierarchy))
    floor = np.abs(np.array([row.native.again / row.native.warm for row in rows]) - 1)
    best = [regret(*_pairs(group, hierarchy)) for group in by_layer(rows).values()]
    return table(
        ["what", "goal", "reached", "the same binary timed twice"],
        [
            [
                f"Spearman of cycles per FLOP over a layer's variants, median over {len(ranks)} layers",
                f">= {GOAL_RANK}",
                f"**{np.median(list(ranks.values())):.3f}**",
                f"{np.median(list(noise.values())):.3f}",
            ],
            ["the same, worst layer", "", f"{min(ranks.values()):.3f}", f"{min(noise.values()):.3f}"],
            [
                f"median absolute error after one scale factor ({found.scale:.3f})",
                f"<= {GOAL_ERROR:.0%}",
                f"**{found.median:.1%}**",
                f"{np.median(floor):.2%}",
            ],
            ["90 % of kernels are within", "", f"{found.ninth:.1%}", f"{np.quantile(floor, 0.9):.2%}"],
            ["median absolute error without a scale factor", "", f"{found.unscaled:.1%}", ""],
            ["predicted over measured, 5 % and 95 % quantile", "", f"{found.low:.2f}, {found.high:.2f}", ""],
            [
                "the kernel that the model takes for a layer's fastest is slower than the fastest by: "
                "median, mean, most",
                "",
                f"{np.median(best):.1%}, {np.mean(best):.1%}, {max(best):.1%}",
                "",
            ],
        ],
    )


def layer_ranks(rows: Sequence[Row], hierarchy: Hierarchy, chosen: Rules = WARM) -> dict[str, float]:
    """Return each layer's rank correlation between modelled and measured cycles, streaming layers left out."""
    return {
        layer: rank_correlation(*_pairs(group, hierarchy, chosen))
        for layer, group in by_layer(rows).items()
        if layer not in _STREAMING
    }


def noise_ranks(rows: Sequence[Row]) -> dict[str, float]:
    """Return each layer's rank correlation between the two times of the same binaries."""
    return {
        layer: rank_correlation([row.native.warm for row in group], [row.native.again for row in group])
        for layer, group in by_layer(rows).items()
        if layer not in _STREAMING
    }


def layers(rows: Sequence[Row], hierarchy: Hierarchy) -> list[str]:
    """Return one line a layer."""
    heads = ["layer", "variants", "slowest / fastest", "Spearman", "noise floor"]
    heads += ["predicted / measured (least, most)", "fastest found within"]
    found = []
    for layer, group in by_layer(rows).items():
        predicted, measured = _pairs(group, hierarchy)
        again = [row.native.again for row in group]
        ratio = np.array(predicted) / np.array(measured)
        streaming = layer in _STREAMING
        rank = "(streams)" if streaming else f"{rank_correlation(predicted, measured):.3f}"
        found.append(
            [
                layer,
                len(group),
                f"{max(measured) / min(measured):.1f}",
                rank,
                f"{rank_correlation(measured, again):.3f}",
                f"{np.median(ratio):.2f} ({min(ratio):.2f}, {max(ratio):.2f})",
                f"{regret(predicted, measured):.1%}",
            ]
        )
    return table(heads, found)


def kinds(rows: Sequence[Row], hierarchy: Hierarchy) -> list[str]:
    """Return the ratios by what limits a kernel."""
    heads = ["limited by", "kernels", "predicted / measured: 10 %, median, 90 %", "median error"]
    heads += ["run by run: median", "worst / best stack: median, most"]
    found = []
    for kind, text in KINDS.items():
        group = [row for row in rows if row.prediction.kind == kind]
        if not group:
            continue
        predicted, measured = _pairs(group, hierarchy)
        ratio = np.array(predicted) / np.array(measured)
        before = np.array([row.prediction.run_by_run / row.native.warm for row in group])
        low, middle, high = np.quantile(ratio, [0.1, 0.5, 0.9])
        alone = "" if kind == "memory" else f"{np.median(before):.2f}"
        stacks = [row.native.stack for row in group]
        found.append(
            [
                f"{kind}: {text}",
                len(group),
                f"{low:.2f}, {middle:.2f}, {high:.2f}",
                f"{np.median(np.abs(ratio - 1)):.1%}",
                alone,
                f"{np.median(stacks):.2f}, {max(stacks):.2f}",
            ]
        )
    return table(heads, found)


def rules(rows: Sequence[Row], hierarchy: Hierarchy) -> list[str]:
    """Return the memory rules beside each other."""
    heads = ["calls", "rule", "waits for", "scale", "median error", "90 % within", "Spearman, median over layers"]
    found = []
    for base, patient, memory_rule in itertools.product((WARM, COLD), (False, True), MEMORY_RULES):
        chosen = replace(base, patient=patient, memory=memory_rule)
        waits = "every miss" if patient else "DRAM, once a window"
        best = [regret(*_pairs(group, hierarchy, chosen)) for group in by_layer(rows).values()]
        quality = _quality(rows, hierarchy, chosen)
        found.append([base.regime, memory_rule, waits, *quality, f"{np.mean(best):.1%}"])
    return table([*heads, "fastest found within, mean"], found)


def parts(rows: Sequence[Row], hierarchy: Hierarchy) -> list[str]:
    """Return what context and the memory rules are worth, warm calls of all kernels."""
    heads = ["each piece of code is charged after", "memory", "scale", "median error", "90 % within"]
    heads += ["Spearman, median over layers", "most too slow"]
    found = []
    patient = Rules(memory="midpoint", patient=True)
    for context, alone in (("the run before it", True), ("the core's window before it", False)):
        for name, base in (("midpoint, every miss", patient), ("overlap, once a window", WARM)):
            chosen = replace(base, run_by_run=alone)
            most = max(p / m for p, m in zip(*_pairs(rows, hierarchy, chosen), strict=True))
            found.append([context, name, *_quality(rows, hierarchy, chosen), f"{most:.2f}x"])
    return table(heads, found)


def _quality(rows: Sequence[Row], hierarchy: Hierarchy, chosen: Rules) -> list[str]:
    found = errors(*_pairs(rows, hierarchy, chosen))
    rank = np.median(list(layer_ranks(rows, hierarchy, chosen).values()))
    return [f"{found.scale:.2f}", f"{found.median:.1%}", f"{found.ninth:.0%}", f"{rank:.3f}"]


def worst(rows: Sequence[Row], hierarchy: Hierarchy) -> list[str]:
    """Return the kernels that the model is most wrong about."""

    def ratio(row: Row) -> float:
        return row.prediction.cycles(hierarchy, WARM) / row.native.warm

    heads = ["predicted / measured", "layer", "variant", "limited by", "spilling instructions", "measured cycles"]
    found = []
    for row in sorted(rows, key=lambda row: -abs(np.log(ratio(row))))[:_WORST]:
        memory = row.prediction.memory(hierarchy, WARM)
        parts = ", ".join(f"{value:,.0f}" for value in (row.prediction.compute, memory.stream, memory.latency))
        variant = row.case.variant.replace("|", " ")
        cells = [f"{ratio(row):.2f}", row.case.layer, f"`{variant}`", row.prediction.kind, row.case.spills]
        found.append([*cells, f"{row.native.warm:,.0f}", parts])
    return table([*heads, "compute, stream, wait"], found)


def memory(hierarchy: Hierarchy) -> list[str]:
    """Return what the machine's memory delivered."""
    rows = []
    for found in hierarchy.memory:
        size = f"{found.kib} KiB" if found.kib < 1024 else f"{found.kib // 1024} MiB"
        rows.append([size, f"{found.bytes_per_cycle:.1f}", f"{found.latency:.0f}"])
    return table(["buffer", "bytes read a cycle", "cycles from load to load"], rows)


def document(rows: Iterable[Row], hierarchy: Hierarchy) -> list[dict[str, Any]]:
    """Return every case as JSON values."""
    return [
        {
            "layer": row.case.layer,
            "variant": row.case.variant,
            "flops": row.case.flops,
            "spills": row.case.spills,
            "measured": {key: _rounded(value) for key, value in dataclasses.asdict(row.native).items()},
            "modelled": {
                **{
                    key: _rounded(value) if isinstance(value, float) else value
                    for key, value in dataclasses.asdict(row.prediction).items()
                },
                "warm": _rounded(row.prediction.cycles(hierarchy, WARM)),
                "cold": _rounded(row.prediction.cycles(hierarchy, COLD)),
            },
        }
        for row in rows
    ]


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def _pairs(rows: Sequence[Row], hierarchy: Hierarchy, chosen: Rules = WARM) -> tuple[list[float], list[float]]:
    predicted = [row.prediction.cycles(hierarchy, chosen) for row in rows]
    return predicted, [row.native.warm if chosen.regime == "warm" else row.native.cold for row in rows]
