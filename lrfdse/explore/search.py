"""From options per layer to evaluated designs: the knapsack's plans, the baselines, and the sampler around them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lrfdse.design import Design, Metric, Regime
from lrfdse.errors import NoDesignError
from lrfdse.explore.cache import digest
from lrfdse.explore.events import Event, Listener
from lrfdse.explore.options import BASELINE_RATIOS
from lrfdse.explore.plans import (
    Evaluator,
    Scores,
    assemble,
    metric_of,
    pareto,
    plan_of,
    recommend,
    warm_params,
)

if TYPE_CHECKING:
    from lrfdse.explore.inputs import Inputs
    from lrfdse.explore.result import LayerResult
    from lrfdse.explore.settings import Settings
    from lrfdse.measure import Meter
    from lrfdse.search import LayerTable, PlanFront
    from lrfdse.search.study import Finished, Proposal, Study

_FIRST_SHARE, _SAMPLER_SHARE = 0.4, 0.2
"""Of the budget: plans spread over the whole front come first, the sampler last, plans worth a closer look between."""
_USEFUL_ERROR = 0.25
"""Squared relative output error, averaged over layers, beyond which no model is worth a look."""
_WORTH_HAVING = 5.0
"""Multiples of the allowed loss up to which a plan is worth a closer look."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the search found."""

    baseline: Design
    designs: tuple[Design, ...]
    gap: float


def search_plans(
    settings: Settings,
    inputs: Inputs,
    layers: tuple[LayerResult, ...],
    meter: Meter,
    evaluator: Evaluator,
    tell: Listener,
) -> Found:
    """Evaluate at most `settings.budget` plans, each as a trial of the study, and return all of them as designs.

    First the dense model and uniform SVD, then plans spread over the knapsack's front, then plans of that part of the
    front whose loss is near the allowed one, then what the study's sampler proposes; last, for the recommended design,
    uniform SVD at no more parameters.
    """
    from lrfdse.search import plans_by_regime, spread, uniform
    from lrfdse.search.storage import storage_errors

    warm, cold = tables(layers, "warm"), tables(layers, "cold")
    tell(Event("knapsack", f"{len(warm)} layers"))
    limits = settings.limits
    front = plans_by_regime(
        warm,
        cold,
        warm_params(settings.target),
        max_params=limits.max_params,
        max_latency=limits.max_latency_us,
        max_error=max(1.0, _USEFUL_ERROR * len(layers)),
    )
    metric = metric_of(inputs)
    with storage_errors(study_url(settings)), _Trials(settings, inputs, layers, meter, evaluator, tell) as trials:
        trials.run([{}], "dense")
        trials.run(uniform(warm, "svd", BASELINE_RATIOS), "uniform-svd")
        trials.run([front.texts(i) for i in spread(front, int(_FIRST_SHARE * settings.budget))], "knapsack")
        near = _near(front, trials.designs(), trials.baseline(), metric, settings)
        left = settings.budget - len(trials.designs()) - int(_SAMPLER_SHARE * settings.budget)
        trials.run([near.texts(i) for i in spread(near, max(0, left))], "knapsack")
        trials.sample(settings.budget - len(trials.designs()))
        base = trials.baseline()
        chosen = recommend(pareto(trials.designs(), metric), base, metric, limits, inputs.choosing.count)
        if chosen is not None and chosen.id != base.id:
            ratio = max(1.0, base.params / chosen.params)
            trials.run(uniform(warm, "svd", [ratio]), "uniform-svd")
        designs = trials.designs()
        if not len(front) and all(design.id == base.id for design in designs):
            raise NoDesignError("no plan is within --max-params and --max-latency")
        return Found(base, tuple(designs), front.gap)


def study_url(settings: Settings) -> str:
    """Return the storage of the exploration's study: the user's, or a file in the output folder."""
    from lrfdse.search.storage import sqlite_url

    return settings.study or sqlite_url((settings.output / "study.db").resolve())


def tables(layers: Sequence[LayerResult], regime: Regime) -> list[LayerTable]:
    """Return what the knapsack reads, a table a layer, with latencies of one cache regime."""
    from lrfdse.search import Choice, LayerTable

    return [
        LayerTable(
            result.layer.name,
            tuple(Choice(option.text, option.params, option.at(regime).us, option.error) for option in result.options),
        )
        for result in layers
    ]


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


class _Trials:
    """The study of one exploration: what it knows is not evaluated again."""

    def __init__(
        self,
        settings: Settings,
        inputs: Inputs,
        layers: tuple[LayerResult, ...],
        meter: Meter,
        evaluator: Evaluator,
        tell: Listener,
    ) -> None:
        self._settings = settings
        self._inputs = inputs
        self._layers = layers
        self._evaluator = evaluator
        self._tell = tell
        self._metric = metric_of(inputs)
        self._study = self._open(meter)
        self._designs: dict[str, Design] = {}
        self._evaluated = 0

    def __enter__(self) -> _Trials:
        return self

    def __exit__(self, *exception: object) -> None:
        self._study.close()

    def _open(self, meter: Meter) -> Study:
        from lrfdse.search.opening import open_study

        settings, model = self._settings, self._inputs.model
        data = (self._inputs.choosing.digest, "" if self._inputs.calib is None else self._inputs.calib.digest)
        identity = {
            "model": model.sha256,
            "target": settings.target.name,
            "meter": meter.key(),
            "score": self._metric,
            "data": "-".join(data),
            "method": settings.space.method,
        }
        choices = {result.layer.name: [option.text for option in result.options] for result in self._layers}
        name = f"lrfdse/{model.sha256[:8]}/{settings.target.name}/{digest(*identity.values())[:8]}"
        return open_study(study_url(settings), name, choices, identity=identity, seed=settings.seed)

    def run(self, plans: Sequence[Mapping[str, str]], origin: str) -> None:
        """Evaluate plans; what the study knows from a run before this one is taken from there."""
        finished = self._study.finished()
        wanted = {self._study.key(texts): texts for texts in plans}
        waiting = {key for key, texts in wanted.items() if key not in finished and self._study.enqueue(texts, origin)}
        while waiting and (proposal := self._study.next_plan()) is not None:
            self._evaluate(proposal)
            waiting.discard(self._study.key(proposal.texts))
        finished = self._study.finished()
        self._take(finished[key] for key in wanted if key in finished)

    def sample(self, count: int) -> None:
        """Evaluate `count` plans that the sampler proposes, those of earlier runs included."""
        for _ in range(count - len(self._sampled())):
            proposal = self._study.next_plan()
            if proposal is None:
                break
            self._evaluate(proposal)
        self._take(self._sampled()[: max(0, count)])

    def designs(self) -> list[Design]:
        """Return every design of the study so far, in the order of its trials."""
        return list(self._designs.values())

    def baseline(self) -> Design:
        """Return the dense model."""
        return next(design for design in self._designs.values() if design.origin == "dense")

    def _evaluate(self, proposal: Proposal) -> None:
        plan = plan_of(proposal.texts, self._layers)
        scores = self._evaluator.scores(plan)
        design = assemble(plan, self._layers, self._settings.target, scores, proposal.origin)
        score = design.score(self._metric)
        facts = {
            "id": design.id,
            "flops": design.flops,
            "cache_regime": design.regime,
            "latency_low_us": design.latency.low_us,
            "latency_high_us": design.latency.high_us,
            "eval_accuracy": scores.eval_accuracy,
            "accuracy": scores.accuracy,
            "fidelity": scores.fidelity,
        }
        self._study.tell(proposal, design.latency.us, design.params, score, facts)
        self._evaluated += 1
        text = f"{design.id} {self._metric} {score:.4f} ({proposal.origin})"
        self._tell(Event("plans", text, min(self._evaluated, self._settings.budget), self._settings.budget))

    def _sampled(self) -> list[Finished]:
        ours = {"dense", "uniform-svd", "knapsack"}
        return [trial for trial in self._study.finished().values() if trial.origin not in ours]

    def _take(self, trials: Iterable[Finished]) -> None:
        for trial in trials:
            scores = Scores(trial.attrs["eval_accuracy"], trial.attrs["accuracy"], trial.attrs["fidelity"])
            plan = plan_of(trial.texts, self._layers)
            design = assemble(plan, self._layers, self._settings.target, scores, trial.origin)
            self._designs.setdefault(design.id, design)
