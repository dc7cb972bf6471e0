"""From a plan and its scores to a design: what the measured choices of its layers cost together."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lrfdse.ir.choice import Choice
from lrfdse.ir.latency import Latency, Regime
from lrfdse.ir.plan import Design, Metric, Plan, plan_id
from lrfdse.ir.storage import words_of
from lrfdse.quality.scores import Scores
from lrfdse.targets.target import Target

if TYPE_CHECKING:
    from lrfdse.explore.inputs import Inputs
    from lrfdse.results.exploration import LayerResult, MeasuredChoice


def plan_of(texts: Mapping[str, str], layers: Sequence[LayerResult]) -> Plan:
    """Read a plan back from the texts of choices by layer name; absent layers stay as they are."""
    return Plan(
        tuple(
            (result.layer.name, Choice.parse(texts.get(result.layer.name, "dense"), *result.sizes)) for result in layers
        )
    )


def regime_of(words: int, target: Target) -> Regime:
    """Return the cache regime in which a design is charged whose weights take the bytes of so many float32 numbers."""
    return "warm" if words <= warm_words(target) else "cold"


def warm_words(target: Target) -> int:
    """Return the float32 numbers up to whose bytes a design is charged warm.

    These are all that fit the last-level cache, unless the target says that weights always stay there
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
    size = sum(option.bytes for option in chosen)
    regime = regime_of(words_of(size), target)
    parts = [option.at(regime) for option in chosen]
    return Design(
        id=plan_id(plan),
        plan=plan,
        params=sum(option.params for option in chosen),
        bytes=size,
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
        others_error=scores.others_error,
        refined=refined,
    )


def metric_of(inputs: Inputs) -> Metric:
    """Return what designs are chosen by, as `Design.score` takes it and reports print it; see `Scorer.name`."""
    return inputs.scorer.name
