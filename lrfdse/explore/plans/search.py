"""From measured choices per layer to evaluated designs: the knapsack's front, then the stages of the search."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lrfdse.base.events import Event, Listener
from lrfdse.base.text import counted
from lrfdse.errors import InputError
from lrfdse.explore.plans.assemble import metric_of, warm_words
from lrfdse.explore.plans.evaluator import Evaluator
from lrfdse.explore.plans.job import Job
from lrfdse.explore.plans.stages import STAGES, Search, Stage
from lrfdse.explore.plans.trials import Trials
from lrfdse.ir.latency import Regime
from lrfdse.ir.plan import Design
from lrfdse.ir.storage import FLOAT32

if TYPE_CHECKING:
    from lrfdse.explore.inputs import Files, Inputs
    from lrfdse.explore.plans.job import TrialRequest
    from lrfdse.explore.plans.proxy import Errors
    from lrfdse.explore.plans.trials import SearchRequest
    from lrfdse.results.exploration import LayerResult, MeasuredChoice, StudyPlace
    from lrfdse.results.settings import Limits
    from lrfdse.search.plans.tables import LayerTable, PlanFront
    from lrfdse.search.samplers.protocol import Sampler, Space


_NAMED = 6
"""Plans that a note names at most. Chosen."""

USEFUL_ERROR = 0.25
"""Predicted error, averaged over layers, beyond which no model is worth a look, whatever predicts it."""


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search found."""

    baseline: Design
    designs: tuple[Design, ...]
    """Every evaluated design, in the order in which the plans were proposed."""
    recommended: Design | None
    plain: Design | None
    """The best SVD design at no more parameters than the recommended one, where that is another."""
    gap: float
    """End-to-end relative gap of the knapsack; 0 is exact."""
    notes: tuple[str, ...] = ()
    """What the reader of the results must know."""


@dataclass(frozen=True, slots=True)
class StudyRequest:
    """Where plans wait for evaluation and results are kept, and what those who evaluate them must know."""

    place: StudyPlace
    identity: Mapping[str, Any]
    """What all trials of the study have in common."""
    trial: TrialRequest
    files: Files


def search_plans(
    request: SearchRequest,
    study: StudyRequest,
    inputs: Inputs,
    evaluator: Evaluator,
    errors: Errors,
    progress: Listener,
    deadline: float | None = None,
    stages: Sequence[Stage] = STAGES,
) -> SearchResult:
    """Evaluate at most `request.budget` plans, each as a trial of the study, and return all of them as designs.

    Parameters
    ----------
    request
        The budget, the sampler, and the limits of the recommended design.
    study
        Where plans are evaluated, and of which layers for which target.
    inputs, evaluator
        The model and its data, and what scores plans on them here.
    errors
        Predicted error of every option, by layer and factorization.
    progress
        Told how far the search is.
    deadline
        `time.monotonic` from which on nothing new is begun; None means never.
    stages
        What is done once the original model is evaluated.

    Raises
    ------
    InputError
        The sampler tries every plan, and the space has more of them than the budget; or the study's name or storage
        cannot be used.
    """
    from lrfdse.search.plans.knapsack import plans_by_regime
    from lrfdse.search.samplers.builtin import open_sampler
    from lrfdse.search.samplers.protocol import Space

    layers, limits = study.trial.layers, request.limits
    warm, cold = tables(layers, "warm", errors), tables(layers, "cold", errors)
    space, sampler = Space(tuple(warm)), open_sampler(request.sampler)
    _check_size(sampler, space, request.budget)
    progress(Event("knapsack", counted(len(warm), "layer")))
    fits_cache = warm_words(study.trial.target)
    front = plans_by_regime(
        warm,
        cold,
        fits_cache,
        max_params=most_words(limits, layers),
        max_latency=limits.max_latency_us,
        max_error=max(1.0, USEFUL_ERROR * len(layers)),
    )
    if limits.max_params is not None:
        front = of_params(front, layers, limits.max_params)
    metric = metric_of(inputs)
    with _trials(request, study, inputs, evaluator, space, progress, deadline) as trials:
        base = trials.baseline()
        search = Search(request, trials, warm, cold, fits_cache, front, sampler, metric, base, inputs.verified)
        for stage in stages:
            stage.run(search)
        designs = tuple(trials.designs())
        search.notes += _failure_notes(trials.failures())
        if trials.out_of_time:
            allowed = counted(request.minutes or 0, "minute")
            search.notes.append(
                f"stopped after --time {allowed}: {len(designs)} of {request.budget} plans were evaluated; "
                "the same command with more time goes on from there"
            )
        return SearchResult(base, designs, search.recommended, search.plain, front.gap, tuple(search.notes))


def _failure_notes(failures: Mapping[str, str]) -> list[str]:
    """Return a note for every reason why plans could not be evaluated, with the plans' ids.

    >>> _failure_notes({"0a": "no output", "0b": "no output"})
    ['2 plans cannot be evaluated and are left out (0a, 0b): no output']
    """
    by_reason: dict[str, list[str]] = {}
    for identity, reason in failures.items():
        by_reason.setdefault(reason, []).append(identity)
    found = []
    for reason, ids in by_reason.items():
        named = ", ".join(ids[:_NAMED]) + (", ..." if len(ids) > _NAMED else "")
        verb = "cannot be evaluated and is left out" if len(ids) == 1 else "cannot be evaluated and are left out"
        found.append(f"{counted(len(ids), 'plan')} {verb} ({named}): {reason}")
    return found


@contextmanager
def _trials(
    request: SearchRequest,
    study: StudyRequest,
    inputs: Inputs,
    evaluator: Evaluator,
    space: Space,
    progress: Listener,
    deadline: float | None,
) -> Iterator[Trials]:
    """Open the study, share what others need to help, and end the helpers and close the study afterwards."""
    from lrfdse.explore.plans.helpers import Helpers
    from lrfdse.explore.plans.share import publish
    from lrfdse.search.study.opening import open_study
    from lrfdse.search.study.storage import storage_errors

    place, trial, files = study.place, study.trial, study.files
    job = Job(trial.layers, trial.target, trial.limits, metric_of(inputs), evaluator, inputs.verified)
    with storage_errors(place.url):
        opened = open_study(place.url, place.name, space.choices, identity=study.identity, sole=place.sole)
        helpers = Helpers(trial, files, place, request.helpers, request.helped_after, progress)
        try:
            if place.shared:
                publish(opened, place.artifacts, trial, inputs.model.content, files.data, progress)
            opened.open_queue()
            yield Trials(opened, job, space, request, helpers, progress, deadline)
            opened.close_queue()
        finally:
            helpers.stop()
            opened.close()


def check_study(place: StudyPlace, identity: Mapping[str, Any], sampler: str) -> None:
    """Refuse, before anything long begins, a sampler, a storage or a study that cannot be used.

    Raises
    ------
    InputError
        There is no such sampler, or the study of that name is of another model, target or meter.
    ToolError
        The storage cannot be reached, or a package is missing.
    """
    from lrfdse.search.samplers.builtin import open_sampler
    from lrfdse.search.study import opening

    open_sampler(sampler)
    if not place.sole:
        opening.check_study(place.url, place.name, identity)


def _check_size(sampler: Sampler, space: Space, budget: int) -> None:
    if sampler.whole_space and space.size > budget:
        raise InputError(
            f"--sampler {sampler.name}: the space has {space.size:,} plans, more than --budget {budget}: "
            "raise the budget, lower the search space's max_compiled, or choose another sampler"
        )


def most_words(limits: Limits, layers: Sequence[LayerResult]) -> int | None:
    """Return the most float32 numbers whose bytes a plan within the limits of size and parameters takes, if any.

    An element of int8 takes a quarter of such a number, and its part of a scale: the limit of parameters says no more
    than the choice with the most bytes an element lets it.
    """
    found = [] if limits.max_size is None else [limits.max_size // FLOAT32.bytes_of(1)]
    if limits.max_params is not None:
        dearest = max(option.words / option.params for result in layers for option in result.options)
        found.append(math.floor(limits.max_params * dearest))
    return min(found, default=None)


def of_params(front: PlanFront, layers: Sequence[LayerResult], most: int) -> PlanFront:
    """Return the plans of a front of bytes that have at most `most` parameters, whatever these are stored in.

    A plan that one with more parameters beats is not there, though it may have few enough itself: such a one takes more
    bytes than the same factorizations in int8, which are.
    """
    stored = {result.layer.name: {option.text: option.params for option in result.options} for result in layers}
    params = np.zeros(len(front), np.int64)
    for place, table in enumerate(front.tables):
        of = np.array([stored[table.layer][choice.text] for choice in table.choices], np.int64)
        params += of[front.choices[:, place]]
    return front.taken(np.flatnonzero(params <= most))


def tables(
    layers: Sequence[LayerResult], regime: Regime, errors: Mapping[str, Mapping[str, float]] | None = None
) -> list[LayerTable]:
    """Return what the knapsack reads, a table a layer, with latencies of one cache regime.

    Errors by layer and factorization go before the options' own.
    """
    from lrfdse.search.plans.tables import Choice, LayerTable

    def choice(result: LayerResult, option: MeasuredChoice) -> Choice:
        error = option.error if errors is None else errors[result.layer.name][option.text]
        return Choice(option.text, option.words, option.at(regime).us, error)

    return [
        LayerTable(result.layer.name, tuple(choice(result, option) for option in result.options)) for result in layers
    ]
