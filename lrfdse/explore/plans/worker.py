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
from lrfdse.errors import InputError, LrfdseError

if TYPE_CHECKING:
    from lrfdse.explore.plans.trials import Job
    from lrfdse.results.exploration import LayerResult
    from lrfdse.results.settings import Settings
    from lrfdse.search.study.queue import Proposal, Queue


_FIRST_LOOK, _LAST_LOOK = 0.1, 2.0
"""Seconds between looks at a study in which nothing waits, at first and at last."""


@dataclass(frozen=True, slots=True)
class Worked:
    """What a worker did."""

    evaluated: int
    failed: int
    why: str
    """Why it left."""


def work(
    url: str,
    name: str | None,
    artifacts: Path | None = None,
    cache: Path | None = None,
    idle: float = 10.0,
    trials: int | None = None,
    metric: str | None = None,
    listen: Listener = silent,
) -> Worked:
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
        Minutes without anything to do after which to leave.
    trials
        Plans after which to leave.
    metric
        The metric of the user's own (MODULE:FUNCTION) that this machine may run; the built-in ones need no leave.
    listen
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
        queue = _joined(url, name, idle, listen)
        try:
            _check_code(queue)
            store = artifacts or _store_beside(url)
            settings, layers = fetch(queue, store, cache or cache_folder())
            _check_metric(settings, metric)
            _check_method(settings, queue.facts().get("method"))
            listen(Event("note", f"study {queue.name}: {len(layers)} layers, target {settings.target.name}"))
            return _serve(queue, _job(settings, layers, queue.facts().get("score")), idle, trials, listen)
        finally:
            queue.close()


def _joined(url: str, name: str | None, idle: float, listen: Listener) -> Queue:
    """Return the study as soon as whoever explores has made it and shares its parts."""
    from lrfdse.explore.plans.share import SHARED
    from lrfdse.search.study.opening import join_study

    deadline, told = time.monotonic() + 60 * idle, False
    while True:
        queue = join_study(url, name)
        if queue is not None and (SHARED in queue.facts() or time.monotonic() >= deadline):
            return queue
        if queue is not None:
            queue.close()
        if time.monotonic() >= deadline:
            raise InputError(f"--study-name {name}: no such study in this storage" if name else "no study is there yet")
        if not told:
            listen(Event("note", f"waiting for study {name or '(any)'}"))
            told = True
        time.sleep(_LAST_LOOK)


def _serve(queue: Queue, job: Job, idle: float, trials: int | None, listen: Listener) -> Worked:
    evaluated = failed = 0
    since, pause = time.monotonic(), _FIRST_LOOK
    while trials is None or evaluated + failed < trials:
        if queue.is_over:
            return Worked(evaluated, failed, "the study is finished")
        if (proposal := queue.take()) is None:
            if time.monotonic() - since >= 60 * idle:
                return Worked(evaluated, failed, f"nothing to do for {idle:g} minutes")
            time.sleep(pause)
            pause = min(1.5 * pause, _LAST_LOOK)
            continue
        if _evaluated(queue, proposal, job, listen):
            evaluated += 1
        else:
            failed += 1
        since, pause = time.monotonic(), _FIRST_LOOK
        listen(Event("plans", f"{evaluated} evaluated", evaluated, trials))
    return Worked(evaluated, failed, f"{trials} plans were asked for")


def _evaluated(queue: Queue, proposal: Proposal, job: Job, listen: Listener) -> bool:
    """Evaluate one plan; return False where it cannot be."""
    from lrfdse.explore.plans.trials import evaluate

    dense = tuple("dense" for _ in job.layers)
    known = queue.snapshot().finished.get(dense)
    try:
        evaluate(queue, proposal, job, None if known is None else known.score)
    except InputError as error:
        queue.fail(proposal, str(error))
        listen(Event("note", f"trial {proposal.number} cannot be evaluated: {error}"))
        return False
    return True


def _job(settings: Settings, layers: tuple[LayerResult, ...], score: Any = None) -> Job:
    """Return how plans are evaluated here; refused where the metric's code is not that of the study (`score`)."""
    from lrfdse.explore.inputs import open_inputs
    from lrfdse.explore.layers.fits import found_fits
    from lrfdse.explore.plans.assemble import metric_of
    from lrfdse.explore.plans.evaluator import Evaluator
    from lrfdse.explore.plans.trials import Job
    from lrfdse.repair.builder import Builder
    from lrfdse.repair.corrections import open_corrections

    inputs = open_inputs(settings)
    if score is not None and inputs.scorer.key != score:
        raise InputError(f"metric {inputs.scorer.name}: its code on this machine is not that of whoever explores")
    calibrated = {
        result.layer.name for result in layers if any(option.output_error is not None for option in result.options)
    }
    cache = Store(settings.cache)
    fits = found_fits(settings, inputs.model, inputs.calib, calibrated, cache)
    corrections = open_corrections(settings, inputs.model, inputs.calib, fits, cache)
    return Job(settings, layers, metric_of(inputs), Evaluator(Builder(inputs.model, fits, corrections), inputs))


def _help(settings: Settings, layers: tuple[LayerResult, ...], url: str, name: str) -> None:
    """Evaluate until the parent ends this process."""
    from lrfdse.search.study.opening import join_study

    end_with_parent()
    # The parent reports what is wrong with the storage or the inputs; here it would be said once a process.
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (held as long as the process)
    with contextlib.suppress(LrfdseError):
        queue = join_study(url, name)
        if queue is None:
            return
        job = _job(settings, layers)
        while True:
            if (proposal := queue.take()) is None:
                time.sleep(_FIRST_LOOK)
            else:
                _evaluated(queue, proposal, job, silent)


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


def _check_metric(settings: Settings, allowed: str | None) -> None:
    """Run a function that the study names only where the user of this machine names it too."""
    if settings.metric is not None and ":" in settings.metric and settings.metric != allowed:
        raise InputError(
            f"the study is scored by {settings.metric}, which is no part of lrfdse: put it on this machine and let it "
            f"run with --metric {settings.metric}"
        )


def _check_method(settings: Settings, there: Any) -> None:
    """Refuse a fitting method whose code is not that of whoever explores: a plug-in may differ between machines."""
    from lrfdse.factorize.methods import METHODS

    here = METHODS.identity(settings.space.method)
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
