"""The numbers at the head of the page: what the recommended design costs and scores, against the original."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lrfdse.ir.latency import REGIMES
from lrfdse.report.bracket import bracket_text
from lrfdse.report.numbers import change_text, kib_text, latency_text, times_text
from lrfdse.report.others import others_listed
from lrfdse.results.roles import shown_value

if TYPE_CHECKING:
    from lrfdse.results.designs import DesignFacts
    from lrfdse.results.document import Document


def facts_of(document: Document) -> list[dict[str, Any]]:
    """Return the numbers that a reader wants first: bytes, latency warm and cold, working memory, score."""
    design, original = document.best, document.original
    if design is None:
        return []
    score, before = design.reported_score, original.reported_score
    kib = [kib_text(each.weight_bytes) for each in (design, original)]
    lines = [_of(original.weight_bytes, design.weight_bytes, "less", f"{kib[1]} KiB"), f"{design.params:,} parameters"]
    facts = [("Weights", kib[0], "KiB", lines), *_latency_facts_of(document, design), *_memory(document, design)]
    if document.verified:
        change = change_text(score - before, design.reported_margin)
        sure = "" if design.reported_margin is None else " (95 %)"
        lines = [f"{change} points{sure} from {before:.2%}", *_source_of(design)]
        facts.append((document.metric.capitalize(), f"{100 * score:.2f}", "%", lines))
    else:
        error = shown_value(design, document)
        text, unit = ("unknown", "") if error is None else (f"{100 * error:.2f}", "%")
        facts.append(("Output error", text, unit, ["on random inputs", "the loss was not measured"]))
    if design.others:
        data = "on evaluation data" if document.verified else "on random inputs"
        lines = [*others_listed(design, document), data]
        facts.append(("Least of other outputs", f"{100 * min(design.others.values()):.2f}", "%", lines))
    return [{"name": name, "value": value, "unit": unit, "lines": lines} for name, value, unit, lines in facts]


def _latency_facts_of(document: Document, design: DesignFacts) -> list[tuple[str, str, str, list[str]]]:
    """Return the latency in each cache regime, against the original's in the same one."""
    kind, facts = document.meter.kind, []
    for regime in REGIMES:
        now, before = design.latency.at(regime), document.original.latency.at(regime)
        if now is None:
            continue
        lines = [] if before is None else [_of(before.us, now.us, "lower", f"{latency_text(before.us, kind)} µs")]
        if regime == design.cache_regime:
            lines.append(f"bracket {bracket_text(now, document)} µs")
        facts.append((f"{regime.capitalize()} latency, {kind}", latency_text(now.us, kind), "µs", lines))
    return facts


def _memory(document: Document, design: DesignFacts) -> list[tuple[str, str, str, list[str]]]:
    """Return the working memory of the layer that needs most of it; nothing where it is not known of all."""
    options = [layer.option(design.plan[layer.name]) for layer in document.layers]
    before = max((layer.peak_activation_bytes for layer in document.layers), default=0)
    known = [option.peak_activation_bytes for option in options if option is not None]
    if not known or len(known) < len(options) or not before:
        return []
    line = _of(before, max(known), "less", f"{kib_text(before)} KiB")
    return [("Working memory", kib_text(max(known)), "KiB", [line, "of the layer that needs most"])]


def _of(before: float, after: float, less: str, text: str) -> str:
    if before == after:
        return "as the original"
    if after < before:
        return f"{times_text(before, after).replace('x', '×')} {less} than {text}"
    return f"{times_text(after, before).replace('x', '×')} the original's {text}"


def _source_of(design: DesignFacts) -> list[str]:
    lines = ["on evaluation data, which chose it" if design.test_score is None else "on test data, which chose nothing"]
    if (bounds := design.reported_interval) is not None:
        lines.append(f"95 % interval {100 * bounds[0]:.1f} to {100 * bounds[1]:.1f} %")
    return lines
