"""Tables of designs for people: a row is a line, and what does not fit is left out in a fixed order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lrfdse.base.grid import Column, fitted
from lrfdse.base.text import clean
from lrfdse.ir.latency import REGIMES
from lrfdse.ir.plan import DENSE_STORED
from lrfdse.report.bounds import moved_text
from lrfdse.report.bracket import bracket_text
from lrfdse.report.fold import folded, names_text
from lrfdse.report.numbers import count_text, kib_text, latency_text, times_text
from lrfdse.report.others import has_others, least_kept_text
from lrfdse.report.runtimes import runtime_columns
from lrfdse.results.again import keeps_limits
from lrfdse.results.roles import ranked, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

    from lrfdse.ir.latency import Latency, MeterKind, Regime
    from lrfdse.results.designs import DesignFacts
    from lrfdse.results.document import Document
    from lrfdse.results.layers import LayerFacts, Option


def design_table(document: Document, width: int) -> list[Text]:
    """Return the designs worth reading, each against the original: the front, and SVD to compare with.

    Slower ones stand above; those whose latencies tie stand together, the better scores first; those that break a limit
    come last. Warm and cold latency stand side by side, each with the factor to the original's. Where scores are of
    random inputs they are not shown: output errors are, and that losses are not measured.
    """
    original, kind = document.original, document.meter.kind
    # A stable sort: those that break a limit keep their order behind the others.
    designs = sorted(ranked(shown(document), document), key=lambda design: _breaks(design, document))

    def times(before: float, after: float, design: DesignFacts) -> str:
        return "" if design.id == original.id else times_text(before, after) or "1.0x"

    columns = [
        Column("design", [_mark(design, document) + " " + design.id for design in designs], left=True),
        Column("", [_role(design, document) for design in designs], left=True, drop=1),
        Column(
            "KiB",
            [kib_text(design.weight_bytes) for design in designs],
            more=[times(original.weight_bytes, design.weight_bytes, design) for design in designs],
            drop_more=3,
        ),
    ]
    for regime in REGIMES:
        before, found = original.latency.at(regime), [design.latency.at(regime) for design in designs]
        factors = [
            "" if us is None or before is None else times(before.us, us.us, design)
            for design, us in zip(designs, found, strict=True)
        ]
        texts = ["" if us is None else latency_text(us.us, kind) for us in found]
        columns.append(Column(f"{regime} us", texts, more=factors, drop_more=2))
    columns += _model_columns(designs, document)
    columns += _board_columns(designs, document)
    columns += runtime_columns(designs, document)
    score = "accuracy" if original.test_score is not None and document.metric == "fidelity" else document.metric
    head = f"{score} %" if document.verified else "output error %"
    # The one place of the table that says what ± is.
    change = "change ±\u00a095\u00a0%" if document.verified else "loss"
    columns += [
        Column(head, [_quality(design, document) for design in designs]),
        Column(change, [_change(design, document) for design in designs]),
        *_others_columns(designs, document),
        Column("bracket us", [bracket_text(design.charged, document) for design in designs], drop=5),
        Column(
            "FLOPs",
            [count_text(design.flops) for design in designs],
            drop=6,
            more=[times(original.flops, design.flops, design) for design in designs],
            drop_more=6,
        ),
        Column("plan", [_plan(design) for design in designs], left=True, drop=7),
    ]
    styles = [_style(design, document) for design in designs]
    return fitted(columns, width, f"Designs for {document.target.name}, latency {kind}", styles)


def marks_text(document: Document) -> str:
    """Return what the marks before designs mean, as far as there are any."""
    designs = shown(document)
    said = [] if document.best is None else ["> recommended"]
    if any(_mark(design, document) == "-" for design in designs):
        said.append("- breaks a limit")
    return ", ".join(said)


def plan_table(document: Document, width: int) -> list[Text]:
    """Return what became of each layer in the recommended design; layers that became the same share a row."""
    best = document.best
    if best is None or best.id == document.original.id:
        return []
    kind = document.meter.kind
    groups = folded(document.layers, lambda x: (x.sizes_text, x.rows, best.plan[x.name]))

    def sizes(group: list[LayerFacts]) -> str:
        chosen = [layer.option(best.plan[layer.name]) for layer in group]
        now = [
            x.weight_bytes if option is None else option.weight_bytes for x, option in zip(group, chosen, strict=True)
        ]
        return f"{kib_text(sum(layer.weight_bytes for layer in group))} -> {kib_text(sum(now))}"

    def latency(group: list[LayerFacts], regime: Regime) -> str:
        before = [_us(layer.options[0] if layer.options else None, regime) for layer in group]
        after = [_us(layer.option(best.plan[layer.name]), regime) for layer in group]
        ends = [sum(us for us in each if us is not None) for each in (before, after)]
        return "" if None in (*before, *after) else " -> ".join(latency_text(end, kind) for end in ends)

    columns = [
        Column("layer", [clean(names_text([layer.name for layer in group])) for group in groups], left=True),
        Column("in x out", [group[0].sizes_text for group in groups], drop=3),
        Column("becomes", [str(best.plan[group[0].name]) for group in groups], left=True),
        Column("KiB", [sizes(group) for group in groups], drop=4),
        Column("warm us", [latency(group, "warm") for group in groups], drop=2),
        Column("cold us", [latency(group, "cold") for group in groups], drop=1),
        *_bound_columns(groups, best),
    ]
    return fitted(columns, width, f"The recommended design, {best.id}, layer by layer")


def _bound_columns(groups: Sequence[Sequence[LayerFacts]], best: DesignFacts) -> list[Column]:
    """Return what bounds the layers in each cache regime, before and after; nothing where the meter does not tell."""
    columns = []
    for place, regime in enumerate(REGIMES):
        cells = [moved_text(group[0], best.plan[group[0].name], regime) for group in groups]
        if any(cells):
            columns.append(Column(f"bound {regime}", cells, left=True, drop=6 - place))
    return columns


def _us(option: Option | None, regime: Regime) -> float | None:
    found = None if option is None else option.latency.at(regime)
    return None if found is None else found.us


def sensitivity_table(document: Document, width: int) -> list[Text]:
    """Return what the recommended design's speed-up would be under other assumptions about the target."""
    cases, best = document.sensitivity, document.recommended
    rows = [(case.assumption, found) for case in cases if best and (found := case.of(best)) is not None]
    if not rows:
        return []
    plain = [case.of(document.svd_at_equal_size) if document.svd_at_equal_size else None for case in cases]
    columns = [
        Column("if the target had", [words for words, _ in rows], left=True),
        Column("warm", [f"{times_text(found.speed_up_warm, 1) or '1.0x'}" for _, found in rows]),
        Column("cold", [f"{times_text(found.speed_up_cold, 1) or '1.0x'}" for _, found in rows]),
        Column("counts", [found.cache_regime for _, found in rows]),
    ]
    if all(each is not None for each in plain) and len(plain) == len(rows):
        texts = [
            "" if each is None else f"{times_text(each.speed_up_warm, 1)} {times_text(each.speed_up_cold, 1)}"
            for each in plain
        ]
        columns.append(Column("equal-size SVD", texts, drop=1))
    return fitted(columns, width, "On which assumption the speed-up rests")


ESTIMATED = "~"
"""What stands before the latency of a whole model that was put together, not taken of a library of its own."""


def _model_columns(designs: Sequence[DesignFacts], document: Document) -> list[Column]:
    """Return the warm latency of whole models, and by what factor it is less than the original's."""
    before = document.original.whole_model.best_known
    if before is None:
        return []
    cells, times = [], []
    for design in designs:
        known, is_original = design.whole_model.best_known, design.id == document.original.id
        mark = ESTIMATED if design.whole_model.is_estimated else ""
        cells.append("" if known is None else mark + latency_text(known.us, document.meter.kind))
        times.append("" if known is None or is_original else times_text(before.us, known.us) or "1.0x")
    return [Column("model us", cells, more=times, drop=4, drop_more=2)]


def _others_columns(designs: Sequence[DesignFacts], document: Document) -> list[Column]:
    """Return what the worst of the other outputs that count keeps of the original's; nothing where no other counts."""
    if not has_others(document):
        return []
    return [Column("others keep %", [least_kept_text(design, document) for design in designs])]


def _board_columns(designs: Sequence[DesignFacts], document: Document) -> list[Column]:
    """Return what a board took for the designs, by what factor less than for the original, and the quartiles."""
    if not any(design.board is not None for design in document.every_design()):
        return []
    before, took = document.original.board_latency, [design.board_latency for design in designs]
    times = ["" if us is None or before is None else times_text(before.us, us.us) for us in took]
    return [
        Column(
            "board us", ["" if us is None else latency_text(us.us, "measured") for us in took], more=times, drop_more=2
        ),
        Column("quartiles", ["" if us is None else _ends(us, "measured") for us in took], drop=4),
    ]


def _ends(latency: Latency, kind: MeterKind) -> str:
    return f"{latency_text(latency.low_us, kind)}..{latency_text(latency.high_us, kind)}"


def _breaks(design: DesignFacts, document: Document) -> bool:
    return design.id != document.original.id and not keeps_limits(design, document)


def _mark(design: DesignFacts, document: Document) -> str:
    if design.id == document.recommended:
        return ">"
    return "-" if _breaks(design, document) else " "


def _role(design: DesignFacts, document: Document) -> str:
    if design.id == document.original.id:
        return "original"
    if design.origin in DENSE_STORED:
        return DENSE_STORED[design.origin]
    if design.origin == "uniform-svd":
        return "uniform SVD"
    return "equal-size SVD" if design.id == document.svd_at_equal_size != document.recommended else ""


def _style(design: DesignFacts, document: Document) -> str:
    if design.id == document.recommended:
        return "bold green"
    return "dim" if _breaks(design, document) else ""


def _quality(design: DesignFacts, document: Document) -> str:
    """Return the score, or where nobody measured losses the output error, in percent."""
    if document.verified:
        return f"{100 * design.reported_score:.2f}"
    return "unknown" if design.output_error is None else f"{100 * design.output_error:.2f}"


def _change(design: DesignFacts, document: Document) -> str:
    """Return the change of the score with half its 95 % interval where that is known."""
    if design.id == document.original.id:
        return ""
    if not document.verified:
        return "not measured"
    within = f" ±{100 * design.reported_margin:.2f}" if design.reported_margin else ""
    return f"{100 * (design.reported_score - document.original.reported_score):+.2f}{within}"


def _plan(design: DesignFacts) -> str:
    groups = folded(list(design.changed().items()), lambda pair: pair[1])
    return "  ".join(f"{clean(names_text([name for name, _ in group], 24))}={group[0][1]}" for group in groups)
