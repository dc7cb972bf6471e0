"""From what the user asks of an exploration to what each of its stages is asked: the one place that knows both."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lrfdse.explore.identity import default_name
from lrfdse.explore.inputs import DataRequest, Files
from lrfdse.explore.layers.fits import FitRequest, explored_layers
from lrfdse.explore.layers.latencies import KernelRequest
from lrfdse.explore.plans.trials import SearchRequest
from lrfdse.explore.whole import WholeRequest
from lrfdse.results.document import model_name
from lrfdse.results.effort import EFFORTS, effort_for
from lrfdse.results.exploration import StudyPlace
from lrfdse.targets.resolution import resolution_of

if TYPE_CHECKING:
    from lrfdse.explore.inputs import Inputs
    from lrfdse.ir.latency import MeterKind
    from lrfdse.ir.space import SearchSpace
    from lrfdse.meters.meter import Meter
    from lrfdse.model.graph import Model
    from lrfdse.results.effort import Effort
    from lrfdse.results.settings import Settings


def files_of(settings: Settings) -> Files:
    """Return where the model, its data and earlier results lie."""
    return Files(settings.model, settings.data, settings.cache)


def data_request(settings: Settings) -> DataRequest:
    """Return how the model and its data are read."""
    return DataRequest(
        settings.shape,
        settings.metric,
        settings.eval_samples,
        settings.seed,
        settings.judge,
        settings.layers,
        settings.value,
    )


def fit_request(settings: Settings, inputs: Inputs, effort: Effort | None = None) -> FitRequest:
    """Return how layers are fitted: by the outputs that count, as the data say, where anything goes by outputs.

    Without an `effort` it is that of small models.
    """
    from lrfdse.factorize.methods import METHODS

    method = settings.space.method
    by_loss = settings.proxy == "loss" or (inputs.calib is not None and METHODS.get(method).needs_moments)
    objective, small = inputs.judging.objective if by_loss else None, (effort or EFFORTS[settings.effort]).small_steps
    return FitRequest(method, settings.correct, settings.seed, objective, small)


def effort_of(settings: Settings, model: Model) -> Effort:
    """Return what the stages of an exploration of a model may spend."""
    explored = explored_layers(settings.space, model)
    return effort_for(settings.effort, sum(model.layer(name).weights for name in explored))


def space_of(settings: Settings, effort: Effort | None = None) -> SearchSpace:
    """Return the search space, with no more compiled designs a layer and cores a train than the effort allows.

    Without an `effort` it is that of small models.
    """
    space, effort = settings.space, effort or EFFORTS[settings.effort]
    compiled, cores = effort.most_compiled or space.max_compiled, effort.most_cores or space.max_cores
    return dataclasses.replace(
        space, max_compiled=min(space.max_compiled, compiled), max_cores=min(space.max_cores, cores)
    )


def kept_of(settings: Settings, effort: Effort) -> int:
    """Return how many designs are written beside the recommended one at most."""
    return settings.keep if effort.most_kept is None else min(settings.keep, effort.most_kept)


def kernel_request(settings: Settings, meter: Meter, effort: Effort | None = None) -> KernelRequest:
    """Return what kernels are compiled for, and how they are measured; without an `effort` as for small models."""
    return KernelRequest(settings.target, meter, settings.workers, (effort or EFFORTS[settings.effort]).tries)


def search_request(settings: Settings, meter: str, kind: MeterKind, effort: Effort | None = None) -> SearchRequest:
    """Return what the search may spend, and what it looks for.

    Parameters
    ----------
    settings
        What the user asks of the exploration.
    meter, kind
        The name of its meter, and whether latencies are measured or modelled.
    effort
        What the search may spend; by default what it may on small models.
    """
    effort = effort or EFFORTS[settings.effort]
    return SearchRequest(
        budget=min(settings.budget, effort.most_plans or settings.budget),
        refined=effort.refined,
        sampler=settings.sampler,
        limits=settings.limits,
        seed=settings.seed,
        accept_unverified=settings.accept_unverified,
        resolution=resolution_of(settings.target, meter, kind),
        minutes=settings.minutes,
        helpers=settings.workers - 1,
        helped_after=settings.helped_after,
    )


def whole_request(settings: Settings, meter: Meter) -> WholeRequest:
    """Return what whole models are compiled for, by the meter of the exploration."""
    most = settings.limits.max_model_latency_us
    return WholeRequest(
        settings.library,
        settings.model,
        settings.shape,
        settings.value,
        settings.target,
        meter.name,
        most,
        meter.exclusive,
    )


def with_rest(search: SearchRequest, rest_us: float | None) -> SearchRequest:
    """Return the search's request when it is known what everything but the layers takes.

    A limit on the whole model's latency is one on the layers' then: the rest is the same for every design.
    """
    limits = search.limits
    if rest_us is not None and limits.max_model_latency_us is not None:
        left = limits.max_model_latency_us - rest_us
        most = left if limits.max_latency_us is None else min(left, limits.max_latency_us)
        limits = dataclasses.replace(limits, max_latency_us=most)
    return dataclasses.replace(search, limits=limits, rest_us=rest_us)


def study_place(settings: Settings, identity: Mapping[str, Any]) -> StudyPlace:
    """Return where the study is kept: where the user says, else in the output folder."""
    from lrfdse.search.study.urls import sqlite_url

    return StudyPlace(
        url=settings.study or sqlite_url((settings.output / "study.db").resolve()),
        name=settings.study_name or default_name(model_name(settings.model.resolve().as_posix()), identity),
        artifacts=settings.artifacts or settings.output / "artifacts",
        shared=settings.study is not None or settings.artifacts is not None,
        sole=settings.study is None,
    )
