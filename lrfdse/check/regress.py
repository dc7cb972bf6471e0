"""Regressions against an earlier run: by what is known of the numbers' uncertainty, never by a bare difference."""

from __future__ import annotations

import math

from lrfdse.check.limits import UNMEASURED, latency_text, loss_text, number, points
from lrfdse.check.result import Entry, Result
from lrfdse.check.verdict import Check
from lrfdse.errors import InputError

REGRESSIONS = ("latency-regression", "params-regression", "loss-regression")
"""Names of the checks against a baseline."""

_STANDARD_ERRORS = 2.0
"""How many standard errors of the difference a loss must have grown by."""


def refuse_other(result: Result, baseline: Result) -> None:
    """Do nothing where `baseline` is an earlier run of the same model, on the same target, with the same meter.

    Raises
    ------
    InputError
        It is not, so that no difference between the two means anything.
    """
    pairs = [("target", result.target, baseline.target), ("meter", result.meter, baseline.meter)]
    if result.model and baseline.model:
        pairs.insert(0, ("model", result.model, baseline.model))
    elif result.model_sha256 != baseline.model_sha256 and result.layers != baseline.layers:
        pairs.insert(0, ("layers", _layers(result), _layers(baseline)))
    for what, ours, theirs in pairs:
        if ours != theirs:
            raise InputError(
                f"--baseline {baseline.path}: its {what} is {theirs}, but {result.path} is of {ours}; compare runs of "
                "the same model, target and meter, or accept this one with --update-baseline"
            )


def check_regressions(
    result: Result, design: Entry, baseline: Result, before: Entry, most: float, accepted: bool = False
) -> list[Check]:
    """Compare `design` with the baseline's.

    Parameters
    ----------
    result, design
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
        _latency(result, design, baseline, before, most),
        _params(design, before, most),
        _loss(result, design, baseline, before),
    ]
    if accepted:
        return [_accepted(check) if check.verdict == "fail" else check for check in checks]
    return checks


def changed_versions(result: Result, baseline: Result) -> str | None:
    """Say which versions differ between the runs, or return None: another compiler is a reason for other numbers."""
    names = sorted(set(result.versions) | set(baseline.versions))
    changes = [
        f"{name} {baseline.versions.get(name, 'none')} -> {result.versions.get(name, 'none')}"
        for name in names
        if result.versions.get(name) != baseline.versions.get(name)
    ]
    return "versions differ from the baseline's: " + ", ".join(changes) if changes else None


def _latency(result: Result, design: Entry, baseline: Result, before: Entry, most: float) -> Check:
    name, value, factor = REGRESSIONS[0], latency_text(design), 1 + most
    limit = f"at most {_percent(most)} over {latency_text(before)}"
    if result.target_digest != baseline.target_digest:
        reason = f"the description of {result.target} has changed since the baseline; accept it with --update-baseline"
        return Check(name, "skip", limit, value, reason)
    ours, theirs = result.versions.get("machine"), baseline.versions.get("machine")
    if not result.is_modelled and ours != theirs:
        return Check(name, "skip", limit, value, f"measured on another machine: {theirs}, now {ours}")
    grown = _grown(design.us, before.us)
    if result.is_modelled:
        ends = (design.low_us > factor * before.low_us, design.high_us > factor * before.high_us)
        beyond, sure = any(ends) or design.us > factor * before.us, all(ends)
        doubt = "not at both ends of the bracket"
    else:
        beyond, sure = design.us > factor * before.us, design.low_us > before.high_us
        doubt = "the spreads overlap"
    if not (beyond and sure):
        reason = f"{grown}, but {doubt}" if beyond else grown
        return Check(name, "pass", limit, value, reason, design.us, "us")
    return Check(name, "fail", limit, value, f"{grown}, over {_percent(most)}", design.us, "us")


def _params(design: Entry, before: Entry, most: float) -> Check:
    limit, grown = f"at most {_percent(most)} over {before.params:,}", _grown(design.params, before.params)
    failed = design.params > before.params * (1 + most)
    reason = f"{grown}, over {_percent(most)}" if failed else grown
    return Check(
        REGRESSIONS[1], "fail" if failed else "pass", limit, f"{design.params:,}", reason, design.params, "parameters"
    )


def _loss(result: Result, design: Entry, baseline: Result, before: Entry) -> Check:
    name = REGRESSIONS[2]
    if not result.verified:
        return Check(name, "skip", reason=UNMEASURED, unmeasured=True)
    if not baseline.verified:
        return Check(name, "skip", reason="the baseline had no evaluation data: no loss was measured", unmeasured=True)
    if result.metric != baseline.metric:
        reason = f"scored by {result.metric}, the baseline by {baseline.metric}"
        return Check(name, "skip", reason=reason)
    now, then = result.loss(design), baseline.loss(before)
    if now is None or then is None:
        which = "the baseline" if then is None else "this run"
        return Check(name, "skip", reason=f"{which} holds no {result.metric}")
    if now.standard_error is None or then.standard_error is None:
        which = "the baseline" if then.standard_error is None else "this run"
        return Check(name, "skip", value=loss_text(now), reason=f"{which} holds no standard error of the loss")
    allowed = _STANDARD_ERRORS * math.hypot(now.standard_error, then.standard_error)
    growth = now.loss - then.loss
    limit = f"at most {points(allowed)} over {points(then.loss)} points (2 standard errors)"
    value = loss_text(now)
    failed = growth > allowed + 1e-9
    reason = f"{points(growth)} points more lost than before, over {points(allowed)}" if failed else ""
    return Check(name, "fail" if failed else "pass", limit, value, reason, 100 * now.loss, "points")


def _accepted(check: Check) -> Check:
    return Check(
        check.name, "pass", check.limit, check.value, f"{check.reason}: accepted", check.measurement, check.unit
    )


def _layers(result: Result) -> str:
    return ", ".join(f"{name} {outputs}x{inputs}" for name, outputs, inputs in result.layers) or "unknown"


def _grown(now: float, before: float) -> str:
    return f"{100 * (now / before - 1):+.3g}%" if before > 0 else f"{number(before)} -> {number(now)}"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:g}%"
