"""Which designs stand on the Pareto front, which are worth refining, and which one is recommended."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lrfdse.ir.plan import Design, Metric
from lrfdse.results.asked import Limits as Asked
from lrfdse.results.choice import Candidate, front_of, joint_loss, margin_of, recommended_of, shared_losses

if TYPE_CHECKING:
    from lrfdse.results.settings import Limits


_REFINABLE = 1.6
"""Multiples of the allowed loss from which the refinement of a plan's factors may bring it below."""


def pareto(
    designs: Sequence[Design], metric: Metric, verified: bool = True, resolution: float | None = 0.0
) -> list[Design]:
    """Return the designs that no other matches in bytes, latency and score together, by latency; of equals, one.

    Latencies that tie count as equal, see `lrfdse.results.choice.front_of`. Scores on random inputs tell designs apart
    poorly: without `verified`, a smaller output error is better, where the model's output has one. Where several
    outputs count, what the worst of the others keeps must be matched, too.
    """
    by_error = not verified and any(design.output_error is not None for design in designs)

    def worth(design: Design) -> float:
        if not by_error:
            return design.score(metric)
        return -math.inf if design.output_error is None else -design.output_error

    found = {design.id: design for design in designs}
    candidates = [
        Candidate(d.id, d.params, d.bytes, d.latency, worth(d), 0.0, 0.0, kept=d.least_kept) for d in found.values()
    ]
    return [found[each.id] for each in front_of(candidates, resolution)]


def lost(design: Design, baseline: Design, metric: Metric, limits: Limits) -> float:
    """Return what a design loses of the metric, or more where another output that counts loses more of its own limit.

    So one number is held against `Limits.max_drop`: twice what another output may lose counts as twice that.
    """
    own = baseline.score(metric) - design.score(metric)
    return joint_loss(own, 1.0 - design.least_kept, limits.max_drop, limits.max_other_drop)


def worth_refining(
    designs: Sequence[Design],
    baseline: Design,
    metric: Metric,
    limits: Limits,
    count: int = 4,
    verified: bool = True,
    resolution: float | None = 0.0,
    rest_us: float | None = None,
) -> list[Design]:
    """Return the designs that could become the recommended one: the `count` best that lose little enough.

    Refinement lowers losses, so that those within `_REFINABLE` times the limit compete, by the geometric mean of
    bytes and latency, and with them what would be recommended as it is. They are within it by the margin that the
    recommendation will ask for (`lrfdse.results.choice.margin_of`). For `verified` and `resolution` see
    `pareto`, for `rest_us` `lrfdse.results.choice.Candidate`.
    """
    front = pareto(designs, metric, verified, resolution)
    now = recommend(front, baseline, metric, limits, resolution, rest_us)
    competing = [_candidate(d, baseline, metric, limits, rest_us) for d in front if d.id != baseline.id]
    margin, _ = margin_of(competing, limits.max_drop)
    near = [
        design
        for design in front
        if design.id != baseline.id
        and lost(design, baseline, metric, limits) + margin * design.standard_error <= _REFINABLE * limits.max_drop
        and (limits.max_params is None or design.params <= limits.max_params)
        and (limits.max_size is None or design.bytes <= limits.max_size)
        and (limits.max_latency_us is None or design.latency.us <= limits.max_latency_us)
    ]
    near.sort(key=lambda d: (math.log(d.bytes) + math.log(d.latency.us + (rest_us or 0.0)), d.id))
    chosen = near[:count]
    if now is not None and now.id != baseline.id and now not in chosen:
        chosen.append(now)
    return chosen


def recommend(
    front: Sequence[Design],
    baseline: Design,
    metric: Metric,
    limits: Limits,
    resolution: float | None = 0.0,
    rest_us: float | None = None,
) -> Design | None:
    """Return the design within the limits to recommend, or None; see `lrfdse.results.choice.recommended_of`."""
    candidates = [_candidate(design, baseline, metric, limits, rest_us) for design in front]
    asked = Asked(
        max_drop=limits.max_drop,
        max_params=limits.max_params,
        max_latency_us=limits.max_latency_us,
        max_size=limits.max_size,
    )
    best = recommended_of(candidates, asked, resolution)
    return None if best is None else next(design for design in front if design.id == best.id)


def _candidate(design: Design, baseline: Design, metric: Metric, limits: Limits, rest_us: float | None) -> Candidate:
    return Candidate(
        id=design.id,
        params=design.params,
        bytes=design.bytes,
        latency=design.latency,
        worth=design.score(metric),
        loss=lost(design, baseline, metric, limits),
        standard_error=design.standard_error,
        is_original=design.id == baseline.id,
        others=shared_losses(design.others, design.others_error, limits.max_drop, limits.max_other_drop),
        rest_us=rest_us,
    )
