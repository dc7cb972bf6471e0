"""Which designs stand on the Pareto front, which are worth refining, and which one is recommended."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lrfdse.ir.plan import Design, Metric

if TYPE_CHECKING:
    from lrfdse.results.settings import Limits


_REFINABLE = 1.6
"""Multiples of the allowed loss from which the refinement of a plan's factors may bring it below."""


def pareto(designs: Sequence[Design], metric: Metric, verified: bool = True) -> list[Design]:
    """Return the designs that no other beats in params, latency and score together, by latency; of equals, one.

    Where several outputs count, what the worst of the others keeps must be beaten, too.

    Scores on random inputs tell designs apart poorly: without `verified`, a smaller output error is better, where the
    model's output has one.
    """
    by_error = not verified and any(design.output_error is not None for design in designs)

    def worth(design: Design) -> float:
        if not by_error:
            return design.score(metric)
        return -math.inf if design.output_error is None else -design.output_error

    ordered = sorted(designs, key=lambda d: (d.latency.us, d.params, -worth(d), -d.least_kept, d.id))
    front: list[Design] = []
    for design in ordered:
        if not any(
            kept.params <= design.params and worth(kept) >= worth(design) and kept.least_kept >= design.least_kept
            for kept in front
        ):
            front.append(design)
    return front


def lost(design: Design, baseline: Design, metric: Metric, limits: Limits) -> float:
    """Return what a design loses of the metric, or more where another output that counts loses more of its own limit.

    So one number is held against `Limits.max_drop`: twice what another output may lose counts as twice that.
    """
    own = baseline.score(metric) - design.score(metric)
    other, most = 1.0 - design.least_kept, limits.most_other_drop
    if most == limits.max_drop:
        return max(own, other)
    return max(own, other * limits.max_drop / most) if most > 0 and limits.max_drop > 0 else max(own, other - most)


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
        and lost(design, baseline, metric, limits) <= _REFINABLE * limits.max_drop
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
        return lost(design, baseline, metric, limits)

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
