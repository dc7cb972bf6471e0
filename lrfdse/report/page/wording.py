"""What reports say in sentences."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from lrfdse.board.result import board_line
from lrfdse.report.numbers import us_text
from lrfdse.results.roles import WORST_SHOWN, hidden, worth_showing

if TYPE_CHECKING:
    from pathlib import Path

    from lrfdse.results.document import Document


def limits_text(document: Document) -> str:
    """Return the limits in words: a loss of at most 1 point, at most 60,000 parameters."""
    limits, parts = document.settings.limits, []
    if limits.max_drop is not None:
        data = "" if document.verified else " on random inputs"
        parts.append(f"a loss of at most {_points(limits.max_drop)} of {document.metric}{data}")
    if limits.max_params is not None:
        parts.append(f"at most {limits.max_params:,} parameters")
    if limits.max_latency_us is not None:
        parts.append(f"a latency of at most {us_text(limits.max_latency_us)} µs")
    if not parts:
        return "none"
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def recommendation(document: Document, folder: Path) -> str:
    """Return the sentences that end a run: which design, why, and where it lies; or why there is none."""
    design, base, metric = document.best, document.baseline, document.metric
    if document.is_refused:
        return (
            "No design is recommended, because nothing says what one loses: give --eval DATA.npz (inputs with labels, "
            "or real inputs alone), or --accept-unverified to have one chosen on random inputs."
        )
    if design is None:
        return "No design satisfies the limits."
    limit = f"{100 * (document.settings.limits.max_drop or 0.0):g} point(s)"
    data = "the data that choose" if document.verified else "random inputs, which nothing verifies"
    if design.id == base.id:
        where = "" if document.verified else f" on {data}"
        return f"No compressed design loses at most {limit} of {metric}{where}: keep the original model."
    return (
        f"Recommended: {design.id}, {base.params / design.params:.1f}x fewer parameters and "
        f"{base.charged.us / design.charged.us:.1f}x lower {document.meter.kind} latency of the fully-connected "
        f"layers, chosen for a loss of at most {limit} of {metric} on {data}.\n"
        f"{folder / 'designs' / design.id / 'model.onnx'}"
    )


def way_on(document: Document, folder: Path) -> str:
    """Return what can be done with an exploration that recommends nothing for want of evaluation data."""
    export = f"`lrfdse export {shlex.quote(str(folder))} ID` makes any design of front.json"
    kept = sorted(design.id for design in document.every_design() if design.model)
    if not kept:
        return f"No files of designs were kept (--keep 0): {export}."
    return (
        f"To go on: try the {len(kept)} designs of the trade-off in {folder}/designs ({', '.join(kept)}), or run the "
        f"same command with --eval: what was compiled is used again; {export}."
    )


def weakness(document: Document) -> str:
    """Return what the designs have in common that are left to the files."""
    if document.verified:
        return f"lose over {100 * worth_showing(document):g} points"
    return f"have an output error over {WORST_SHOWN:.0%}"


def hidden_text(document: Document) -> str:
    """Return what is said of the designs that the table leaves out; empty where there are none."""
    count = hidden(document)
    return f"{count} more designs of the front {weakness(document)}; front.csv has them all" if count else ""


def sentence_of(document: Document) -> str:
    """Return the result in a sentence: which design, and what it gains."""
    design, base = document.best, document.baseline
    if document.is_refused:
        return "No design is recommended, because nothing says what one loses: there was no evaluation data."
    if design is None:
        return f"No design satisfies the limits: {limits_text(document)}."
    if design.id == base.id:
        return f"No compressed design satisfies the limits ({limits_text(document)}): keep the original model."
    return (
        f"Design {design.id} is recommended: {_ratio(base.params, design.params, 'fewer', 'more')} parameters "
        f"and {_ratio(base.charged.us, design.charged.us, 'lower', 'higher')} {document.meter.kind} "
        "latency of the fully-connected layers than the original."
        + ("" if document.verified else " Nobody verified it: it was chosen on random inputs.")
    )


def loss_text(document: Document) -> str:
    """Return what the recommended design lost, on which data, and how sure that is; empty where there is none."""
    design, base, metric = document.best, document.baseline, document.metric
    if not document.verified:
        return (
            "Losses are not measured: the output errors are those on random inputs, and real ones may tell otherwise."
        )
    if design is None or design.id == base.id:
        return ""
    chosen = (
        f"it {_change(base.chosen_score - design.chosen_score)}{_within(design.chosen_error)}; "
        f"the limit was {limits_text(document)}."
    )
    if design.test_score is None:
        return f"On the data that chose it, its {metric} is {design.chosen_score:.2%}: {chosen}"
    change = _change(base.reported_score - design.reported_score)
    return (
        f"On test data, which chose nothing, its {metric} is {design.reported_score:.2%} against "
        f"{base.reported_score:.2%}: it {change}{_within(design.loss_error)}. On the data that chose it, {chosen}"
    )


def latency_text(document: Document) -> str:
    """Return how the latencies were obtained."""
    meter = document.meter
    said = "modelled, none is measured" if meter.kind == "modelled" else "measured"
    at = f" at {document.target.clock_mhz:g} MHz" if meter.kind == "modelled" else ""
    # A document of an earlier version does not tell the procedure.
    procedure = meter.procedure or f"by the meter {meter.name}"
    return (
        f"Every latency here is {said}: each kernel was compiled and compared with a reference, and its latency "
        f"{meter.kind}{at} {procedure}. Latency is {document.latency.covers}."
    )


def board_text(document: Document) -> str:
    """Return what the board's column is and which board it was; empty without one."""
    boards = [design.board for design in document.every_design() if design.board is not None]
    if not boards:
        return ""
    return (
        "median and quartiles of wall clock over all layers, called one after another: "
        f"{board_line(boards[0].description)}; each layer's times are in front.json and board.json"
    )


def regime_text(document: Document) -> str:
    """Return in which cache regime designs are charged."""
    kib = document.target.last_level_kib
    cache = "last-level cache" if kib is None else f"{kib:,} KiB last-level cache"
    return (
        f"designs whose weights fit the {cache} are charged warm, from the cache; others cold, from DRAM; "
        f"the original is {document.baseline.cache_regime}"
    )


def _change(lost: float) -> str:
    if abs(lost) < 5e-5:
        return "lost nothing"
    return f"lost {100 * lost:.2f} points" if lost > 0 else f"gained {-100 * lost:.2f} points"


def _within(error: float | None) -> str:
    return "" if error is None else f" (standard error {100 * error:.2f})"


def _points(fraction: float) -> str:
    return f"{100 * fraction:g} point{'' if fraction == 0.01 else 's'}"


def _ratio(before: float, after: float, less: str, more: str) -> str:
    """Return a ratio in words.

    >>> _ratio(300, 100, "fewer", "more"), _ratio(100, 200, "fewer", "more")
    ('3.0 times fewer', '2.0 times more')
    """
    if after <= before:
        return f"{before / after:.1f} times {less}"
    return f"{after / before:.1f} times {more}"
