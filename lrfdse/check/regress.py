"""Regressions against an earlier run: by what is known of the numbers' uncertainty, never by a bare difference."""

from __future__ import annotations

import math
from pathlib import Path

from lrfdse.base.text import clean
from lrfdse.check.limits import UNMEASURED, bracket_text, eval_loss, loss_text, number_text, points_of
from lrfdse.check.verdict import Check
from lrfdse.errors import InputError
from lrfdse.results.designs import DesignFacts
from lrfdse.results.document import Document

REGRESSIONS = ("latency-regression", "params-regression", "loss-regression")
"""Names of the checks against a baseline."""

_STANDARD_ERRORS = 2.0
"""How many standard errors of the difference a loss must have grown by. Chosen, not measured: without any change, about
one run in forty exceeds it (one-sided, normal)."""


def refuse_other(document: Document, baseline: Document, file: Path, baseline_file: Path) -> None:
    """Do nothing where `baseline` is an earlier run of the same model, on the same target, with the same meter.

    The files name the two in the message.

    Raises
    ------
    InputError
        It is not, so that no difference between the two means anything.
    """
    pairs = [
        ("target", document.target.name, baseline.target.name),
        ("meter", document.meter.name, baseline.meter.name),
    ]
    if document.title and baseline.title:
        pairs.insert(0, ("model", document.title, baseline.title))
    elif document.model.sha256 != baseline.model.sha256:
        pairs.insert(0, ("layers", _layers(document), _layers(baseline)))
    for what, ours, theirs in pairs:
        if ours != theirs:
            raise InputError(
                f"--baseline {baseline_file}: its {what} is {clean(theirs)}, but {file} is of {clean(ours)}; compare "
                "runs of the same model, target and meter, or accept this one with --update-baseline"
            )


def check_regressions(
    document: Document,
    design: DesignFacts,
    baseline: Document,
    before: DesignFacts,
    most: float,
    accepted: bool = False,
) -> list[Check]:
    """Compare `design` with the baseline's.

    Parameters
    ----------
    document, design
        The current run and its design.
    baseline, before
        The earlier run and its design.
    most
        By what fraction latency and parameters may grow.
    accepted
        Whether growth is what the user wants to record: nothing fails then.

    Notes
    -----
    A modelled latency has a bracket from "memory traffic overlaps with computing" to "it does not". Where in the
    bracket a core lies is unknown, but the same in both runs, and the latency is linear in it: it grew by more than
    `most` wherever that is exactly where both ends did. A measured latency grew where its value did and the two spreads
    have no point in common. Parameters are counted, so any growth by more than `most` is one. A loss of accuracy grew
    where the growth exceeds two standard errors, those of both runs taken together as independent; on the same data
    they are not quite, which errs on the quiet side.
    """
    checks = [
        _latency(document, design, baseline, before, most),
        _params(design, before, most),
        _loss(document, design, baseline, before),
    ]
    if accepted:
        return [_accepted(check) if check.verdict == "fail" else check for check in checks]
    return checks


def changed_versions(document: Document, baseline: Document) -> str | None:
    """Say which versions differ between the runs, or return None: another compiler is a reason for other numbers."""
    now, then = document.versions, baseline.versions
    changes = [
        f"{name} {then.get(name, 'none')} -> {now.get(name, 'none')}"
        for name in sorted(set(now) | set(then))
        if now.get(name) != then.get(name)
    ]
    return clean("versions differ from the baseline's: " + ", ".join(changes)) if changes else None


def _latency(document: Document, design: DesignFacts, baseline: Document, before: DesignFacts, most: float) -> Check:
    now, then = design.charged, before.charged
    name, value, factor = REGRESSIONS[0], bracket_text(now), 1 + most
    limit = f"at most {_percent(most)} over {bracket_text(then)}"
    if document.target.digest != baseline.target.digest:
        target = clean(document.target.name)
        reason = f"the description of {target} has changed since the baseline; accept it with --update-baseline"
        return Check(name, "skip", limit, value, reason)
    modelled = document.meter.kind == "modelled"
    ours, theirs = document.versions.get("machine"), baseline.versions.get("machine")
    if not modelled and ours != theirs:
        return Check(name, "skip", limit, value, clean(f"measured on another machine: {theirs}, now {ours}"))
    grown = _grown(now.us, then.us)
    if modelled:
        ends = (now.low_us > factor * then.low_us, now.high_us > factor * then.high_us)
        beyond, sure = any(ends) or now.us > factor * then.us, all(ends)
        doubt = "not at both ends of the bracket"
    else:
        beyond, sure = now.us > factor * then.us, now.low_us > then.high_us
        doubt = "the spreads overlap"
    if not (beyond and sure):
        reason = f"{grown}, but {doubt}" if beyond else grown
        return Check(name, "pass", limit, value, reason, now.us, "us")
    return Check(name, "fail", limit, value, f"{grown}, over {_percent(most)}", now.us, "us")


def _params(design: DesignFacts, before: DesignFacts, most: float) -> Check:
    limit, grown = f"at most {_percent(most)} over {before.params:,}", _grown(design.params, before.params)
    failed = design.params > before.params * (1 + most)
    reason = f"{grown}, over {_percent(most)}" if failed else grown
    return Check(
        REGRESSIONS[1], "fail" if failed else "pass", limit, f"{design.params:,}", reason, design.params, "parameters"
    )


def _loss(document: Document, design: DesignFacts, baseline: Document, before: DesignFacts) -> Check:
    name = REGRESSIONS[2]
    if not document.verified:
        return Check(name, "skip", reason=UNMEASURED, unmeasured=True)
    if not baseline.verified:
        return Check(name, "skip", reason="the baseline had no evaluation data: no loss was measured", unmeasured=True)
    if document.metric != baseline.metric:
        reason = clean(f"scored by {document.metric}, the baseline by {baseline.metric}")
        return Check(name, "skip", reason=reason)
    now, then = eval_loss(document, design), eval_loss(baseline, before)
    if now is None or then is None:
        which = "the baseline" if then is None else "this run"
        return Check(name, "skip", reason=clean(f"{which} holds no {document.metric}"))
    if now.standard_error is None or then.standard_error is None:
        which = "the baseline" if then.standard_error is None else "this run"
        return Check(name, "skip", value=loss_text(now), reason=f"{which} holds no standard error of the loss")
    allowed = _STANDARD_ERRORS * math.hypot(now.standard_error, then.standard_error)
    growth = now.value - then.value
    limit = f"at most {points_of(allowed)} over {points_of(then.value)} points (2 standard errors)"
    value = loss_text(now)
    failed = growth > allowed + 1e-9
    reason = f"{points_of(growth)} points more lost than before, over {points_of(allowed)}" if failed else ""
    return Check(name, "fail" if failed else "pass", limit, value, reason, 100 * now.value, "points")


def _accepted(check: Check) -> Check:
    return Check(
        check.name, "pass", check.limit, check.value, f"{check.reason}: accepted", check.measurement, check.unit
    )


def _layers(document: Document) -> str:
    return ", ".join(f"{layer.name} {layer.outputs}x{layer.inputs}" for layer in document.layers) or "unknown"


def _grown(now: float, before: float) -> str:
    return f"{100 * (now / before - 1):+.3g}%" if before > 0 else f"{number_text(before)} -> {number_text(now)}"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:g}%"
