"""The part of results/meter.md about targets without hardware."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lrfdse.measure.scheduling import SelfTest
from lrfdse.targets.catalog import load_target
from meterbench.inorder import Engines, Whole
from meterbench.simulate import PREFETCHERS, TARGETS, Simulated


def probes(found: dict[str, tuple[str, SelfTest]]) -> list[str]:
    """Return the probe's cycles of every emulated target."""
    lines = ["| target | core model | due | llvm-mca | scoreboard | engine |", "|---|---|---|---|---|---|"]
    for target, (model, test) in found.items():
        scoreboard = f"{test.scoreboard:.3g}" if math.isfinite(test.scoreboard) else "–"
        lines.append(f"| {target} | {model} | {test.bound:.3g} | {test.mca:.3g} | {scoreboard} | {test.engine} |")
    return lines


def wholes(found: Sequence[Whole]) -> list[str]:
    """Return pieces over whole traces."""
    lines = [
        "| target | engine | kernel | instructions | cycles, whole | pieces / whole |",
        "|---|---|---|---|---|---|",
    ]
    return lines + [
        f"| {w.target} | {w.engine} | {w.kernel} | {w.instructions:,} | {w.whole:,.0f} | {w.pieces / w.whole:.4f} |"
        if not w.refused
        else f"| {w.target} | {w.engine} | {w.kernel} | | | refused: {w.refused} |"
        for w in found
    ]


def engines(found: Sequence[Engines]) -> list[str]:
    """Return both engines beside each other."""
    lines = ["| core model | kernel | llvm-mca | scoreboard / llvm-mca |", "|---|---|---|---|"]
    return lines + [f"| {e.core} | {e.kernel} | {e.mca:,.0f} | {e.scoreboard / e.mca:.3f} |" for e in found]


def simulated(found: Sequence[Simulated]) -> list[str]:
    """Return modelled over simulated cycles, and what follows for the memory rule."""
    notes = [*(f"`{name}`: {text}" for name, text in TARGETS.items())]
    notes += [f"prefetcher *{name}*: {text}" for name, text in PREFETCHERS.items()]
    lines = [*(f"- {note}." for note in notes), "", "Modelled over simulated cycles: overlap, sum.", ""]
    lines += [
        "| target | kernel | schedule | LMUL | prefetcher | cold, simulated | modelled / simulated | warm, simulated | "
        "modelled / simulated |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    ratios: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for each in found:
        clock = load_target(each.target).clock_mhz
        head = f"| {each.target} | {each.kernel} | `{each.schedule.replace('|', ' ')}` | {each.lanes} "
        for prefetcher, cycles in each.cycles.items():
            if isinstance(cycles, str):
                lines.append(f"{head}| {prefetcher} | {cycles} | | | |")
                continue
            cells = []
            for call, latency, count in zip(
                ("cold", "warm"), (each.modelled.cold, each.modelled.warm), cycles, strict=True
            ):
                low, high = latency.low_us * clock / count, latency.high_us * clock / count
                cells.append(f"{count:,} | {low:.2f}, {high:.2f}")
                if each.lanes == 1:
                    ratios.setdefault((each.target, call, prefetcher), []).append((low, high))
            lines.append(f"{head}| {prefetcher} | {' | '.join(cells)} |")
    lines += [
        "",
        "At LMUL 1 (rvsim does not charge for register groups): geometric mean and geometric spread of the ratios.",
        "",
        "| target | call | prefetcher | kernels | overlap | sum |",
        "|---|---|---|---|---|---|",
    ]
    for (target, call, prefetcher), pairs in sorted(ratios.items()):
        logs = np.log(np.array(pairs))
        mean, spread = np.exp(logs.mean(0)), np.exp(logs.std(0))
        values = " | ".join(f"{m:.2f} (x/ {s:.2f})" for m, s in zip(mean, spread, strict=True))
        lines.append(f"| {target} | {call} | {prefetcher} | {len(pairs)} | {values} |")
    return lines


def document(
    wholes_found: Sequence[Whole], engines_found: Sequence[Engines], found: Sequence[Simulated]
) -> dict[str, Any]:
    """Return the same for results/meter.json."""
    return {
        "whole_traces": [dataclasses.asdict(each) for each in wholes_found],
        "both_engines": [dataclasses.asdict(each) for each in engines_found],
        "rvsim": [dataclasses.asdict(each) for each in found],
    }
