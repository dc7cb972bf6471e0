"""The part of results/meter.md about targets without hardware."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.meter.inorder import Engines, Whole
from benchmarks.meter.simulate import PREFETCHERS, TARGETS, Simulated
from benchmarks.results import table
from lrfdse.meters.scheduling import SelfTest
from lrfdse.targets.catalog import load_target


def probes(found: Mapping[str, tuple[str, SelfTest]]) -> list[str]:
    """Return the probe's cycles of every emulated target."""
    rows = []
    for target, (model, test) in found.items():
        scoreboard = f"{test.scoreboard:.3g}" if math.isfinite(test.scoreboard) else "–"
        rows.append([target, model, f"{test.bound:.3g}", f"{test.mca:.3g}", scoreboard, test.engine])
    return table(["target", "core model", "due", "llvm-mca", "scoreboard", "engine"], rows)


def wholes(found: Sequence[Whole]) -> list[str]:
    """Return pieces over whole traces."""
    rows = []
    for w in found:
        cells = [f"{w.instructions:,}", f"{w.whole:,.0f}", f"{w.pieces / w.whole:.4f}"] if not w.refused else []
        rows.append([w.target, w.engine, w.kernel, *(cells or ["", "", f"refused: {w.refused}"])])
    return table(["target", "engine", "kernel", "instructions", "cycles, whole", "pieces / whole"], rows)


def engines(found: Sequence[Engines]) -> list[str]:
    """Return both engines beside each other."""
    rows = [[e.core, e.kernel, f"{e.mca:,.0f}", f"{e.scoreboard / e.mca:.3f}"] for e in found]
    return table(["core model", "kernel", "llvm-mca", "scoreboard / llvm-mca"], rows)


def simulated(found: Sequence[Simulated]) -> list[str]:
    """Return modelled over simulated cycles, and what follows for the memory rule."""
    notes = [*(f"`{name}`: {text}" for name, text in TARGETS.items())]
    notes += [f"prefetcher *{name}*: {text}" for name, text in PREFETCHERS.items()]
    lines = [*(f"- {note}." for note in notes), "", "Modelled over simulated cycles: overlap, sum.", ""]
    heads = ["target", "kernel", "schedule", "LMUL", "prefetcher"]
    heads += ["cold, simulated", "modelled / simulated", "warm, simulated", "modelled / simulated"]
    rows = []
    ratios: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for each in found:
        clock = load_target(each.target).clock_mhz
        head = [each.target, each.kernel, f"`{each.schedule.replace('|', ' ')}`", str(each.lanes)]
        for prefetcher, cycles in each.cycles.items():
            if isinstance(cycles, str):
                rows.append([*head, prefetcher, cycles, "", "", ""])
                continue
            cells = []
            for call, latency, count in zip(
                ("cold", "warm"), (each.modelled.cold, each.modelled.warm), cycles, strict=True
            ):
                low, high = latency.low_us * clock / count, latency.high_us * clock / count
                cells += [f"{count:,}", f"{low:.2f}, {high:.2f}"]
                if each.lanes == 1:
                    ratios.setdefault((each.target, call, prefetcher), []).append((low, high))
            rows.append([*head, prefetcher, *cells])
    lines += [
        *table(heads, rows),
        "",
        "At LMUL 1 (rvsim does not charge for register groups): geometric mean and geometric spread of the ratios.",
        "",
    ]
    rows = []
    for (target, call, prefetcher), pairs in sorted(ratios.items()):
        logs = np.log(np.array(pairs))
        mean, spread = np.exp(logs.mean(0)), np.exp(logs.std(0))
        values = [f"{m:.2f} (x/ {s:.2f})" for m, s in zip(mean, spread, strict=True)]
        rows.append([target, call, prefetcher, str(len(pairs)), *values])
    return [*lines, *table(["target", "call", "prefetcher", "kernels", "overlap", "sum"], rows)]


def document(
    wholes_found: Sequence[Whole], engines_found: Sequence[Engines], found: Sequence[Simulated]
) -> dict[str, Any]:
    """Return the same as JSON values."""
    return {
        "whole_traces": [dataclasses.asdict(each) for each in wholes_found],
        "both_engines": [dataclasses.asdict(each) for each in engines_found],
        "rvsim": [dataclasses.asdict(each) for each in found],
    }
