"""The page: what the rows say, in tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.machine import described
from benchmarks.records import Record
from benchmarks.results import table
from benchmarks.whole_model.kinds import PRODUCTS, geometric_mean, kinds, ms, slowest
from benchmarks.whole_model.modelled import modelled
from benchmarks.whole_model.models import Model
from benchmarks.whole_model.rows import RIGHT
from lrfdse.ir.latency import TOLERANCE

PEERS = ("onnxruntime", "litert", "iree")
"""What ours is compared with."""


_NAMES = ("onnxruntime", "LiteRT", "IREE")


def milliseconds(row: Record, peer: str) -> float | None:
    """Return a peer's processor time, or None where there is none; of IREE the best of its sets of flags."""
    found = [each["cpu_ms"] for name, each in row.get("times", {}).items() if name.split(" ")[0] == peer]
    return min(found) if found else None


def ratio(row: Record, peer: str) -> float | None:
    """Return our processor time over a peer's, or None where there is none."""
    ours, theirs = milliseconds(row, "ours"), milliseconds(row, peer)
    return None if ours is None or theirs is None else ours / theirs


def lines_of(
    about: dict[str, Any], models: Sequence[Model], host: Sequence[Record], emulated: Sequence[Record]
) -> list[str]:
    """Return the page's lines."""
    return [
        "# Whole models, compiled ahead of time",
        "",
        "Written by `python -m benchmarks.whole_model`: what `lrfdse build` makes of models that it was not tuned for,",
        "beside onnxruntime, LiteRT and IREE with one thread each.",
        "",
        described(about),
        "",
        *_commits([*host, *emulated]),
        *_sources(models),
        *_host(host),
        *_operators(host),
        *_emulated(emulated),
        *modelled([row for row in emulated if "meter_seconds" in row or "meter_failure" in row]),
        *_failures([*host, *emulated]),
    ]


def _commits(rows: Sequence[Record]) -> list[str]:
    """Return which commits of lrfdse the rows are of."""
    found: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        if row.get("commit"):
            found.setdefault(row["commit"], {}).setdefault(row["target"], []).append(row["model"])
    if not found:
        return []
    ordered = sorted(found.items(), key=lambda item: -sum(map(len, item[1].values())))
    main, targets = ordered[0]
    lines = [f"Rows are of commit {main} ({', '.join(targets)})" + (", but for these:" if ordered[1:] else "."), ""]
    for name, others in ordered[1:]:
        said = "; ".join(f"{target}: {', '.join(models)}" for target, models in others.items())
        lines.append(f"- of {name}: {said}")
    return [*lines, ""] if ordered[1:] else lines


def _sources(models: Sequence[Model]) -> list[str]:
    rows = [
        [
            model.name,
            model.origin,
            ", ".join("x".join(map(str, sizes)) for sizes in model.shape.values()),
            ", ".join(f"{name} {number}" for name, number in model.value.items()),
        ]
        for model in models
    ]
    return ["## Models", "", *table(["model", "from", "sizes set", "inputs fixed"], rows), ""]


def _host(rows: Sequence[Record]) -> list[str]:
    whole = [row for row in rows if "times" in row]
    if not whole:
        return []
    found = []
    for row in whole:
        times = row["times"]
        found.append(
            [
                row["model"],
                *("" if (found_ms := milliseconds(row, peer)) is None else ms(found_ms) for peer in ("ours", *PEERS)),
                *(f"{value:.2f}" if (value := ratio(row, peer)) else "" for peer in PEERS),
                ms(times["ours"]["wall_ms"]),
                ms(times["onnxruntime"]["wall_ms"]),
                _error(row, row["errors"]["ours"]),
                f"{row['arena_bytes']:,}" + ("" if row["arena_bytes"] == row["arena_bound"] else " (not least)"),
                f"{row['code_bytes']:,}",
                f"{row['weight_bytes']:,}",
                f"{row['build_seconds']:.0f}",
                f"{kinds(row, PRODUCTS).share:.0%}",
                _foreign(row),
            ]
        )
    heads = ["model", "ours", "onnxruntime", "LiteRT", "IREE", *(f"ours / {name}" for name in _NAMES), "wall: ours"]
    heads += ["wall: onnxruntime", "error", "arena", "code", "weights", "build s", "FC and 1x1", "slow way"]
    return [
        f"## On the host ({whole[0]['target']})",
        "",
        "Median processor time of a run in milliseconds, all in one process and thread, taking turns, inputs and",
        "outputs bound; wall time beside it, which a busy machine lengthens. `ours / ...` below 1: ours is faster.",
        "The error is relative to the largest output; `rounding` where onnxruntime's own output is at least half as",
        "far from the same model in float64 (ONNX's reference implementation, the same input), or where its own",
        "results with and without optimizations differ as much. Arena, code and weights in bytes; the arena is the",
        "least that any plan of the same calls takes where nothing else is said. `build s`: processor seconds of",
        "`lrfdse build` with an empty cache, its test runs and timing included. `FC and 1x1`: share of the time in",
        "fully-connected layers and 1x1 convolutions, which compression can change. `slow way`: the largest operator",
        "that has no schedule of its own, and the share of all of these. IREE: the faster of two sets of flags (level",
        "O3 with data tiling, images as they are or channels last), its inputs on its device.",
        "",
        *table(heads, found),
        "",
        *_summary(whole),
        "",
    ]


def _foreign(row: Record) -> str:
    """Return the largest operator without a schedule of its own, and the share of all of these."""
    found = [each for each in slowest(row, len(row["parts"])) if each["kind"].startswith("Foreign ")]
    return f"{found[0]['kind']} {kinds(row, 'Foreign ').share:.0%}" if found else ""


def _summary(rows: Sequence[Record]) -> list[str]:
    lines = []
    for peer, name in zip(PEERS, _NAMES, strict=True):
        ratios = [value for row in rows if (value := ratio(row, peer)) is not None]
        if ratios:
            lines.append(
                f"- {name}: at most its time on {sum(value <= 1 for value in ratios)} of {len(ratios)}, geometric mean "
                f"{geometric_mean(ratios):.2f}, worst {max(ratios):.2f}."
            )
    right = sum(row["errors"]["ours"] <= RIGHT for row in rows)
    lines.append(f"- Right to {RIGHT:g} of the largest output: {right} of {len(rows)}.")
    return lines


def _operators(rows: Sequence[Record]) -> list[str]:
    found = []
    for row in rows:
        slower = [name for name in PEERS if (value := ratio(row, name)) and value > 1]
        if not slower:
            continue
        total = sum(each["us"] for each in row["parts"])
        for each in slowest(row, 4):
            speed = f"{each['macs'] / each['us'] / 1e3:.1f}" if each["macs"] else ""
            nodes = ", ".join(each["nodes"])
            share = f"{each['us'] / total:.0%}"
            found.append([row["model"], each["kind"], nodes, f"{each['us']:,.0f}", share, speed, each["schedule"]])
    if not found:
        return []
    return [
        "## Where ours is slower",
        "",
        "The slowest operators of these models, by wall clock: the lower quartile of each.",
        "",
        *table(["model", "operator", "nodes", "us", "share", "GMAC/s", "schedule"], found),
        "",
    ]


def _emulated(rows: Sequence[Record]) -> list[str]:
    if not rows:
        return []
    targets = list(dict.fromkeys(row["target"] for row in rows))
    models = list(dict.fromkeys(row["model"] for row in rows))
    by = {(row["model"], row["target"]): row for row in rows}

    def cell(model: str, target: str) -> str:
        row = by.get((model, target))
        if row is None:
            return ""
        if "failure" in row:
            return "see below"
        if not row["checked"]:
            return "not run"
        return f"{_error(row, row['max_error'])}, {row['code_bytes'] / 1e3:,.0f} kB, {row['build_seconds']:.0f} s"

    return [
        "## Under QEMU",
        "",
        "Error relative to the largest output of onnxruntime, on the target's own instruction set; bytes of code;",
        "processor seconds of `lrfdse build --meter none` with an empty cache, the run under QEMU included. Where the",
        "error is above the goal, both are held against the same model in float64 (ONNX's reference implementation,",
        "the same input): `rounding` where onnxruntime is farther from it than ours.",
        "",
        *table(["model", *targets], [[model, *(cell(model, target) for target in targets)] for model in models]),
        "",
    ]


def _failures(rows: Sequence[Record]) -> list[str]:
    found = [
        [row["model"], row["target"], row[name]]
        for row in rows
        for name in ("failure", "meter_failure", "litert_failure", "iree_failure")
        if name in row
    ]
    return ["## What failed", "", *table(["model", "target", "message"], found), ""] if found else []


def off(row: Record) -> bool:
    """Return whether the error of a row is above the goal."""
    error = row["errors"]["ours"] if "errors" in row else row.get("max_error")
    return error is not None and error > RIGHT


def _error(row: Record, error: float) -> str:
    """Return an error, with a word where it is more than the goal: rounding where that explains it."""
    if error <= RIGHT:
        return f"{error:.1e}"
    explained = row["tolerance"] > TOLERANCE and error <= row["tolerance"]
    explained |= row.get("distance", 0.0) >= error / 2
    word = "rounding" if explained else "above the goal"
    if "errors" in row or "from_float64" not in row:
        return f"{error:.1e} ({word})"
    ours, theirs = row["from_float64"]["ours"], row["from_float64"]["onnxruntime"]
    word = "rounding" if theirs >= ours else word
    return f"{error:.1e} ({word}: from float64 ours is {ours:.1e}, onnxruntime {theirs:.1e})"
