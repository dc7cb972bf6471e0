"""What it takes to evaluate plans of a study, whoever does it, and one plan evaluated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lrfdse.explore.inputs import DataRequest
from lrfdse.explore.layers.fits import FitRequest
from lrfdse.explore.plans.assemble import assemble, plan_of
from lrfdse.explore.plans.evaluator import Evaluator
from lrfdse.results.exploration import LayerResult
from lrfdse.results.settings import Limits
from lrfdse.targets.target import Target

if TYPE_CHECKING:
    from lrfdse.ir.plan import Design, Metric
    from lrfdse.search.study.queue import Proposal, Queue


@dataclass(frozen=True, slots=True)
class TrialRequest:
    """How plans of a study are evaluated, the same on every machine: what a study shares beside model and data."""

    data: DataRequest
    fit: FitRequest
    target: Target
    limits: Limits
    layers: tuple[LayerResult, ...]
    """The layers with their measured options."""


@dataclass(frozen=True, slots=True)
class Job:
    """What evaluates plans of a study in one process."""

    layers: tuple[LayerResult, ...]
    """The layers with their measured options."""
    target: Target
    limits: Limits
    metric: Metric
    evaluator: Evaluator
    verified: bool = True
    """Whether scores are of evaluation data that the user gave; else they are of random inputs and mean nothing."""

    def quality(self, design: Design) -> str:
        """Return a design's score in words; without evaluation data its output error, as scores say nothing then."""
        if self.verified:
            return f"{self.metric} {design.score(self.metric):.4f}"
        return "output error unknown" if design.output_error is None else f"output error {design.output_error:.4f}"


def evaluate(queue: Queue, proposal: Proposal, job: Job, base: float | None) -> Design:
    """Evaluate a plan that was taken from the queue, and put its result there.

    Parameters
    ----------
    queue, proposal
        Where the plan came from, and the plan.
    job
        How to evaluate it.
    base
        Score of the original model; None where it is not known yet.

    Raises
    ------
    PlanError
        The plan cannot be evaluated. The queue does not know yet.
    """
    plan = plan_of(proposal.texts, job.layers)
    scores = job.evaluator.scores(plan)
    design = assemble(plan, job.layers, job.target, scores, proposal.origin)
    facts = {
        "id": design.id,
        "flops": design.flops,
        "cache_regime": design.regime,
        "latency_low_us": design.latency.low_us,
        "latency_high_us": design.latency.high_us,
        **scores.facts(),
    }
    score = design.score(job.metric)
    limits = broken(design, score, base, job.limits)
    queue.tell(proposal, design.latency.us, design.words, score, facts, limits)
    return design


def broken(design: Design, score: float, base: float | None, limits: Limits) -> dict[str, float]:
    """Return by how much a design breaks each of the limits, as Optuna's constraints: positive where it does."""
    found = {}
    if base is not None or design.plan.is_original:
        found["max_drop"] = (score if base is None else base) - score - limits.max_drop - 1e-9
    if design.others:
        found["max_other_drop"] = 1.0 - design.least_kept - limits.most_other_drop - 1e-9
    if limits.max_params is not None:
        found["max_params"] = design.params / limits.max_params - 1
    if limits.max_size is not None:
        found["max_size"] = design.bytes / limits.max_size - 1
    if limits.max_latency_us is not None:
        found["max_latency"] = design.latency.us / limits.max_latency_us - 1
    return found
