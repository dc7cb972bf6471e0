"""The tables: every case with its peers, geometric means, and the goals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.kernels.layers import Case
from benchmarks.kernels.peaks import Bound, Place
from benchmarks.kernels.rows import Row
from benchmarks.results import table

OURS = "ours"
IREE_DEFAULT = "IREE matmul, default flags"


@dataclass(frozen=True, slots=True)
class Result:
    """All rows of one case on one target."""

    case: Case
    target: str
    bound: Bound
    place: Place
    """Whether the case runs from the last-level cache."""
    rows: dict[str, Row]
    """By the peer's full name."""

    @property
    def ours(self) -> float | None:
        """Our latency in microseconds."""
        row = self.rows.get(OURS)
        return row.us if row else None

    @property
    def share(self) -> float:
        """How much of the bound our kernel reaches."""
        return self.bound.us / (self.ours or math.inf)

    def best(self, column: str) -> tuple[str, Row] | None:
        """Return the fastest row of a column with the variant's name, else one that says why there is none."""
        listed = _of_column(self.rows, column)
        timed = [(name, row) for name, row in listed if row.us is not None]
        if timed:
            return min(timed, key=lambda pair: pair[1].us or math.inf)
        return listed[0] if listed else None

    def ratio(self, column: str) -> float | None:
        """Return how many times as long as our kernel the fastest of a column takes."""
        found, ours = self.best(column), self.ours
        return found[1].us / ours if found and found[1].us and ours else None


def _of_column(rows: dict[str, Row], column: str) -> list[tuple[str, Row]]:
    if column == IREE_DEFAULT:
        row = rows.get("IREE/matmul default")
        return [("", row)] if row else []
    group = "IREE" if column == IREE_BEST else column
    return [(name.partition("/")[2], row) for name, row in rows.items() if name.partition("/")[0] == group]


IREE_BEST = "IREE, best form and flags"
COLUMNS = (
    IREE_DEFAULT,
    IREE_BEST,
    "TVM",
    "clang",
    "Polly",
    "Pluto",
    "plain C",
    "ours, 256-bit",
    "IREE runtime",
    "onnxruntime",
    "LiteRT",
    "NumPy",
)


@dataclass(frozen=True, slots=True)
class Goal:
    """A ratio that the geometric mean over factorized layers should reach, and one below which no layer should be."""

    column: str
    least: float
    each: float | None = None


GOALS: dict[str, tuple[Goal, ...]] = {
    "riscv64": (
        Goal(IREE_DEFAULT, 2.0),
        Goal(IREE_BEST, 1.5, 0.9),
        Goal("clang", 8.0),
        Goal("Polly", 8.0),
        Goal("Pluto", 8.0),
        Goal("TVM", 15.0),
    ),
    "host": (
        Goal(IREE_DEFAULT, 1.6),
        Goal(IREE_BEST, 1.4, 0.85),
        Goal("IREE runtime", 2.4),
        Goal("onnxruntime", 3.2),
        Goal("LiteRT", 1.6),
        Goal("clang", 12.0),
        Goal("Polly", 12.0),
        Goal("Pluto", 12.0),
        Goal("TVM", 30.0),
    ),
}
COMPUTE_BOUND_SHARE = 0.75
BANDWIDTH_SHARE = 0.85


def geometric_mean(values: Iterable[float]) -> float:
    """Return the geometric mean; not a number where there are no values.

    >>> round(geometric_mean([1, 4, 16]), 9)
    4.0
    """
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def target_section(title: str, note: str, results: Sequence[Result], goals: Sequence[Goal]) -> list[str]:
    """Return the Markdown of one target: means and goals first, then every case."""
    inside = [r for r in results if r.case.is_factorized and r.place == "inside" and r.ours]
    outside = [r for r in results if r.case.is_factorized and r.place == "outside" and r.ours]
    columns = [column for column in COLUMNS if any(r.best(column) for r in results)]
    lines = [f"## {title}", "", note, ""]
    lines += ["### Against the peers", "", *_means(inside, outside, columns, goals)]
    lines += ["", *_bounds(inside, outside), "", "### Every case", ""]
    return [*lines, *_cases(results, columns), ""]


def _means(
    inside: Sequence[Result], outside: Sequence[Result], columns: Sequence[str], goals: Sequence[Goal]
) -> list[str]:
    wanted = {goal.column: goal for goal in goals}
    lines = [
        "Geometric mean of (peer / ours) over factorized cases whose weights fit the last-level cache, the same for",
        "each form, the least single ratio, and the mean over cases whose weights do not fit.",
        "",
    ]
    rows: list[list[object]] = []
    for column in columns:
        ratios = [(ratio, r) for r in inside if (ratio := r.ratio(column))]
        beyond = [ratio for r in outside if (ratio := r.ratio(column))]
        goal = wanted.get(column)
        if not ratios:
            found = next((r.best(column) for r in inside if r.best(column)), None)
            why = found[1].note if found else ""
            aim = f"{goal.least:g}x" if goal else ""
            rows.append([column, "–", 0, *"––––", why, _mean(beyond), aim, ""])
            continue
        mean = geometric_mean(ratio for ratio, _ in ratios)
        kinds = [_mean([ratio for ratio, r in ratios if r.case.kind == kind]) for kind in ("svd", "tt2", "tt3")]
        least, at = min(ratios, key=lambda pair: pair[0])
        reached = ""
        aim = ""
        if goal:
            aim = f"{goal.least:g}x" + (f", each {goal.each:g}x" if goal.each else "")
            good = mean >= goal.least and (goal.each is None or least >= goal.each)
            reached = "reached" if good else "not reached"
        place = f"{_layer(at.case)} {at.case.kind}"
        rows.append([column, f"{mean:.2f}", len(ratios), *kinds, f"{least:.2f}", place, _mean(beyond), aim, reached])
    heads = ["peer", "all", "cases", "svd", "tt2", "tt3", "least", "at", "not fitting", "goal", ""]
    return [*lines, *table(heads, rows)]


def _bounds(inside: Sequence[Result], outside: Sequence[Result]) -> list[str]:
    def described(listed: Sequence[Result], what: str, goal: float | None) -> str:
        if not listed:
            return f"- {what}: no case."
        shares = [r.share for r in listed]
        worst = min(listed, key=lambda r: r.share)
        text = f"- {what}: {geometric_mean(shares):.0%} in geometric mean over {len(listed)} cases, least "
        text += f"{min(shares):.0%} ({_layer(worst.case)} {worst.case.kind})"
        if goal is None:
            return text + "."
        return f"{text}; {sum(s >= goal for s in shares)} of {len(listed)} reach the goal of {goal:.0%}."

    compute = [r for r in inside if r.bound.by == "compute"]
    memory = [r for r in inside if r.bound.by == "memory"]
    return [
        "How much of the bound our kernels reach: FMAs at the peak rate, or weights through the memory; an in-order",
        "core stops for those that come from the last level, so that both add up there.",
        "",
        described(compute, "bound by FMAs, weights in the last-level cache", COMPUTE_BOUND_SHARE),
        described(memory, "bound by the bandwidth of the last-level cache", None),
        described(outside, "weights beyond the last-level cache", BANDWIDTH_SHARE),
    ]


def _cases(results: Sequence[Result], columns: Sequence[str]) -> list[str]:
    counted = any(row.instructions for r in results for row in r.rows.values())
    heads = ["layer", "form", "rows", "kFMA", "KiB", "bound us", "ours us", "of bound"]
    heads += [*(["thousand instructions"] if counted else []), *columns]
    listed = []
    for r in results:
        ours = r.rows.get(OURS, Row(note="not run"))
        share = f"{r.share:.0%} {r.bound.by[0]}" if ours.us else ""
        cells = [
            _layer(r.case),
            f"{r.case.factorization}{_MARKS[r.place]}",
            str(r.case.rows),
            f"{r.case.macs / 1e3:,.0f}",
            f"{r.case.weight_bytes / 1024:,.0f}",
            _us(r.bound.us),
            _us(ours.us) if ours.us else ours.note,
            share,
        ]
        if counted:
            cells.append(f"{ours.instructions / 1e3:,.1f}" if ours.instructions else "")
        cells += [_cell(r, column) for column in columns]
        listed.append(cells)
    return table(heads, listed)


_MARKS = {"inside": "", "edge": " ‡", "outside": " †"}


def _cell(r: Result, column: str) -> str:
    found = r.best(column)
    if found is None:
        return ""
    variant, row = found
    if row.us is None:
        return "too slow" if row.note.startswith("too slow") else "–"
    ratio = r.ratio(column)
    parts = [_us(row.us), f"({ratio:.2f}x)" if ratio else ""]
    if row.instructions:
        parts.append(f"{row.instructions / 1e3:,.1f}k")
    if variant and column != IREE_DEFAULT:
        parts.append(variant)
    return " ".join(part for part in parts if part)


def reasons(results: Sequence[Result]) -> list[str]:
    """Return why rows have no number, each reason once with how often it occurs on which peer."""
    counts: dict[tuple[str, str, str], int] = {}
    for r in results:
        for name, row in r.rows.items():
            if row.us is None:
                key = r.target, name, row.note
                counts[key] = counts.get(key, 0) + 1
    return [f"- {target}, {name}: {note} ({count})" for (target, name, note), count in sorted(counts.items())]


def document(result: Result) -> dict[str, Any]:
    """Return a result for the JSON file."""
    case = result.case
    return {
        "target": result.target,
        "layer": case.layer.name,
        "inputs": case.layer.inputs,
        "outputs": case.layer.outputs,
        "kind": case.kind,
        "design": str(case.factorization),
        "rows": case.rows,
        "macs": case.macs,
        "weight_bytes": case.weight_bytes,
        "last_level": result.place,
        "bound_us": round(result.bound.us, 4),
        "bound_by": result.bound.by,
        "peers": {name: _plain(row) for name, row in result.rows.items()},
    }


def _plain(row: Row) -> dict[str, Any]:
    fields = {name: getattr(row, name) for name in Row.__dataclass_fields__}
    rounded = {k: float(f"{v:.5g}") if isinstance(v, float) else v for k, v in fields.items()}
    return {k: v for k, v in rounded.items() if v not in (None, "")}


def _layer(case: Case) -> str:
    return f"{case.layer.inputs}→{case.layer.outputs}" + (f" x{case.rows}" if case.rows > 1 else "")


def _us(us: float) -> str:
    return f"{us:,.0f}" if us >= 1000 else f"{us:.3g}"


def _mean(values: Sequence[float]) -> str:
    return f"{geometric_mean(values):.2f}" if values else "–"
