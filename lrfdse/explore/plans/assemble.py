"""From a plan and its scores to a design: what the measured choices of its layers cost together."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lrfdse.ir.factorization import Factorization
from lrfdse.ir.latency import Latency, Regime
from lrfdse.ir.plan import Design, Metric, Plan, plan_id
from lrfdse.quality.scores import Scores
from lrfdse.targets.target import Target

if TYPE_CHECKING:
    from lrfdse.explore.inputs import Inputs
    from lrfdse.results.exploration import LayerResult, MeasuredChoice


def plan_of(texts: Mapping[str, str], layers: Sequence[LayerResult]) -> Plan:
    """Read a plan back from factorization texts by layer name; absent layers are dense."""
    return Plan(
        tuple(
            (result.layer.name, Factorization.parse(texts.get(result.layer.name, "dense"), *result.sizes))
            for result in layers
        )
    )


def regime_of(params: int, target: Target) -> Regime:
    """Return the cache regime in which a design with float32 weights of so many parameters is charged."""
    return "warm" if params <= warm_params(target) else "cold"


def warm_params(target: Target) -> int:
    """Return the parameters up to which a design is charged warm.

    These are all that fit the last-level cache as float32, unless the target says that weights always stay there
    (`sys.maxsize`) or never do (-1).
    """
    fits = int(target.last_level.bytes) // 4
    return {"warm": sys.maxsize, "cold": -1, "auto": fits}[target.resident]


def assemble(
    plan: Plan,
    layers: Sequence[LayerResult],
    target: Target,
    scores: Scores,
    origin: str,
    refined: bool = False,
) -> Design:
    """Add up what the plan's layers cost in the cache regime of the plan as a whole, and attach its scores."""
    chosen: list[MeasuredChoice] = [result.option(plan[result.layer.name]) for result in layers]
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
        others=scores.others,
        refined=refined,
    )


def metric_of(inputs: Inputs) -> Metric:
    """Return what designs are chosen by, as `Design.score` takes it and reports print it; see `Scorer.name`."""
    return inputs.scorer.name
