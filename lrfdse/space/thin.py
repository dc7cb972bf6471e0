"""Choosing which designs of a front are compiled."""

from __future__ import annotations

import math
from collections.abc import Callable

from lrfdse.ir.space import Candidate

_SVD_SHARE = 4
"""One place in so many is for a plain SVD, the baseline of every layer. Chosen, not measured."""

_LEAST_ERROR = 1e-6
"""Error bounds below this count as equally good: float32 kernels round as much."""


def thin(candidates: list[Candidate], count: int) -> list[Candidate]:
    """Return at most `count` of the candidates, spread over their front, parameters ascending.

    A quarter of the places is for plain SVDs at equal distances in the order of their error bounds, one each for the
    design of the least error bound and of the fewest parameters. For the other places the range of error bounds is cut
    into equal parts on a logarithmic scale, half as many as places. Each part first gives the design with the fewest
    padded FLOPs that is not chosen yet, then in a second turn the one with the fewest parameters, then, while places
    are left, those of the least product of both; the smallest errors go first. The result depends on nothing but the
    set of candidates.

    Parameters
    ----------
    candidates : list of Candidate
        A surrogate front.
    count : int
        Designs wanted.
    """
    if len(candidates) <= count:
        return sorted(candidates, key=_by_params)
    if count < 1:
        return []
    plain = [candidate for candidate in candidates if candidate.factorization.is_svd]
    chosen = dict.fromkeys(_spread(plain, max(count // _SVD_SHARE, 1)))
    for end in (min(candidates, key=_by_error), min(candidates, key=_by_params)):
        if len(chosen) < count:
            chosen[end] = None
    parts = _by_level(candidates, max((count - len(chosen) + 1) // 2, 1))
    turns: list[Callable[[Candidate], tuple[object, ...]]] = [_by_flops, _by_params]
    while len(chosen) < count:
        key = turns.pop(0) if turns else _by_product
        for part in parts:
            free = [candidate for candidate in part if candidate not in chosen]
            if free and len(chosen) < count:
                chosen[min(free, key=key)] = None
    return sorted(chosen, key=_by_params)


def _spread(candidates: list[Candidate], count: int) -> list[Candidate]:
    """Return `count` candidates at equal distances in the order of their errors, the ends among them."""
    ordered = sorted(candidates, key=_by_error)
    if len(ordered) <= count:
        return ordered
    if count == 1:
        return [ordered[len(ordered) // 2]]
    return [ordered[round(i * (len(ordered) - 1) / (count - 1))] for i in range(count)]


def _by_level(candidates: list[Candidate], count: int) -> list[list[Candidate]]:
    """Cut the candidates into parts of equal width in the logarithm of the error bound, the smallest errors first."""
    logs = {candidate: math.log(max(candidate.error_bound, _LEAST_ERROR)) for candidate in candidates}
    low, high = min(logs.values()), max(logs.values())
    width = (high - low) / count or 1.0
    parts: list[list[Candidate]] = [[] for _ in range(count)]
    for candidate, value in logs.items():
        parts[min(int((value - low) / width), count - 1)].append(candidate)
    return parts


def _by_params(candidate: Candidate) -> tuple[object, ...]:
    return candidate.cost.params, candidate.cost.padded_flops, str(candidate.factorization)


def _by_flops(candidate: Candidate) -> tuple[object, ...]:
    return candidate.cost.padded_flops, candidate.cost.params, str(candidate.factorization)


def _by_error(candidate: Candidate) -> tuple[object, ...]:
    return candidate.error_bound, *_by_params(candidate)


def _by_product(candidate: Candidate) -> tuple[object, ...]:
    return candidate.cost.params * candidate.cost.padded_flops, *_by_params(candidate)
