"""What the pointer shows on a design. Plotly reads texts as a kind of HTML, so every name is escaped here."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from lrfdse.base.text import counted
from lrfdse.ir.latency import REGIMES
from lrfdse.report.bracket import bracket_text
from lrfdse.report.numbers import change_text, latency_text, times_text
from lrfdse.report.others import others_text
from lrfdse.results.roles import role_of, shown_name, shown_value

if TYPE_CHECKING:
    from lrfdse.results.designs import DesignFacts
    from lrfdse.results.document import Document

_MOST_PLAN_LINES = 10
"""Layers that a hover text names. Chosen, not measured: more would cover the plot."""
_WIDEST = 52
"""Characters of a layer's name in hover texts. Chosen, not measured."""


def hover_text(design: DesignFacts, document: Document) -> str:
    """Return what the pointer shows on a design: costs against the original, score, plan."""
    original, score = document.original, html.escape(shown_name(document))
    kind = document.meter.kind
    lines = [
        f"<b>{html.escape(design.id)}</b> {role_of(design, document)}",
        f"parameters {design.params:,} {_against(original.params, design.params)}",
        f"{kind} latency, bracket {bracket_text(design.charged, document)} µs",
    ]
    for regime in REGIMES:
        now, before = design.latency.at(regime), original.latency.at(regime)
        if now is not None:
            factor = "" if before is None else _against(before.us, now.us)
            lines.append(f"{regime} {latency_text(now.us, kind)} µs {factor}")
    value = shown_value(design, document)
    if not document.verified:
        lines.append(f"{score} {'unknown' if value is None else f'{value:.2%}'}, loss not measured")
    else:
        lines.append(f"{score} {value:.2%} {_interval(design)}")
    if design.id != original.id and document.verified:
        change = _change(design.reported_score - original.reported_score, design.reported_margin)
        lines.append(f"{change} from the original")
    if design.test_score is not None:
        change = _change(design.eval_value - original.eval_value, design.eval_margin)
        lines.append(f"on evaluation data {design.eval_value:.2%}, {change}")
    if design.others and design.id != original.id:
        lines.append(f"other outputs keep {html.escape(others_text(design, document))}")
    plan = [f"{short(name)} = {html.escape(str(choice))}" for name, choice in design.changed().items()]
    lines += plan[:_MOST_PLAN_LINES]
    if len(plan) > _MOST_PLAN_LINES:
        lines.append(f"and {counted(len(plan) - _MOST_PLAN_LINES, 'more layer')}")
    return "<br>".join(line.strip() for line in lines)


def _change(change: float, margin: float | None) -> str:
    return f"{change_text(change, margin)} points{'' if margin is None else ' (95 %)'}"


def _interval(design: DesignFacts) -> str:
    bounds = design.reported_interval
    return "" if bounds is None else f"[{100 * bounds[0]:.1f}..{100 * bounds[1]:.1f}]"


def _against(before: float, after: float) -> str:
    text = times_text(before, after)
    return f"({text.replace('x', '×')})" if text else ""


def short(name: str, widest: int = _WIDEST) -> str:
    """Return a layer's name, escaped, its middle left out where it is long."""
    if len(name) > widest:
        name = f"{name[: widest // 2 - 1]}…{name[-widest // 2 :]}"
    return html.escape(name, quote=False)
