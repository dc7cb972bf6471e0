"""From options per layer to evaluated designs: the knapsack's plans, the baselines, and the sampler around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np

from lrfdse.design import Design, Metric, Regime
from lrfdse.errors import InputError
from lrfdse.explore.cache import digest, source_digest
from lrfdse.explore.events import Event, Listener
from lrfdse.explore.options import BASELINE_RATIOS
from lrfdse.explore.plans import (
    Evaluator,
    Scores,
    assemble,
    metric_of,
    pareto,
    plan_id,
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

_UNIFORM_SHARE, _FIRST_SHARE, _SAMPLER_SHARE = 0.15, 0.25, 0.15
"""Of the budget: uniform SVD at most, plans spread over the whole front, and the sampler; the rest goes where designs
lose about as much as is allowed."""
_USEFUL_ERROR = 0.25
"""Squared relative output error, averaged over layers, beyond which no model is worth a look."""
_WORTH_HAVING = 2.5
"""Multiples of the allowed loss up to which a plan is worth a closer look."""
_OURS = ("dense", "uniform-svd", "knapsack", "svd")
"""Origins of plans that are enqueued; others come from the sampler."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the search found."""

    baseline: Design
    designs: tuple[Design, ...]
    recommended: Design | None
    plain: Design | None
    """The best SVD design at no more parameters than the recommended one, where that is another."""
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
    front whose loss is near the allowed one, then what the study's sampler proposes; last, SVD at no more parameters
    than the recommended design.
    """
    from lrfdse.search import plans_by_regime, spread, uniform
    from lrfdse.search.storage import storage_errors

    warm, cold = tables(layers, "warm"), tables(layers, "cold")
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
    with storage_errors(study_url(settings)), _Trials(settings, inputs, layers, meter, evaluator, tell) as trials:

        def left(reserved: float) -> int:
            # One place is kept for the comparison with SVD at the end.
            return max(0, budget - 1 - len(trials.designs()) - int(reserved * budget))

        trials.run([{}], "dense")
        ratios = _evenly(BASELINE_RATIOS, min(left(0), int(_UNIFORM_SHARE * budget)))
        trials.run(uniform(warm, "svd", ratios), "uniform-svd")
        first = min(left(0), int(_FIRST_SHARE * budget))
        trials.run([front.texts(i) for i in spread(front, first)], "knapsack")
        near = _near(front, trials.designs(), trials.baseline(), metric, settings)
        trials.run([near.texts(i) for i in spread(near, left(_SAMPLER_SHARE))], "knapsack")
        trials.sample(left(0))
        base = trials.baseline()
        chosen = recommend(pareto(trials.designs(), metric), base, metric, limits)
        plain = None
        if chosen is not None and chosen.id != base.id and len(trials.designs()) < budget:
            texts = _best_svd(warm, cold, fits_cache, chosen.params)
            plain = trials.run([texts], "svd")[0] if texts else None
        return Found(base, tuple(trials.designs()), chosen, plain, front.gap)


def _evenly(values: Sequence[float], count: int) -> list[float]:
    """Return `count` of the values, evenly spaced, both ends among them."""
    places = np.linspace(0, len(values) - 1, min(count, len(values))).round().astype(int)
    return [values[place] for place in np.unique(places)]


def _best_svd(
    warm: Sequence[LayerTable], cold: Sequence[LayerTable], fits_cache: int, most: int
) -> dict[str, str] | None:
    """Return the SVD plan of least predicted error with at most `most` parameters, or None."""
    from lrfdse.search import plans_by_regime

    def svd_only(regime: Sequence[LayerTable]) -> list[LayerTable]:
        return [replace(t, choices=tuple(c for c in t.choices if c.text.startswith(("dense", "svd:")))) for t in regime]

    front = plans_by_regime(svd_only(warm), svd_only(cold), fits_cache, max_params=most)
    return front.texts(int(np.argmin(front.error))) if len(front) else None


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
        from importlib.metadata import version

        from lrfdse.search.opening import open_study

        settings, model = self._settings, self._inputs.model
        inputs = self._inputs
        data = [None if part is None else part.digest for part in (inputs.calib, inputs.choosing, inputs.reporting)]
        identity = {
            "model": model.sha256,
            "target": settings.target.name,
            "meter": meter.key(),
            "score": self._metric,
            "data": digest(data),
            "code": digest(source_digest("factorize", "model", "design", "explore"), version("onnxruntime")),
            "method": settings.space.method,
            "seed": str(settings.seed),
        }
        choices = {result.layer.name: [option.text for option in result.options] for result in self._layers}
        name = f"lrfdse/{model.sha256[:8]}/{settings.target.name}/{digest(*identity.values())[:8]}"
        return open_study(
            study_url(settings), name, choices, identity=identity, seed=settings.seed, sole=settings.study is None
        )

    def run(self, plans: Sequence[Mapping[str, str]], origin: str) -> list[Design]:
        """Evaluate plans and return their designs; what the study knows from an earlier run is taken from there.

        A plan that an earlier run left in the queue comes out of it here, at the latest; what else comes out with it
        is evaluated too and waits for its own stage.
        """
        wanted = dict.fromkeys(self._study.key(texts) for texts in plans)
        for texts in plans:
            self._study.enqueue(texts, origin)
        while set(wanted) - set(self._study.finished()) - set(self._study.failed()):
            proposal = self._study.next_plan()
            if proposal is None or proposal.origin not in _OURS:
                # Another process of a shared study has what is missing; it is not waited for.
                if proposal is not None:
                    self._evaluate(proposal)
                break
            self._evaluate(proposal)
        finished = self._study.finished()
        return [self._take(finished[key]) for key in wanted if key in finished]

    def sample(self, count: int) -> None:
        """Evaluate `count` plans that the sampler proposes, those of earlier runs included."""
        for _ in range(count - len(self._sampled())):
            proposal = self._study.next_plan()
            if proposal is None:
                break
            self._evaluate(proposal)
        for trial in self._sampled()[: max(0, count)]:
            self._take(trial)

    def designs(self) -> list[Design]:
        """Return every design of the study so far, in the order of its trials."""
        return list(self._designs.values())

    def baseline(self) -> Design:
        """Return the dense model; where the study does not have it (another process is at it), evaluate it here."""
        for design in self._designs.values():
            if all(shape.is_dense for _, shape in design.plan.choices):
                return design
        plan = plan_of({}, self._layers)
        return assemble(plan, self._layers, self._settings.target, self._evaluator.scores(plan), "dense")

    def _evaluate(self, proposal: Proposal) -> None:
        plan = plan_of(proposal.texts, self._layers)
        try:
            scores = self._evaluator.scores(plan)
        except InputError as error:
            if proposal.origin == "dense":
                raise
            self._study.fail(proposal, str(error))
            self._tell(Event("note", f"plan {plan_id(plan)} cannot be evaluated: {error}"))
            return
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
            "standard_error": scores.standard_error,
        }
        self._study.tell(proposal, design.latency.us, design.params, score, facts)
        self._evaluated += 1
        text = f"{design.id} {self._metric} {score:.4f} ({proposal.origin})"
        self._tell(Event("plans", text, min(self._evaluated, self._settings.budget), self._settings.budget))

    def _sampled(self) -> list[Finished]:
        return [trial for trial in self._study.finished().values() if trial.origin not in _OURS]

    def _take(self, trial: Finished) -> Design:
        scores = Scores(*(trial.attrs[field.name] for field in fields(Scores)))
        plan = plan_of(trial.texts, self._layers)
        design = assemble(plan, self._layers, self._settings.target, scores, trial.origin)
        return self._designs.setdefault(design.id, design)
