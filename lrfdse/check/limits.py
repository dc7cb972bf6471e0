"""Limits on one design: latency, parameters, loss of accuracy, what the other outputs lose."""

from __future__ import annotations

from lrfdse.base.text import clean
from lrfdse.check.verdict import Check, Loss
from lrfdse.ir.latency import REGIMES, Latency, MeterKind, Regime
from lrfdse.results.asked import Limits
from lrfdse.results.designs import DesignFacts, Score
from lrfdse.results.document import Document

UNMEASURED = "the exploration had no evaluation data, so no loss was measured; explore with --eval"
"""Why a check of a loss is skipped."""

_SLACK = 1e-9
"""Slack of a loss, a fraction: one of exactly the limit is within it, however it was rounded. Chosen, not measured: far
above the rounding of a difference of fractions (1e-16), far below one sample of any data set."""


OTHERS = "other-loss"
"""Name of the check of what the outputs lose that count beside the judged one."""


def limit_names(limits: Limits) -> list[str]:
    """Return the names of the checks that limits ask for; empty where they ask for nothing."""
    asked = {
        "latency": limits.max_latency_us,
        "params": limits.max_params,
        "size": limits.max_size,
        "loss": limits.max_drop,
        OTHERS: limits.max_other_drop,
    }
    return [name for name, limit in asked.items() if limit is not None]


def eval_loss(document: Document, design: DesignFacts) -> Loss | None:
    """Return what a design loses on the evaluation data; None where nobody measured it."""
    return _lost(design.eval_score, document.original.eval_score) if document.verified else None


def check_limits(document: Document, design: DesignFacts, limits: Limits) -> list[Check]:
    """Compare `design` with each limit that is set.

    Latency is compared by its value, as the exploration does when it recommends; a bracket that reaches over the limit
    is said in the reason. Losses are those on the evaluation data, in points. Where outputs count beside the judged
    one, none may lose more than `max_other_drop`, or where that is not given `max_drop`.
    """
    checks, latency = [], design.charged
    if limits.max_latency_us is not None:
        most = limits.max_latency_us
        broken = not latency.us <= most
        reasons = [f"{bracket_text(latency)} is over {number_text(most)} us"] if broken else []
        if not broken and latency.high_us > most:
            reasons.append(f"the {'bracket' if document.meter.kind == 'modelled' else 'spread'} reaches over the limit")
        reason = "; ".join([*reasons, _regimes(design)])
        checks.append(
            _check("latency", broken, f"at most {number_text(most)} us", bracket_text(latency), reason, latency.us)
        )
    if limits.max_params is not None:
        broken = design.params > limits.max_params
        reason = f"{design.params:,} is over {limits.max_params:,}" if broken else ""
        checks.append(
            _check("params", broken, f"at most {limits.max_params:,}", f"{design.params:,}", reason, design.params)
        )
    if limits.max_size is not None:
        size, most_bytes = design.weight_bytes, limits.max_size
        broken = size > most_bytes
        reason = f"{size:,} is over {most_bytes:,}" if broken else ""
        checks.append(_check("size", broken, f"at most {most_bytes:,}", f"{size:,}", reason, size))
    if limits.max_drop is not None:
        checks.append(_check_loss(document, design, limits.max_drop))
    most_other = limits.max_drop if limits.max_other_drop is None else limits.max_other_drop
    if most_other is not None and (design.others or limits.max_other_drop is not None):
        checks.append(_check_others(document, design, most_other))
    return checks


WHOLE = "whole-model-latency"
"""Name of the check of the whole model's latency."""


def check_whole_model(design: DesignFacts, most: float, kind: MeterKind) -> Check:
    """Compare the warm latency of a design's whole model with a limit, in microseconds; skipped where it is not known.

    The design's own latency is that of its fully-connected layers; this one is that of every operator: of its own
    library where there is one, else estimated.
    """
    found = design.whole_model
    limit, latency = f"at most {number_text(most)} us", found.best_known
    if latency is None:
        reason = f"front.json holds no latency of the whole model of design {design.id}; its notes may say why"
        return Check(WHOLE, "skip", limit, reason=reason, unmeasured=True)
    broken = not latency.us <= most
    reasons = [f"{bracket_text(latency)} is over {number_text(most)} us"] if broken else []
    if not broken and latency.high_us > most:
        reasons.append(f"the {'bracket' if kind == 'modelled' else 'spread'} reaches over the limit")
    how = f"estimated of {kind} parts" if found.is_estimated else kind
    reason = "; ".join([*reasons, f"{how}, warm"])
    return Check(WHOLE, "fail" if broken else "pass", limit, bracket_text(latency), reason, latency.us, "us")


def _regimes(design: DesignFacts) -> str:
    """Return in which cache regime the latency counts, and the latency in the other one."""
    other: Regime = "cold" if design.cache_regime == "warm" else "warm"
    known = design.latency.at(other)
    more = "" if known is None else f", {other} it is {number_text(known.us)} us"
    return f"counted {design.cache_regime}{more}"


def regime_latencies(design: DesignFacts) -> dict[str, str]:
    """Return the latency in each cache regime in which it is known, by the names that files for machines have."""
    found = {regime: design.latency.at(regime) for regime in REGIMES}
    return {f"latency_{regime}_us": repr(latency.us) for regime, latency in found.items() if latency is not None}


def _check_loss(document: Document, design: DesignFacts, most: float) -> Check:
    metric, original = clean(document.metric), document.original
    limit = f"at most {points_of(most)} point{'' if most == 0.01 else 's'} of {metric}"
    if not document.verified:
        return Check("loss", "skip", limit, reason=UNMEASURED, unmeasured=True)
    if (lost := eval_loss(document, design)) is None:
        return Check("loss", "skip", limit, reason=f"front.json holds no {metric} of the design")
    broken = not lost.value <= most + _SLACK
    reason = f"{points_of(lost.value)} points lost on the evaluation data, over {points_of(most)}" if broken else ""
    if not broken and (tested := _lost(design.test_score, original.test_score)) is not None:
        reason = f"on the test data: {loss_text(tested)}"
    return _check("loss", broken, limit, loss_text(lost), reason, 100 * lost.value)


def _check_others(document: Document, design: DesignFacts, most: float) -> Check:
    """Compare what the other output that counts and keeps least loses, of its agreement with the original's."""
    limit = f"at most {points_of(most)} point{'' if most == 0.01 else 's'} of every other output"
    if not document.verified:
        return Check(OTHERS, "skip", limit, reason=UNMEASURED, unmeasured=True)
    if not design.others:
        return Check(OTHERS, "skip", limit, reason="no output counts but the judged one")
    name, kept = min(design.others.items(), key=lambda item: (item[1], item[0]))
    measures = {each.name: each.measure for each in document.outputs}
    lost, broken = 1.0 - kept, not 1.0 - kept <= most + _SLACK
    value = f"{points_of(lost)} points"
    over = f", over {points_of(most)}" if broken else ""
    reason = f"of {clean(name)}, by {measures.get(name, 'agreement')} with the original{over}"
    return _check(OTHERS, broken, limit, value, reason, 100 * lost)


def _lost(score: Score | None, before: Score | None) -> Loss | None:
    if score is None or before is None:
        return None
    return Loss(before.value - score.value, score.loss_standard_error)


def _check(name: str, broken: bool, limit: str, value: str, reason: str, measurement: float) -> Check:
    unit = {"latency": "us", "params": "parameters", "size": "bytes"}.get(name, "points")
    return Check(name, "fail" if broken else "pass", limit, value, reason, measurement, unit)


def bracket_text(latency: Latency) -> str:
    """Return a latency with its bracket or spread."""
    return f"{number_text(latency.us)} us [{number_text(latency.low_us)}..{number_text(latency.high_us)}]"


def loss_text(loss: Loss) -> str:
    """Return a loss in points with half its 95 % interval."""
    within = "" if loss.margin is None else f" ± {100 * loss.margin:.2g}"
    return f"{points_of(loss.value)}{within} points"


def number_text(value: float) -> str:
    """Return a number with four significant digits, or all digits before the point.

    >>> number_text(17.88321), number_text(200.0), number_text(0.0412345), number_text(12345.6)
    ('17.88', '200', '0.04123', '12,346')
    """
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def points_of(fraction: float) -> str:
    """Return a fraction in points.

    >>> points_of(0.0095), points_of(0.01), points_of(-0.0005), points_of(0.0)
    ('0.95', '1', '-0.05', '0')
    """
    return f"{round(100 * fraction, 4) + 0.0:.4g}"
