"""From options per layer to evaluated designs: the knapsack's plans, the baselines, and the sampler around them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from lrfdse.base.events import Event, Listener
from lrfdse.errors import InputError
from lrfdse.explore.identity import _identity, _name, study_url
from lrfdse.explore.layers.options import BASELINE_RATIOS
from lrfdse.explore.plans.assemble import metric_of, warm_params
from lrfdse.explore.plans.choose import pareto, recommend, worth_refining
from lrfdse.explore.plans.evaluator import Evaluator
from lrfdse.explore.plans.proxy import predicted_errors
from lrfdse.explore.plans.relaxation import relaxed
from lrfdse.explore.plans.trials import Job, Trials
from lrfdse.ir.latency import Regime
from lrfdse.ir.plan import Design, Metric

if TYPE_CHECKING:
    from lrfdse.explore.inputs import Inputs
    from lrfdse.meters.meter import Meter
    from lrfdse.results.exploration import LayerResult, Option
    from lrfdse.results.settings import Settings
    from lrfdse.search.plans.tables import LayerTable, PlanFront
    from lrfdse.search.samplers.protocol import Sampler, Space
    from lrfdse.search.study.study import Study


_UNIFORM_SHARE, _FIRST_SHARE, _SAMPLER_SHARE = 0.15, 0.25, 0.15
"""Of the budget: uniform SVD at most, plans spread over the whole front, and the sampler; the rest goes where designs
lose about as much as is allowed."""


_USEFUL_ERROR = 0.25
"""Predicted error, averaged over layers, beyond which no model is worth a look, whatever predicts it."""


_UNNOTICED = 3e-3
"""Predicted error below which plans lose nothing that scores could tell: there, none is farther from another."""


_WORTH_HAVING = 2.5
"""Multiples of the allowed loss up to which a plan is worth a closer look."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the search found."""

    baseline: Design
    designs: tuple[Design, ...]
    recommended: Design | None
    plain: Design | None
    """The best SVD design at no more parameters than the recommended one, where that is another."""
    gap: float
    study: str
    """Name of the study that holds the designs as trials."""
    notes: tuple[str, ...] = ()


def search_plans(
    settings: Settings,
    inputs: Inputs,
    layers: tuple[LayerResult, ...],
    meter: Meter,
    evaluator: Evaluator,
    tell: Listener,
    deadline: float | None = None,
) -> Found:
    """Have at most `settings.budget` plans evaluated, each as a trial of the study, and return all of them as designs.

    First the dense model and uniform SVD, then plans spread over the knapsack's front, then plans of that part of the
    front whose loss is near the allowed one; where all of them lose too much, the best of them relaxed layer by layer;
    then what the study's sampler proposes; last, SVD at no more parameters than the recommended design. From `deadline`
    (`time.monotonic`) on nothing new is proposed. Without the user's evaluation data no design is recommended, unless
    `settings.accept_unverified`.

    Raises
    ------
    InputError
        The sampler tries every plan, and the space has more of them than the budget; or the study's name or storage
        cannot be used.
    """
    from lrfdse.search.plans.knapsack import plans_by_regime, uniform
    from lrfdse.search.plans.spread import spread
    from lrfdse.search.samplers.builtin import open_sampler
    from lrfdse.search.samplers.protocol import Space

    errors = predicted_errors(settings, inputs, layers, evaluator, tell)
    warm, cold = tables(layers, "warm", errors), tables(layers, "cold", errors)
    space, sampler = Space(tuple(warm)), open_sampler(settings.sampler)
    _check_size(sampler, space, settings.budget)
    tell(Event("knapsack", f"{len(warm)} layers"))
    limits, budget, fits_cache = settings.limits, settings.budget, warm_params(settings.target)
    front = plans_by_regime(
        warm,
        cold,
        fits_cache,
        max_params=limits.max_params,
        max_latency=limits.max_latency_us,
        max_error=max(1.0, _USEFUL_ERROR * len(layers)),
    )
    metric = metric_of(inputs)
    # What nobody measured is not recommended; then there is nothing to relax or to take the whole effort for, either.
    may_recommend = inputs.verified or settings.accept_unverified
    with _trials(settings, inputs, layers, meter, evaluator, space, tell, deadline) as trials:

        def left(reserved: float) -> int:
            # One place is kept for the comparison with SVD at the end, which is no plan of its own where all are tried.
            last = 0 if sampler.whole_space else 1
            return max(0, budget - last - len(trials.designs()) - int(reserved * budget))

        def best() -> Design | None:
            return recommend(pareto(trials.designs(), metric, inputs.verified), base, metric, limits)

        base = trials.baseline()
        ratios = _evenly(BASELINE_RATIOS, min(left(0), int(_UNIFORM_SHARE * budget)))
        trials.run(uniform(warm, "svd", ratios), "uniform-svd")
        first = min(left(0), int(_FIRST_SHARE * budget))
        trials.run([front.texts(i) for i in spread(told_apart(front), first)], "knapsack")
        near = _near(front, trials.designs(), base, metric, settings)
        trials.run([near.texts(i) for i in spread(told_apart(near), left(_SAMPLER_SHARE))], "knapsack")
        notes = []
        if may_recommend and not sampler.whole_space:
            where = "" if inputs.verified else " (on random inputs)"
            notes = [f"{note}{where}" for note in relaxed(trials, warm, base, metric, limits, left(0))]
        trials.sample(sampler, left(0))
        chosen = plain = None
        if may_recommend:
            # The study keeps the scores before; what is printed and written has those after.
            trials.refine(worth_refining(trials.designs(), base, metric, limits, verified=inputs.verified))
            chosen = best()
        if chosen is not None and chosen.id != base.id:
            texts = _best_svd(warm, cold, fits_cache, chosen.params)
            if texts and (len(trials.designs()) < budget or trials.has(texts)):
                plain = next(iter(trials.run([texts], "svd")), None)
            if plain is not None:
                plain = trials.refine([plain])[0]
                # It may be better than what it was to be compared with.
                chosen = best() or chosen
                plain = None if plain.id == chosen.id else plain
        if trials.out_of_time:
            notes.append(
                f"stopped after --time {settings.minutes:g} minutes: {len(trials.designs())} of {budget} plans were "
                "evaluated; the same command with more time goes on from there"
            )
        return Found(base, tuple(trials.designs()), chosen, plain, front.gap, trials.study, tuple(notes))


@contextmanager
def _trials(
    settings: Settings,
    inputs: Inputs,
    layers: tuple[LayerResult, ...],
    meter: Meter,
    evaluator: Evaluator,
    space: Space,
    tell: Listener,
    deadline: float | None,
) -> Iterator[Trials]:
    """Open the study, share what others need to help, and end the helpers and close the study afterwards."""
    from lrfdse.explore.plans.helpers import Helpers
    from lrfdse.explore.plans.share import publish
    from lrfdse.search.study.storage import storage_errors

    url = study_url(settings)
    with storage_errors(url):
        study = _open(settings, inputs, space, meter)
        helpers = Helpers(settings, layers, url, study.name, tell)
        try:
            if settings.study is not None or settings.artifacts is not None:
                publish(study, settings, layers, inputs.model, tell)
            study.open_queue()
            yield Trials(study, Job(settings, layers, metric_of(inputs), evaluator), space, helpers, tell, deadline)
            study.close_queue()
        finally:
            helpers.stop()
            study.close()


def check_study(settings: Settings, inputs: Inputs, meter: Meter) -> None:
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

    open_sampler(settings.sampler)
    if settings.study is not None:
        identity = _identity(settings, inputs, meter)
        opening.check_study(settings.study, _name(settings, inputs, identity), identity)


def _open(settings: Settings, inputs: Inputs, space: Space, meter: Meter) -> Study:
    from lrfdse.search.study.opening import open_study

    identity = _identity(settings, inputs, meter)
    return open_study(
        study_url(settings),
        _name(settings, inputs, identity),
        space.choices,
        identity=identity,
        sole=settings.study is None,
    )


def _check_size(sampler: Sampler, space: Space, budget: int) -> None:
    if sampler.whole_space and space.size > budget:
        raise InputError(
            f"--sampler {sampler.name}: the space has {space.size:,} plans, more than --budget {budget}: "
            "raise the budget, lower the search space's max_compiled, or choose another sampler"
        )


def _evenly(values: Sequence[float], count: int) -> list[float]:
    """Return `count` of the values, evenly spaced, both ends among them."""
    places = np.linspace(0, len(values) - 1, min(count, len(values))).round().astype(int)
    return [values[place] for place in np.unique(places)]


def _best_svd(
    warm: Sequence[LayerTable], cold: Sequence[LayerTable], fits_cache: int, most: int
) -> dict[str, str] | None:
    """Return the SVD plan of least predicted error with at most `most` parameters, or None."""
    from lrfdse.search.plans.knapsack import plans_by_regime

    def svd_only(regime: Sequence[LayerTable]) -> list[LayerTable]:
        return [replace(t, choices=tuple(c for c in t.choices if c.text.startswith(("dense", "svd:")))) for t in regime]

    front = plans_by_regime(svd_only(warm), svd_only(cold), fits_cache, max_params=most)
    return front.texts(int(np.argmin(front.error))) if len(front) else None


def tables(
    layers: Sequence[LayerResult], regime: Regime, errors: Mapping[str, Mapping[str, float]] | None = None
) -> list[LayerTable]:
    """Return what the knapsack reads, a table a layer, with latencies of one cache regime.

    Errors by layer and factorization go before the options' own.
    """
    from lrfdse.search.plans.tables import Choice, LayerTable

    def choice(result: LayerResult, option: Option) -> Choice:
        error = option.error if errors is None else errors[result.layer.name][option.text]
        return Choice(option.text, option.params, option.at(regime).us, error)

    return [
        LayerTable(result.layer.name, tuple(choice(result, option) for option in result.options)) for result in layers
    ]


def told_apart(front: PlanFront) -> PlanFront:
    """Return the front with errors that no score would notice counted as equal, as distances between plans need it.

    Predicted losses reach over many decades, and most plans of a front may lie where nothing is lost.
    """
    return replace(front, error=np.maximum(front.error, _UNNOTICED))


def _near(front: PlanFront, designs: Sequence[Design], base: Design, metric: Metric, settings: Settings) -> PlanFront:
    """Return the plans whose predicted error is within that of designs that lose little enough to be of use."""
    known = {tuple(sorted(design.plan.texts().items())): design for design in designs}
    worst = 0.0
    for i in range(len(front)):
        design = known.get(tuple(sorted(front.texts(i).items())))
        if design is not None and base.score(metric) - design.score(metric) <= _WORTH_HAVING * settings.limits.max_drop:
            worst = max(worst, float(front.error[i]))
    worst = max(worst, float(np.quantile(front.error, 0.1))) if len(front) else 0.0
    return front.taken(np.flatnonzero(front.error <= worst))
