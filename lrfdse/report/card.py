"""A Markdown card of one design: what it costs, what it scores, what each layer became."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lrfdse.ir.latency import REGIMES
from lrfdse.report.bracket import bracket_text
from lrfdse.report.markdown import code, plain
from lrfdse.report.numbers import change_text, kib_text, latency_text, times_text
from lrfdse.report.others import others_text
from lrfdse.report.page.wording import bracket_meaning, hardware_text, regime_text
from lrfdse.results.layers import nouns_text
from lrfdse.results.roles import role_of, shown_value

if TYPE_CHECKING:
    from lrfdse.ir.latency import MeterKind
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
    # A measured number does not depend on the clock that the target's file names.
    machine = target.core if kind == "measured" else f"{target.core}, {target.clock_mhz:g} MHz"
    lines = [
        f"### {code(design.id)} {role_of(design, document)}",
        "",
        "| | this design | original | change (± 95 %) |",
        "|---|--:|--:|--:|",
        *(f"| {' | '.join(row)} |" for row in _costs(document, design)),
        "",
        f"Latency is **{kind}** ({plain(machine)}), of the C kernels of the "
        f"{nouns_text(layer.kind for layer in document.layers)} alone; "
        f"{plain(hardware_text(document))}. {plain(_sentence(regime_text(document)))} "
        f"{plain(_sentence(f'in the bracket, {bracket_meaning(document)}'))}",
        "",
        *_others(document, design),
        "| layer | factorization | parameters | FLOPs | warm (µs) | cold (µs) | weight error | output error |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
        *(f"| {' | '.join(_layer(layer, design, kind))} |" for layer in document.layers),
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
        (
            "weights (KiB)",
            kib_text(design.weight_bytes),
            kib_text(original.weight_bytes),
            _factor(original.weight_bytes, design.weight_bytes),
        ),
        ("parameters", f"{design.params:,}", f"{original.params:,}", _factor(original.params, design.params)),
        ("FLOPs", f"{design.flops:,}", f"{original.flops:,}", _factor(original.flops, design.flops)),
        *_latencies(document, design),
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


def _others(document: Document, design: DesignFacts) -> list[str]:
    if not design.others:
        return []
    return [f"Other outputs keep, of the original's: {plain(others_text(design, document))}.", ""]


def _latencies(document: Document, design: DesignFacts) -> list[tuple[str, str, str, str]]:
    """Return a row for each cache regime in which both latencies are known: like is compared with like."""
    rows, kind = [], document.meter.kind
    for regime in REGIMES:
        now, before = design.latency.at(regime), document.original.latency.at(regime)
        if now is not None and before is not None:
            texts = (f"{latency_text(us.us, kind)} [{bracket_text(us, document)}]" for us in (now, before))
            rows.append((f"{regime} latency (µs), {kind}", *texts, _factor(before.us, now.us)))
    return rows  # type: ignore[return-value]


def _layer(layer: LayerFacts, design: DesignFacts, kind: MeterKind) -> tuple[str, ...]:
    choice = design.plan[layer.name]
    option = layer.option(choice)
    if option is None:
        return (code(layer.name), code(str(choice)), "", "", "", "", "", "")
    output = option.output_error
    us = (option.latency.at(regime) for regime in REGIMES)
    return (
        code(layer.name),
        code(str(choice)),
        f"{option.params:,}",
        f"{option.flops:,}",
        *("" if each is None else latency_text(each.us, kind) for each in us),
        f"{option.weight_error:.1%}",
        "" if output is None else f"{output:.1%}",
    )


def _factor(before: float, after: float) -> str:
    text = times_text(before, after).replace("x", "×")
    return f"{text} less" if text else "same"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _score(design: DesignFacts) -> str:
    bounds = design.reported_interval
    interval = "" if bounds is None else f" [{100 * bounds[0]:.1f}..{100 * bounds[1]:.1f}]"
    return f"{100 * design.reported_score:.2f}{interval}"


def _change(change: float, margin: float | None) -> str:
    return f"{change_text(change, margin)} points"
