"""What the page shows, as plain values that its template only lays out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lrfdse.base.text import counted
from lrfdse.ir.latency import REGIMES
from lrfdse.report.bracket import bracket_text
from lrfdse.report.healed import healed_rows
from lrfdse.report.int8 import int8_rows
from lrfdse.report.numbers import change_text, kib_text, latency_text, rounded_text, times_text, us_text
from lrfdse.report.others import has_others, least_kept_text, others_text
from lrfdse.report.page.facts import facts_of
from lrfdse.report.page.figures import COLOURS, MOST_LAYERS
from lrfdse.report.page.layer_content import funnel_rows, layer_row, untouched_rows
from lrfdse.report.page.usage import usage_of
from lrfdse.report.page.wording import (
    basics,
    board_text,
    bracket_meaning,
    hardware_text,
    latency_sentences,
    loss_sentences,
    regime_text,
    sentence_of,
    tie_text,
    weak_text,
    why_text,
)
from lrfdse.report.runtimes import ran_in, ran_text, took
from lrfdse.report.shares import shares_lines
from lrfdse.report.whole import whole_facts
from lrfdse.results.roles import ROLES, is_worth_showing, least_drawn, ranked, role_of, shown_name, shown_value

if TYPE_CHECKING:
    from lrfdse.ir.latency import Latency, Regime
    from lrfdse.results.designs import DesignFacts
    from lrfdse.results.document import Document

_MARKS = dict(zip(ROLES, "★■◆⬢⬣⬟▲●○", strict=True))
_ROWS_OPEN = 12
"""Rows up to which tables of layers stand open. Chosen, not measured: about half a screen."""


def content_of(document: Document) -> dict[str, Any]:
    """Return every value that the template names."""
    rows = [_row(design, document) for design in ranked(document.every_design(), document)]
    failures = [(x.name, each.factorization, each.reason) for x in document.layers for each in x.failures]
    layers = [layer_row(layer, document) for layer in document.layers]
    funnels, stages = funnel_rows(document)
    content = {
        "title": document.title,
        "target": document.target.name,
        "version": document.versions.get("lrfdse", "?"),
        "core": document.target.core,
        "clock": f"{document.target.clock_mhz:g}",
        "kind": document.meter.kind,
        "metric": shown_name(document),
        "change": "points, ± 95 %" if document.verified else "loss",
        "judged_on": "the evaluation data" if document.verified else "random inputs",
        "has_test": document.original.test_score is not None,
        "sentence": sentence_of(document),
        "loss": loss_sentences(document),
        "why": why_text(document),
        "facts": facts_of(document),
        "notes": [*basics(document), *document.notes],
        "use": usage_of(document),
        "listed": [row for row in rows if row["shown"]],
        "weak": [row for row in rows if not row["shown"] and row["role"] != "dominated"],
        "dominated": (dominated := [row for row in rows if row["role"] == "dominated"]),
        "dominated_text": counted(len(dominated), "dominated design"),
        "has_others": has_others(document),
        "has_board": any(row["board"] is not None for row in rows),
        "runtimes": [ran_text(ran) for ran in ran_in(document)],
        "weak_text": weak_text(document, sum(not row["shown"] and row["role"] != "dominated" for row in rows)),
        "legend": [(role, _MARKS[role], COLOURS[role]) for role in ROLES if role in {row["role"] for row in rows}],
        "counts": _counts(document),
        "score_source": _score_source(document),
        "score_bars": _score_bars(document),
        "layers_left": _left_out(len(layers), "layers with the most parameters"),
        "layers": layers,
        "has_spectra": any(layer.spectra.weight is not None for layer in document.layers),
        "has_whitened": any(layer["whitened"] is not None for layer in layers),
        "spectra_left": _left_out(len(layers), "layers with the most parameters"),
        "funnels": funnels,
        "funnels_left": _left_out(len({f["counts"][0] for f in funnels}), "largest"),
        "stages": stages,
        "layers_open": len(layers) <= _ROWS_OPEN,
        "sensitivity": (cases := _sensitivity(document)),
        "has_plain": any(case["plain_warm"] for case in cases),
        "healed": [row._asdict() for row in healed_rows(document)],
        "int8": [row._asdict() for row in int8_rows(document)],
        "limit": _limit(document),
        "deciding": document.metric if document.verified else "output error",
        "has_options": any(layer["options"] for layer in layers),
        "untouched": untouched_rows(document),
        "shares": shares_lines(document),
        "has_bounds": any(option.bounds.warm for layer in document.layers for option in layer.options),
        "failures": failures,
        "failures_open": len(failures) <= _ROWS_OPEN,
        "failures_text": counted(len(failures), "kernel"),
        "latency_text": latency_sentences(document),
        "latency_facts": _latency_facts(document),
        "provenance": list(document.target.provenance.items()),
        "command": document.command,
        "facts_again": _facts_again(document),
    }
    return {**content, "sections": _sections(content)}


def _sections(content: dict[str, Any]) -> list[tuple[str, str]]:
    use = [("use", "Deployment")] if content["use"] else []
    found = [("tradeoff", "Trade-off"), ("designs", "Designs"), *use, ("layers", "Layers"), ("funnel", "Funnel")]
    return [*found, ("latency", "Latency"), ("again", "Reproduce")]


def _row(design: DesignFacts, document: Document) -> dict[str, Any]:
    original, role = document.original, role_of(design, document)
    is_original = design.id == original.id
    change = design.eval_value - original.eval_value
    points = "" if is_original else change_text(design.reported_score - original.reported_score, design.reported_margin)
    if not document.verified:
        points = "" if is_original else "not measured"
    value = shown_value(design, document)
    return {
        "id": design.id,
        "role": role,
        "shown": role in ROLES[:4] or (role != "dominated" and is_worth_showing(design, document)),
        "mark": _MARKS[role],
        "params": design.params,
        "bytes": design.weight_bytes,
        "kib": kib_text(design.weight_bytes),
        "bytes_ratio": original.weight_bytes / design.weight_bytes,
        "bytes_times": _times(original.weight_bytes, design.weight_bytes),
        "flops": design.flops,
        "regimes": [_in_regime(design, document, regime) for regime in REGIMES],
        "bracket": bracket_text(design.charged, document),
        "board": _board(design, original),
        "runtimes": [_ran(took(design, ran), took(original, ran)) for ran in ran_in(document)],
        "score": -1 if value is None else value,
        "score_text": "unknown" if value is None else f"{100 * value:.2f}",
        "change": design.reported_score - original.reported_score if document.verified else 0,
        "points": points,
        "eval_change": change,
        "eval_points": "" if is_original else change_text(change, design.eval_margin),
        "kept": -1 if not design.others else min(design.others.values()),
        "kept_text": least_kept_text(design, document),
        "kept_all": others_text(design, document),
        "plan": [(name, str(choice)) for name, choice in design.changed().items()],
    }


def _in_regime(design: DesignFacts, document: Document, regime: Regime) -> dict[str, Any]:
    """Return a design's latency in a cache regime and the factor to the original's in the same one."""
    now, before = design.latency.at(regime), document.original.latency.at(regime)
    both = now is not None and before is not None
    return {
        "us": -1.0 if now is None else now.us,
        "text": "" if now is None else latency_text(now.us, document.meter.kind),
        "ratio": before.us / now.us if both else -1.0,  # type: ignore[union-attr]
        "times": _times(before.us, now.us) if both else "",  # type: ignore[union-attr]
        "counts": regime == design.cache_regime,
    }


def _times(before: float, after: float) -> str:
    return times_text(before, after).replace("x", "×")


def _board(design: DesignFacts, original: DesignFacts) -> dict[str, Any] | None:
    """Return what a board took for all layers, or None where it was not asked."""
    if (found := design.board_latency) is None:
        return None
    before = original.board_latency
    ratio = None if before is None else before.us / found.us
    times = "" if before is None else _times(before.us, found.us)
    text, spread = us_text(found.us), f"{us_text(found.low_us)}..{us_text(found.high_us)}"
    return {"us": found.us, "text": text, "spread": spread, "ratio": ratio, "times": times}


def _ran(now: Latency | None, before: Latency | None) -> dict[str, Any]:
    """Return what a runtime took for a design's whole model, and the factor to the original's."""
    if now is None:
        return {"us": -1.0, "text": "", "ratio": -1.0, "times": ""}
    found = {"us": now.us, "text": latency_text(now.us, "measured")}
    if before is None:
        return {**found, "ratio": -1.0, "times": ""}
    return {**found, "ratio": before.us / now.us, "times": _times(before.us, now.us)}


def _tested(document: Document) -> bool:
    return document.original.test_score is not None


def _counts(document: Document) -> str:
    every = document.every_design()
    front = sum(bool(design.on_front) for design in every)
    evaluated = len(every) if document.evaluated is None else document.evaluated
    data, third = ("the data", "score") if document.verified else ("random inputs", "output error")
    were, are = "was" if evaluated == 1 else "were", "is" if front == 1 else "are"
    return (
        f"{counted(evaluated, 'design')} {were} run on {data}; {front:,} {are} on the front of parameters, latency and "
        f"{third}."
    )


def _score_source(document: Document) -> str:
    if not document.verified:
        return "Losses are not measured. The output error is relative to what the original gives for the same inputs."
    metric = document.metric
    errors = "Differences from the original are in points, ± half their 95 % interval."
    if _tested(document):
        return f"The {metric} is of the test data, which chose nothing. {errors}"
    return f"The {metric} is of the evaluation data, which chose. {errors}"


def _score_bars(document: Document) -> str:
    if not document.verified:
        return "On random inputs."
    text = "On test data." if _tested(document) else "On evaluation data."
    if any(design.reported_margin is not None for design in document.every_design()):
        text += " Vertical bars are the 95 % interval of the loss."
    if (least := least_drawn(document)) is not None:
        below = sum(design.reported_score < least for design in document.every_design())
        are = "is" if below == 1 else "are"
        text += f" {counted(below, 'design')} below {least:.0%} {are} out of view: double-click, or see the tables."
    return text


def _sensitivity(document: Document) -> list[dict[str, str]]:
    """Return the speed-ups of the recommended design and of SVD under other assumptions about the target."""
    rows = []
    for case in document.sensitivity:
        best = case.of(document.recommended or "")
        plain = case.of(document.svd_at_equal_size or "")
        if best is not None:
            rows.append(
                {
                    "assumption": case.assumption,
                    "warm": f"{rounded_text(best.speed_up_warm, 2)}×",
                    "cold": f"{rounded_text(best.speed_up_cold, 2)}×",
                    "counts": best.cache_regime,
                    "plain_warm": "" if plain is None else f"{rounded_text(plain.speed_up_warm, 2)}×",
                    "plain_cold": "" if plain is None else f"{rounded_text(plain.speed_up_cold, 2)}×",
                }
            )
    return rows


def _limit(document: Document) -> str:
    drop = document.settings.limits.max_drop
    if not document.verified or drop is None:
        return ""
    return f" The dashed line is the limit, {counted(100 * drop, 'point')} below the original."


def _left_out(count: int, which: str) -> str:
    return f" The {MOST_LAYERS} {which} of {count} are drawn." if count > MOST_LAYERS else ""


def _latency_facts(document: Document) -> list[tuple[str, str]]:
    target, meter = document.target, document.meter
    facts = [
        ("kind", meter.kind),
        ("meter", meter.name),
        ("core", target.core),
        ("clock", f"{target.clock_mhz:g} MHz"),
        ("covers", document.latency.covers),
        ("bracket", bracket_meaning(document)),
        ("hardware", hardware_text(document)),
        ("warm and cold", regime_text(document)),
        ("ties", tie_text(document)),
        ("on the board", board_text(document)),
        *whole_facts(document),
        ("check", "every kernel's output was compared with a float64 reference before its latency counted"),
    ]
    return [(name, text) for name, text in facts if text]


def _facts_again(document: Document) -> list[tuple[str, str]]:
    made, data = document.settings, document.data
    digests = [("model", document.model.sha256), ("calib", data.calib.sha256)]
    digests += [("eval", data.eval.sha256), ("test", data.test.sha256)]
    versions = ", ".join(f"{name} {version}" for name, version in document.versions.items())
    facts = [("seed", str(made.seed)), ("plans evaluated at most", made.budget), ("method", document.space.method)]
    facts += [("search space", document.space.source), ("versions", versions)]
    facts += [(f"SHA-256 of {name}", digest) for name, digest in digests]
    return [(name, str(value)) for name, value in facts if value]
