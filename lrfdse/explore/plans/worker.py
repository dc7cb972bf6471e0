"""Those who evaluate what another process proposes: helpers on its machine, and workers that join from others."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrfdse.base.events import Event, Listener, silent
from lrfdse.base.processes import end_with_parent
from lrfdse.base.store import Store
from lrfdse.base.text import counted
from lrfdse.errors import InputError, LrfdseError, PlanError
from lrfdse.explore.allowed import require_allowed

if TYPE_CHECKING:
    from lrfdse.explore.inputs import Files
    from lrfdse.explore.plans.job import Job, TrialRequest
    from lrfdse.search.study.queue import Proposal, Queue


_FIRST_LOOK, _LAST_LOOK = 0.1, 2.0
"""Seconds between looks at a study in which nothing waits, at first and at last."""


@dataclass(frozen=True, slots=True)
class WorkerSummary:
    """What a worker did, and why it left."""

    evaluated: int
    """Plans that it scored."""
    failed: int
    """Plans that cannot be evaluated."""
    why: str
    """Why it left, as a clause."""


def work(
    url: str,
    name: str | None,
    artifacts: Path | None = None,
    cache: Path | None = None,
    idle: float = 10.0,
    trials: int | None = None,
    metric: str | None = None,
    progress: Listener = silent,
    wait: float | None = None,
) -> WorkerSummary:
    """Join a study and evaluate plans until it is finished.

    Parameters
    ----------
    url, name
        The study's storage and name; without a name, the only study in the storage.
    artifacts
        The artifact store that the exploration writes to; default: ``artifacts`` beside a study's file.
    cache
        Where fits and fetched files are kept.
    idle
        Minutes without anything to do after which to leave; before the study is there, they do not count.
    wait
        Minutes to wait for the study to be made; None for as long as it takes.
    trials
        Plans after which to leave.
    metric
        The metric of the user's own (MODULE:FUNCTION) that this machine may run; registered metrics are always allowed.
    progress
        Told what happens.

    Raises
    ------
    InputError
        There is no such study, what it shares cannot be used, or it is of another version of lrfdse.
    ToolError
        The storage cannot be reached.
    """
    from lrfdse.base.folders import cache_folder
    from lrfdse.explore.plans.share import fetch
    from lrfdse.search.study.storage import storage_errors

    with storage_errors(url):
        queue = _joined(url, name, idle, wait, progress)
        try:
            _check_code(queue)
            store = artifacts or _store_beside(url)
            request, files = fetch(queue, store, cache or cache_folder())
            require_allowed(request.data.metric, metric, "the study")
            require_same_method(request.fit.method, queue.facts().get("method"))
            layers = counted(len(request.layers), "layer")
            progress(Event("note", f"study {queue.name}: {layers}, target {request.target.name}"))
            return _serve(queue, open_job(request, files, queue.facts().get("score")), idle, trials, progress)
        finally:
            queue.close()


def _joined(url: str, name: str | None, idle: float, wait: float | None, progress: Listener) -> Queue:
    """Return the study as soon as whoever explores has made it and shares its parts.

    Kernels are compiled and timed before there is a study, which may take an hour; its parts follow within seconds.
    """
    from lrfdse.explore.plans.share import SHARED
    from lrfdse.search.study.opening import join_study

    since, seen, told = time.monotonic(), False, False
    while True:
        queue = join_study(url, name)
        if queue is not None and not seen:
            since, seen = time.monotonic(), True
        limit = idle if queue is not None else wait
        over = limit is not None and time.monotonic() - since >= 60 * limit
        if queue is not None and (over or SHARED in queue.facts()):
            return queue
        if queue is not None:
            queue.close()
        elif over:
            wrong = f"--study-name {name}: no such study" if name else "--study: no study"
            raise InputError(f"{wrong} in this storage after {counted(wait or 0, 'minute')}")
        if not told:
            progress(
                Event("note", f"waiting until {f'study {name}' if name else 'a study'} is there; Ctrl-C ends this")
            )
            told = True
        time.sleep(_LAST_LOOK)


def _serve(queue: Queue, job: Job, idle: float, trials: int | None, progress: Listener) -> WorkerSummary:
    evaluated = failed = 0
    since, pause = time.monotonic(), _FIRST_LOOK
    while trials is None or evaluated + failed < trials:
        if queue.is_over:
            return WorkerSummary(evaluated, failed, "the study is finished")
        if (proposal := queue.take()) is None:
            if time.monotonic() - since >= 60 * idle:
                return WorkerSummary(evaluated, failed, f"nothing to do for {counted(idle, 'minute')}")
            time.sleep(pause)
            pause = min(1.5 * pause, _LAST_LOOK)
            continue
        if _evaluated(queue, proposal, job, progress):
            evaluated += 1
        else:
            failed += 1
        since, pause = time.monotonic(), _FIRST_LOOK
        progress(Event("plans", f"{evaluated} evaluated", evaluated, trials))
    return WorkerSummary(evaluated, failed, f"--trials {trials} were asked for")


def _evaluated(queue: Queue, proposal: Proposal, job: Job, progress: Listener) -> bool:
    """Evaluate one plan; return False where it cannot be.

    Whatever else is raised here ends this process, and the plan goes back to the queue: it may be this machine's fault.
    """
    from lrfdse.explore.plans.job import evaluate

    dense = tuple("dense" for _ in job.layers)
    known = queue.snapshot().finished.get(dense)
    try:
        evaluate(queue, proposal, job, None if known is None else known.score)
    except PlanError as error:
        queue.fail(proposal, str(error))
        progress(Event("note", f"trial {proposal.number} cannot be evaluated: {error}"))
        return False
    return True


def open_job(request: TrialRequest, files: Files, score: Any = None) -> Job:
    """Return what evaluates plans in this process, as another one has asked.

    Parameters
    ----------
    request, files
        How plans are evaluated, and where the model, the data and earlier results lie on this machine.
    score
        The key of the study's metric; None where the metric need not be compared.

    Raises
    ------
    InputError
        The files cannot be used, or the metric's code on this machine is not that of the study.
    """
    from lrfdse.explore.inputs import open_inputs
    from lrfdse.explore.layers.fits import open_builder
    from lrfdse.explore.layers.found_fits import found_fits
    from lrfdse.explore.plans.assemble import metric_of
    from lrfdse.explore.plans.evaluator import Evaluator
    from lrfdse.explore.plans.job import Job

    inputs, layers = open_inputs(files, request.data), request.layers
    if score is not None and inputs.scorer.key != score:
        raise InputError(f"metric {inputs.scorer.name}: its code on this machine is not that of whoever explores")
    explored = [result.layer.name for result in layers if result.kept_dense is None]
    calibrated = {
        result.layer.name for result in layers if any(option.output_error is not None for option in result.options)
    }
    cache = Store(files.cache)
    fits = found_fits(request.fit, inputs.model, inputs.calib, explored, calibrated, cache)
    evaluator = Evaluator(open_builder(request.fit, inputs.model, inputs.calib, fits, cache), inputs)
    return Job(layers, request.target, request.limits, metric_of(inputs), evaluator, inputs.verified)


def help_until_ended(request: TrialRequest, files: Files, url: str, name: str) -> None:
    """Evaluate plans of a study until the parent ends this process, or something fails that is not the plan's fault.

    The plan that was under way then goes back to the queue, where the parent finds out itself, and says so.
    """
    from lrfdse.search.study.opening import join_study

    end_with_parent()
    # The parent reports what is wrong with the storage or the inputs; here it would be said once a process.
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (held as long as the process)
    with contextlib.suppress(LrfdseError):
        queue = join_study(url, name)
        if queue is None:
            return
        job = open_job(request, files)
        while True:
            if (proposal := queue.take()) is None:
                time.sleep(_FIRST_LOOK)
                continue
            try:
                _evaluated(queue, proposal, job, silent)
            except Exception:
                queue.close()
                raise


def _check_code(queue: Queue) -> None:
    """Refuse a study of other code: its scores would not be comparable."""
    from lrfdse.explore.identity import code_identity
    from lrfdse.search.study.opening import differing

    here, there = code_identity(), queue.facts()
    if there.get("lrfdse") != here["lrfdse"]:
        raise InputError(
            f"study {queue.name!r} is explored with lrfdse {there.get('lrfdse')}, but this machine has "
            f"{here['lrfdse']}: install the same version on both"
        )
    if parts := differing(there.get("code"), here["code"]):
        raise InputError(
            f"study {queue.name!r} is explored with other code or libraries than this machine has ({parts}): "
            "install the same versions on both"
        )


def require_same_method(method: str, there: Any) -> None:
    """Refuse a fitting method whose code is not that of whoever explores: a plug-in may differ between machines.

    Parameters
    ----------
    method
        The method's name.
    there
        What identifies its code where the study is explored; None where the study does not say.
    """
    from lrfdse.factorize.methods import METHODS

    here = METHODS.identity(method)
    if there is not None and here != there:
        raise InputError(
            f"the study's fitting method is {there}, but this machine has {here}: install the same version of the "
            "plug-in on both"
        )


def _store_beside(url: str) -> Path:
    """Return the default store of a study in a file."""
    from lrfdse.search.study.urls import scheme_of

    if scheme_of(url) == "":
        return Path(url).parent / "artifacts"
    if scheme_of(url).startswith("sqlite"):
        return Path(url.partition(":///")[2].partition("?")[0]).parent / "artifacts"
    raise InputError("name the artifact store of the exploration with --artifacts: the storage does not tell it")
