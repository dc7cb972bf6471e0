"""A Markdown card of one design: what it costs, what it scores, what each layer became."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lrfdse.report.markdown import code, plain
from lrfdse.report.numbers import change_text, times_text, us_text
from lrfdse.results.roles import role_of, shown_value

if TYPE_CHECKING:
    from lrfdse.ir.latency import Latency
    from lrfdse.results.designs import DesignFacts
    from lrfdse.results.document import Document
    from lrfdse.results.layers import LayerFacts


def design_card(document: Document, design: DesignFacts) -> str:
    """Return a card in GitHub's Markdown.

    Parameters
    ----------
    document
        The document of an exploration.
    design
        One of its designs.
    """
    target, kind = document.target, document.meter.kind
    regime = {"warm": "weights in the last-level cache", "cold": "weights from DRAM"}[design.cache_regime]
    # A measured number does not depend on the clock that the target's file names.
    machine = target.core if kind == "measured" else f"{target.core}, {target.clock_mhz:g} MHz"
    lines = [
        f"### {code(design.id)} {role_of(design, document)}",
        "",
        "| | this design | original | change (± 95 %) |",
        "|---|--:|--:|--:|",
        *(f"| {' | '.join(row)} |" for row in _costs(document, design)),
        "",
        f"Latency is **{kind}** ({plain(machine)}; {regime}). It covers the fully-connected layers alone. "
        f"In the bracket, {plain(document.meter.bracket or 'low and high are its bounds')}.",
        "",
        "| layer | factorization | parameters | FLOPs | latency (µs) | weight error | output error |",
        "|---|---|--:|--:|--:|--:|--:|",
        *(f"| {' | '.join(_layer(layer, design))} |" for layer in document.layers),
        "",
        f"Proposed by {plain(design.origin)}."
        + (f" Model: {code(design.model)}." if design.model else f" `lrfdse export DIR {design.id}` makes it."),
    ]
    return "\n".join(lines) + "\n"


def _costs(document: Document, design: DesignFacts) -> list[tuple[str, str, str, str]]:
    original, metric = document.original, plain(document.metric)
    tested = design.test_score is not None
    where = "on test data" if tested else "on evaluation data"
    rows = [
        ("parameters", f"{design.params:,}", f"{original.params:,}", _factor(original.params, design.params)),
        ("FLOPs", f"{design.flops:,}", f"{original.flops:,}", _factor(original.flops, design.flops)),
        (
            f"latency (µs), {document.meter.kind}",
            _bracket(design.charged),
            _bracket(original.charged),
            _factor(original.charged.us, design.charged.us),
        ),
    ]
    if not document.verified:
        errors = (shown_value(each, document) for each in (design, original))
        texts = ["unknown" if error is None else f"{100 * error:.2f}" for error in errors]
        return [*rows, ("output error (%), on random inputs", texts[0], texts[1], "loss not measured")]
    change = _change(design.reported_score - original.reported_score, design.reported_margin)
    rows.append((f"{metric} (%), {where}", _score(design), _score(original), change))
    if tested:
        change = _change(design.eval_value - original.eval_value, design.eval_margin)
        scores = (f"{100 * each.eval_value:.2f}" for each in (design, original))
        rows.append((f"{metric} (%), on evaluation data", *scores, change))  # type: ignore[arg-type]
    return rows


def _layer(layer: LayerFacts, design: DesignFacts) -> tuple[str, ...]:
    choice = design.plan[layer.name]
    option = layer.option(choice)
    if option is None:
        return (code(layer.name), code(str(choice)), "", "", "", "", "")
    output, latency = option.output_error, option.latency.at(design.cache_regime)
    return (
        code(layer.name),
        code(str(choice)),
        f"{option.params:,}",
        f"{option.flops:,}",
        "" if latency is None else us_text(latency.us),
        f"{option.weight_error:.1%}",
        "" if output is None else f"{output:.1%}",
    )


def _factor(before: float, after: float) -> str:
    text = times_text(before, after).replace("x", "×")
    return f"{text} less" if text else "same"


def _bracket(latency: Latency) -> str:
    return f"{us_text(latency.us)} [{us_text(latency.low_us)}..{us_text(latency.high_us)}]"


def _score(design: DesignFacts) -> str:
    bounds = design.reported_interval
    interval = "" if bounds is None else f" [{100 * bounds[0]:.1f}..{100 * bounds[1]:.1f}]"
    return f"{100 * design.reported_score:.2f}{interval}"


def _change(change: float, margin: float | None) -> str:
    return f"{change_text(change, margin)} points"
