"""``lrfdse check``: from a folder and limits to a verdict on each."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from lrfdse.base.files import write_atomically
from lrfdse.base.log import LastRun, last_run
from lrfdse.base.text import clean
from lrfdse.check.limits import UNMEASURED, WHOLE, check_limits, check_whole_model, eval_loss, limit_names
from lrfdse.check.regress import REGRESSIONS, changed_versions, check_regressions, refuse_other
from lrfdse.check.verdict import Check, CheckReport
from lrfdse.errors import InputError
from lrfdse.results.asked import Limits
from lrfdse.results.designs import DesignFacts
from lrfdse.results.document import Document, model_name
from lrfdse.results.read import FRONT, read_document


@dataclass(frozen=True, slots=True)
class Request:
    """What to check."""

    source: Path
    """The output folder of an exploration, or a ``front.json``."""
    design: str | None = None
    """Id of the design to check; None means the recommended one."""
    limits: Limits = field(default_factory=Limits)
    """Limits to check; empty ones, and none on the whole model, mean those that the exploration was given."""
    max_model_latency_us: float | None = None
    """Highest warm latency of the whole model (us); None asks for nothing."""
    baseline: Path | None = None
    """A ``front.json`` of an earlier run, or a folder that holds one."""
    max_regression: float = 0.05
    """By what fraction latency and parameters may exceed the baseline's."""
    update_baseline: bool = False
    """Whether the current run becomes the baseline where no limit is broken."""
    strict: bool = False
    """Whether a check fails that would be skipped because nobody measured what it is about."""


def check(request: Request) -> CheckReport:
    """Check one design of an exploration against limits and an earlier run.

    Where the last exploration into the folder failed or did not end, an older ``front.json`` beside its log is not
    looked at: the verdict is "error" ("skip" where the device was not there).

    Raises
    ------
    InputError
        There is nothing to check, a file is no ``front.json``, the design is unknown, or the baseline is of another
        model, target or meter.
    """
    file = _file_of(request.source)
    run = last_run(file.parent) if file.name == FRONT else None
    if run is not None and run.state != "finished":
        return _no_result(request, run)
    if not file.is_file():
        raise InputError(f"{request.source}: holds no {FRONT}: explore into it first (lrfdse explore MODEL -o DIR)")
    document = read_document(file, whole=False)
    limits = request.limits if _names(request.limits, request) else document.settings.limits
    baseline = _baseline(request, document, file)
    design = _design(document, request.design, file)
    if design is None and document.is_refused:
        checks = [Check("design", "skip", reason=f"no design is recommended: {UNMEASURED}", unmeasured=True)]
        checks += _skipped(limits, request, "no design is recommended; name one with --design", unmeasured=True)
    elif design is None:
        checks = [Check("design", "fail", "one within the exploration's limits", "none", "nothing satisfies them")]
        checks += _skipped(limits, request, "no design is recommended; name one with --design")
    else:
        checks = check_limits(document, design, limits)
        whole = limits.max_model_latency_us if request.max_model_latency_us is None else request.max_model_latency_us
        if whole is not None:
            checks.append(check_whole_model(design, whole, document.meter.kind))
        if request.baseline is not None:
            checks += _against(request, document, design, baseline)
    if request.strict:
        checks = [dataclasses.replace(c, verdict="fail") if c.unmeasured else c for c in checks]
    notes = [changed_versions(document, baseline)] if baseline is not None else []
    if request.update_baseline and request.baseline is not None:
        notes.append(_updated(request.baseline, file, any(check.verdict == "fail" for check in checks)))
    return CheckReport(
        source=request.source,
        model=clean(document.title),
        target=clean(document.target.name),
        meter=clean(document.meter.name),
        checks=tuple(checks),
        kind=document.meter.kind,
        design=design,
        original=document.original,
        loss=None if design is None else eval_loss(document, design),
        notes=tuple(note for note in notes if note),
        version=clean(document.versions.get("lrfdse", "")),
    )


def _file_of(source: Path) -> Path:
    return source / FRONT if source.is_dir() else source


def _baseline(request: Request, document: Document, current: Path) -> Document | None:
    if request.baseline is None:
        return None
    file = _file_of(request.baseline)
    if not file.exists():
        if request.update_baseline:
            return None
        raise InputError(f"--baseline {request.baseline}: not there; --update-baseline makes it from this run")
    try:
        baseline = read_document(file, whole=False)
        refuse_other(document, baseline, current, file)
    except InputError:
        if request.update_baseline:
            return None
        raise
    return baseline


def _design(document: Document, identity: str | None, file: Path) -> DesignFacts | None:
    if identity is None:
        return document.best
    if (found := document.design(identity)) is None:
        raise InputError(f"--design {identity}: no design of {file} has this id")
    return found


def _against(request: Request, document: Document, design: DesignFacts, baseline: Document | None) -> list[Check]:
    if baseline is None:
        return [Check(name, "skip", reason="the baseline is made by this run") for name in REGRESSIONS]
    # A design that was named is compared with itself where the baseline has it: then the plan is the same.
    named = baseline.design(design.id) if request.design is not None else None
    before = named or baseline.best
    if before is None:
        return [Check(name, "skip", reason="the baseline recommends no design") for name in REGRESSIONS]
    return check_regressions(document, design, baseline, before, request.max_regression, request.update_baseline)


def _updated(baseline: Path, file: Path, broken: bool) -> str:
    target = _file_of(baseline)
    if broken:
        return f"{target} was left as it is: a limit is broken"
    write_atomically(target, file.read_bytes())
    return f"{target} is now this run"


def _no_result(request: Request, run: LastRun) -> CheckReport:
    if run.state == "started":
        reason = "the last exploration did not finish: it was killed, or is still running"
    else:
        causes = {"input": "bad input", "tool": "a tool or device failed", "device": "the device is not here"}
        cause = causes.get(run.kind or "", "it was interrupted" if run.kind == "interrupted" else "an internal error")
        reason = f"the last exploration failed: {cause}" + (f": {clean(run.text)}" if run.text else "")
    absent = run.kind == "device"
    first = Check("exploration", "skip" if absent else "error", "finished", run.state, reason)
    rest = _skipped(request.limits, request, "the device is not here" if absent else "there is no result")
    return CheckReport(
        source=request.source,
        model=clean(model_name(run.model)),
        target=clean(run.target),
        meter="",
        checks=(first, *rest),
        input_error=run.kind == "input",
    )


def _names(limits: Limits, request: Request) -> list[str]:
    """Return the names of the checks of limits that are asked for."""
    return [*limit_names(limits), *([] if request.max_model_latency_us is None else [WHOLE])]


def _skipped(limits: Limits, request: Request, reason: str, unmeasured: bool = False) -> list[Check]:
    names = [*_names(limits, request), *(REGRESSIONS if request.baseline is not None else ())]
    return [Check(name, "skip", reason=reason, unmeasured=unmeasured) for name in names]
