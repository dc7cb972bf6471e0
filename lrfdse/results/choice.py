"""Which designs stand on the front, and which one is recommended: one rule for the search and for whoever asks again.

Latencies that tie (`lrfdse.ir.latency.are_tied`) count as equal: no design is ahead of another for latency alone unless
the meter can tell them apart. To the recommendation, sizes that nearly agree (`NEAR`) are equal, too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lrfdse.ir.latency import Latency, are_tied

if TYPE_CHECKING:
    from lrfdse.results.asked import Limits

_SLACK = 1e-9
"""Slack of a loss, a fraction: one of exactly the limit is within it. Chosen, not measured: far above the rounding of a
difference of fractions, far below one sample of any data set."""

NEAR = 0.02
"""Relative difference of two sizes in bytes up to which the recommendation takes them for equal. Chosen, not
measured: one more rank of the largest layer of examples/lenet300-fashion is 2.7 % of the weights that its recommended
design has left, so that what differs by less has no choice of ranks between."""

MARGINS = (1.645, 1.0, 0.0)
"""Standard errors by which the loss of a design may have to be within its limit, the widest first: 1.645 are 95 %
confidence (one-sided, normal distribution), 1 the one-standard-error rule of Breiman et al. (1984). Measured on the
front of examples/lenet300-fashion at a limit of 1 point, 2,000 of its 10,000 test images choosing by turns: what is
chosen loses more on all of them in 38 % of the draws without a margin, in 8 % by one standard error, in 3 % by
1.645."""

_BLIND = 2.0
"""Multiples of the limit that the standard error of a loss may be for the loss, as it was measured, to say anything: a
design that keeps the limit on data that cannot tell it from one that loses three times as much keeps it by luck. By
simulation (tests/quality/test_promises.py) such designs lost 4 to 15 times their limit."""

_LEAST_DROP = 0.001
"""Limit of a loss (fraction) below which losses are not compared by multiples of it. Chosen, not measured: two samples
of the 2,000 that evaluate the example."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """What the choice looks at in a design."""

    id: str
    params: int
    """Stored elements."""
    bytes: int
    """Bytes that these take: what is to be small."""
    latency: Latency
    """In the cache regime in which the design is charged."""
    worth: float
    """Its score; higher is better."""
    loss: float
    """Score of the original less its own, a fraction."""
    standard_error: float
    """Standard error of the loss, a fraction; 0 where it is not known."""
    is_original: bool = False
    kept: float = 1.0
    """What the worst of the other outputs that count keeps of the original's; 1 where no other counts."""
    others: tuple[tuple[float, float], ...] = ()
    """What each of the other outputs that count loses and its standard error, in fractions of the judged one's limit
    times that limit, as `shared_losses` gives them."""
    rest_us: float | None = None
    """What everything but the fully-connected layers takes, the same for every candidate; None where nobody knows."""

    @property
    def model_us(self) -> float:
        """Latency of the whole model as it is estimated; that of the fully-connected layers where no more is known."""
        return self.latency.us + (self.rest_us or 0.0)


@dataclass(frozen=True, slots=True)
class Field:
    """Among which candidates one is recommended."""

    competing: list[Candidate]
    """The original, and the designs that are within the limits by `margin` (of those that are ahead of the original in
    bytes times latency, where there are such)."""
    tied: list[Candidate]
    """Those of them between which neither latency nor size decides: the one with the most worth is recommended."""
    margin: float
    """Standard errors of their loss by which the compressed ones are within the limits; one of `MARGINS`."""


def joint_loss(own: float, other: float, max_drop: float | None, max_other_drop: float | None) -> float:
    """Return the loss of the metric, or more where another output loses more of its own limit.

    So one number is held against `max_drop`: twice what another output may lose counts as twice that. Without
    `max_other_drop` the other outputs may lose what the judged one may.

    >>> joint_loss(0.001, 0.04, 0.01, 0.02), joint_loss(0.001, 0.04, 0.01, None)
    (0.02, 0.04)
    """
    most = max_drop if max_other_drop is None else max_other_drop
    if max_drop is None or most is None or most == max_drop:
        return max(own, other)
    return max(own, other * max_drop / most) if most > 0 and max_drop > 0 else max(own, other - most)


def shared_losses(
    kept: Mapping[str, float], errors: Mapping[str, float], max_drop: float | None, max_other_drop: float | None
) -> tuple[tuple[float, float], ...]:
    """Return what other outputs lose and their standard errors, so that both can be held against `max_drop`.

    >>> shared_losses({"state": 0.96}, {"state": 0.01}, 0.01, 0.02)
    ((0.02, 0.005),)
    """
    found = []
    for name, value in kept.items():
        loss = joint_loss(-math.inf, 1.0 - value, max_drop, max_other_drop)
        upper = joint_loss(-math.inf, 1.0 - value + errors.get(name, 0.0), max_drop, max_other_drop)
        found.append((round(loss, 12), round(upper - loss, 12)))
    return tuple(found)


def front_of(candidates: Sequence[Candidate], resolution: float | None = 0.0) -> list[Candidate]:
    """Return the candidates that no other matches in bytes, latency, worth and `kept` together, by latency.

    Of equals there is one.

    Parameters
    ----------
    candidates
        The designs, in any order.
    resolution
        See `lrfdse.ir.latency.are_tied`. Every candidate that is left out has one on the front with as few bytes, as
        much worth, and a latency that is no higher or ties with its own.
    """
    front: list[Candidate] = []
    for each in sorted(candidates, key=lambda c: (c.bytes, -c.worth, -c.kept, c.latency.us, c.id)):
        if not any(
            other.worth >= each.worth and other.kept >= each.kept and _no_slower(other, each, resolution)
            for other in front
        ):
            front.append(each)
    return sorted(front, key=lambda c: (c.latency.us, c.bytes, -c.worth, c.id))


def recommended_of(front: Sequence[Candidate], limits: Limits, resolution: float | None = 0.0) -> Candidate | None:
    """Return the candidate within the limits with the least geometric mean of bytes and latency, or None.

    That latency is the whole model's where it is known, which bounds what the layers can gain. Of those whose latency
    ties with its (the rest being the same for all, only the latency of the layers can tie), it is one with the fewest
    bytes: of all that have at most `NEAR` more, the one with the most worth. Designs were looked at in numbers, so
    the best of those just within the limit is there by luck: where a compressed design is within it by one standard
    error of its loss, only such designs compete (the one-standard-error rule).
    """
    field = field_of(front, limits, resolution)
    return None if field is None else min(field.tied, key=lambda c: (-c.worth, c.bytes, c.id))


def field_of(front: Sequence[Candidate], limits: Limits, resolution: float | None = 0.0) -> Field | None:
    """Return among which candidates `recommended_of` chooses; None where none is within the limits."""
    within = [each for each in front if is_within(each, limits)]
    compressed = [each for each in within if not each.is_original]
    originals = [each for each in within if each.is_original]
    ahead = [each for each in compressed if all(_cost(each) < _cost(original) for original in originals)]
    margin, sure = margin_of(ahead or compressed, limits.max_drop)
    competing = [*sure, *originals]
    if not competing:
        return None
    best = min(competing, key=lambda c: (_cost(c), c.id))
    level = [each for each in competing if are_tied(each.latency, best.latency, resolution)]
    fewest = min(each.bytes for each in level)
    return Field(competing, [each for each in level if each.bytes <= fewest * (1 + NEAR)], margin)


def margin_of(compressed: Sequence[Candidate], max_drop: float | None) -> tuple[float, list[Candidate]]:
    """Return the widest of `MARGINS` by which some of the candidates lose at most `max_drop` (a fraction), and these.

    The list is empty where none does even without a margin.
    """
    for margin in MARGINS:
        sure = [each for each in compressed if max_drop is None or _is_sure(each, margin, max_drop)]
        if sure:
            return margin, sure
    return MARGINS[-1], []


def _is_sure(candidate: Candidate, margin: float, max_drop: float) -> bool:
    """Return whether every output that counts loses little enough by a margin, and the data can tell."""
    parts = [(candidate.loss, candidate.standard_error), *candidate.others]
    if any(loss + margin * error > max_drop + _SLACK for loss, error in parts):
        return False
    return margin > 0 or max(error for _, error in parts) <= _BLIND * max(max_drop, _LEAST_DROP)


def excess(candidate: Candidate, limits: Limits) -> float:
    """Return how many times the limit that it breaks most a design takes; at most 1 where it breaks none.

    Of a loss it is the multiple of the limit, or of a tenth of a point where less is allowed.
    """
    found = [1.0]
    if limits.max_drop is not None:
        found.append((candidate.loss - _SLACK) / max(limits.max_drop, _LEAST_DROP))
    if limits.max_params is not None:
        found.append(candidate.params / max(limits.max_params, 1))
    if limits.max_size is not None:
        found.append(candidate.bytes / max(limits.max_size, 1))
    if limits.max_latency_us is not None:
        found.append(candidate.latency.us / limits.max_latency_us)
    if limits.max_model_latency_us is not None:
        unknown = candidate.rest_us is None
        found.append(math.inf if unknown else candidate.model_us / limits.max_model_latency_us)
    return max(found)


def is_within(candidate: Candidate, limits: Limits) -> bool:
    """Return whether a design satisfies the limits, its loss taken as it was measured."""
    return (
        (limits.max_drop is None or candidate.loss <= limits.max_drop + _SLACK)
        and (limits.max_params is None or candidate.params <= limits.max_params)
        and (limits.max_size is None or candidate.bytes <= limits.max_size)
        and (limits.max_latency_us is None or candidate.latency.us <= limits.max_latency_us)
        and _is_fast_as_a_whole(candidate, limits.max_model_latency_us)
    )


def _cost(candidate: Candidate) -> float:
    """Return the logarithm of bytes times latency."""
    return math.log(candidate.bytes) + math.log(candidate.model_us)


def _is_fast_as_a_whole(candidate: Candidate, most: float | None) -> bool:
    return most is None or (candidate.rest_us is not None and candidate.model_us <= most)


def _no_slower(one: Candidate, other: Candidate, resolution: float | None) -> bool:
    return one.latency.us <= other.latency.us or are_tied(one.latency, other.latency, resolution)
