"""Plans and what they cost and score: identity, evaluation on data, Pareto front, recommendation."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lrfdse.design import Design, Factorization, Factors, Latency, Metric, Plan, Regime
from lrfdse.explore.metrics import fidelity_grade
from lrfdse.explore.scores import Scores, paired_error
from lrfdse.targets.target import Target

if TYPE_CHECKING:
    import onnx_ir as ir

    from lrfdse.explore.corrections import Corrections
    from lrfdse.explore.fits import Fits
    from lrfdse.explore.inputs import Inputs
    from lrfdse.explore.metrics import Outputs, Scorer
    from lrfdse.explore.result import LayerResult, Option
    from lrfdse.explore.scores import Grade
    from lrfdse.explore.settings import Limits
    from lrfdse.model import Dataset, Model


_REFINABLE = 1.6
"""Multiples of the allowed loss from which the refinement of a plan's factors may bring it below."""


@dataclass(frozen=True, slots=True)
class Builder:
    """Builds plans' models."""

    model: Model
    fits: Fits
    corrections: Corrections | None = None
    """None where layers keep what they were fitted to by themselves."""

    def factors(self, plan: Plan, refined: bool = False) -> Mapping[str, Factors]:
        """Return the factors of the plan's compressed layers, corrected where that is wanted and cheap enough.

        Parameters
        ----------
        plan
            The plan.
        refined
            Whether the plan is worth the whole effort.
        """
        chosen = {name: shape for name, shape in plan.choices if not shape.is_dense}
        factors = {name: self.fits.factors(self.model.layer(name), shape) for name, shape in chosen.items()}
        if self.corrections is None or not (refined or self.corrections.always):
            return factors
        return self.corrections.factors(plan, factors, refined)

    def model_of(self, plan: Plan, refined: bool = False) -> ir.Model:
        """Return the compressed model; see `factors`."""
        from lrfdse.model import rewrite

        return rewrite(self.model, self.factors(plan, refined))


class Evaluator:
    """Scores plans' models; holds what all plans share."""

    def __init__(self, builder: Builder, inputs: Inputs) -> None:
        from lrfdse.model import Runtime

        self._builder = builder
        self._inputs = inputs
        # No plan's model comes back after it has run on the data that choose and on those that report.
        self._runtime = Runtime(sessions=1)
        self._choosing = self._judged(inputs.choosing)
        reports = inputs.reporting is not None and (inputs.reporting.labels is not None or not self._by_fidelity)
        self._reporting = self._judged(inputs.reporting) if inputs.reporting is not None and reports else None

    @property
    def builder(self) -> Builder:
        """What builds the models that are scored."""
        return self._builder

    @property
    def refines(self) -> bool:
        """Whether more effort gives other factors."""
        return self._builder.corrections is not None

    def scores(self, plan: Plan, report: bool = True, refined: bool = False) -> Scores:
        """Run the plan's model on the data that choose and, with `report`, on the data that report.

        With `refined` it is the model that `Builder.factors` takes the whole effort for.

        Raises
        ------
        InputError
            The model cannot be run or its outputs cannot be graded.
        """
        return self.scores_of(self._builder.model_of(plan, refined), report)

    def scores_of(self, model: ir.Model | bytes, report: bool = True) -> Scores:
        """Run a version of the original model, or the bytes of its file; see `scores`."""
        from lrfdse.model.evaluate import output_error

        outputs = self._runtime.run(model, self._choosing.data)
        kept = fidelity_grade(outputs, self._choosing.reference)
        chosen = kept if self._by_fidelity else self._choosing.grade(outputs)
        reported, error = None, None
        if report and self._reporting is not None:
            reported = self._reporting.grade(self._runtime.run(model, self._reporting.data))
            error = paired_error(reported, self._reporting.original)
        return Scores(
            eval_accuracy=None if self._by_fidelity else chosen.value,
            accuracy=None if reported is None else reported.value,
            fidelity=kept.value,
            standard_error=paired_error(chosen, self._choosing.original),
            eval_interval=chosen.interval,
            accuracy_interval=None if reported is None else reported.interval,
            accuracy_error=error,
            output_error=output_error(outputs, self._choosing.reference),
        )

    @property
    def classes_hit(self) -> tuple[int, int] | None:
        """How many classes the original model puts the data that choose into, and of how many; None without classes."""
        from lrfdse.model.evaluate import classes_hit

        return classes_hit(self._choosing.reference)

    @property
    def _by_fidelity(self) -> bool:
        return self._inputs.scorer.name == "fidelity"

    def _judged(self, data: Dataset) -> _Judged:
        reference = self._runtime.run(self._inputs.model.original, data)
        scorer = self._inputs.scorer
        return _Judged(data, reference, scorer.grade(reference, data, reference), scorer)


@dataclass(frozen=True, slots=True)
class _Judged:
    """Data with what the original model gives on them, and its grade."""

    data: Dataset
    reference: Outputs
    original: Grade
    scorer: Scorer

    def grade(self, outputs: Outputs) -> Grade:
        return self.scorer.grade(outputs, self.data, self.reference)


def plan_id(plan: Plan) -> str:
    """Return the plan's short name; it depends on the layers' factorizations alone."""
    text = "\n".join(f"{layer}={text}" for layer, text in sorted(plan.texts().items()))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def plan_of(texts: Mapping[str, str], layers: Sequence[LayerResult]) -> Plan:
    """Read a plan back from factorization texts by layer name; absent layers are dense."""
    return Plan(
        tuple(
            (result.layer.name, Factorization.parse(texts.get(result.layer.name, "dense"), *result.sizes))
            for result in layers
        )
    )


def regime_of(params: int, target: Target) -> Regime:
    """Return whether float32 weights of so many parameters stay in the last-level cache between inferences."""
    return "warm" if params <= warm_params(target) else "cold"


def warm_params(target: Target) -> int:
    """Return the float32 parameters that the target's last-level cache holds."""
    return target.last_level.kib * 1024 // 4


def assemble(
    plan: Plan,
    layers: Sequence[LayerResult],
    target: Target,
    scores: Scores,
    origin: str,
    refined: bool = False,
) -> Design:
    """Add up what the plan's layers cost in the cache regime of the plan as a whole, and attach its scores."""
    chosen: list[Option] = [result.option(plan[result.layer.name]) for result in layers]
    params = sum(option.params for option in chosen)
    regime = regime_of(params, target)
    parts = [option.at(regime) for option in chosen]
    return Design(
        id=plan_id(plan),
        plan=plan,
        params=params,
        flops=sum(option.cost.flops for option in chosen),
        latency=Latency(sum(p.us for p in parts), sum(p.low_us for p in parts), sum(p.high_us for p in parts)),
        regime=regime,
        eval_accuracy=scores.eval_accuracy,
        accuracy=scores.accuracy,
        fidelity=scores.fidelity,
        standard_error=scores.standard_error,
        origin=origin,
        eval_interval=scores.eval_interval,
        accuracy_interval=scores.accuracy_interval,
        accuracy_error=scores.accuracy_error,
        output_error=scores.output_error,
        refined=refined,
    )


def metric_of(inputs: Inputs) -> Metric:
    """Return what designs are chosen by, as `Design.score` takes it and reports print it; see `Scorer.name`."""
    return inputs.scorer.name


def pareto(designs: Sequence[Design], metric: Metric, verified: bool = True) -> list[Design]:
    """Return the designs that no other beats in params, latency and score together, by latency; of equals, one.

    Scores on random inputs tell designs apart poorly: without `verified`, a smaller output error is better, where the
    model's output has one.
    """
    by_error = not verified and any(design.output_error is not None for design in designs)

    def worth(design: Design) -> float:
        if not by_error:
            return design.score(metric)
        return -math.inf if design.output_error is None else -design.output_error

    ordered = sorted(designs, key=lambda d: (d.latency.us, d.params, -worth(d), d.id))
    front: list[Design] = []
    for design in ordered:
        if not any(kept.params <= design.params and worth(kept) >= worth(design) for kept in front):
            front.append(design)
    return front


def worth_refining(
    designs: Sequence[Design],
    baseline: Design,
    metric: Metric,
    limits: Limits,
    count: int = 4,
    verified: bool = True,
) -> list[Design]:
    """Return the designs that could become the recommended one: the `count` best that lose little enough.

    Refinement lowers losses, so that those within `_REFINABLE` times the limit compete, by the geometric mean of
    parameters and latency, and with them what would be recommended as it is. For `verified` see `pareto`.
    """
    front = pareto(designs, metric, verified)
    now = recommend(front, baseline, metric, limits)
    near = [
        design
        for design in front
        if design.id != baseline.id
        and baseline.score(metric) - design.score(metric) <= _REFINABLE * limits.max_drop
        and (limits.max_params is None or design.params <= limits.max_params)
        and (limits.max_latency_us is None or design.latency.us <= limits.max_latency_us)
    ]
    near.sort(key=lambda d: (math.log(d.params) + math.log(d.latency.us), d.id))
    chosen = near[:count]
    if now is not None and now.id != baseline.id and now not in chosen:
        chosen.append(now)
    return chosen


def recommend(front: Sequence[Design], baseline: Design, metric: Metric, limits: Limits) -> Design | None:
    """Return the design within the limits with the least geometric mean of parameters and latency, or None.

    Designs were looked at in numbers, so the best of those just within the limit is there by luck: where a compressed
    design is within it by one standard error of its loss, only such designs compete (the one-standard-error rule).
    """

    def loss(design: Design) -> float:
        return baseline.score(metric) - design.score(metric)

    within = [
        design
        for design in front
        if loss(design) <= limits.max_drop + 1e-9
        and (limits.max_params is None or design.params <= limits.max_params)
        and (limits.max_latency_us is None or design.latency.us <= limits.max_latency_us)
    ]
    compressed = [design for design in within if design.id != baseline.id]
    safe = [d for d in compressed if loss(d) + d.standard_error <= limits.max_drop + 1e-9]
    competing = [*(safe or compressed), *(design for design in within if design.id == baseline.id)]
    return min(competing, key=lambda d: (math.log(d.params) + math.log(d.latency.us), d.id), default=None)
