"""Which candidates of a layer are worth compiling: short fits tell what the spectra only promise."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lrfdse.base.threads import in_threads
from lrfdse.ir.choice import Choice
from lrfdse.ir.factorization import Factorization

if TYPE_CHECKING:
    from lrfdse.explore.layers.errors import Errors
    from lrfdse.explore.layers.fits import Fits
    from lrfdse.ir.layer import Layer
    from lrfdse.ir.space import Candidate

MOST_WEIGHTS = 1_100_000
"""Weights of a layer up to which its fits are cheap enough to fit candidates that may not be compiled."""
_FIT_BASE = 0.1
"""What a fit by alternating least squares takes whatever its parameters, as parameters over the layer's weights: 15
fits of 300x784 and 100x300 layers took about 1e-6 s a weight and 1e-5 s a parameter on an EPYC core, in closed form the
first alone. It only weighs the progress shown."""


def fit_work(layer: Layer, factorization: Factorization) -> float:
    """Return how much work a fit is, to compare fits by."""
    return _FIT_BASE * layer.outputs * layer.inputs + (0 if factorization.is_svd else factorization.params)


def screened_front(
    layer: Layer,
    fits: Fits,
    candidates: Sequence[Candidate],
    threads: int,
    progress: Callable[[Factorization], None],
) -> list[Candidate]:
    """Return the candidates that no other beats in params, padded FLOPs and the error of a short fit together.

    The error is the estimated loss of the model where that is known, as a part of the largest one here, else the
    squared relative error of the outputs. `progress` is called after each fit.
    """
    found: list[Errors] = []

    def short(candidate: Candidate) -> Errors:
        return fits.screened(layer, Choice(candidate.factorization))

    for candidate, errors in zip(
        candidates,
        in_threads(short, candidates, threads),
        strict=True,
    ):
        found.append(errors)
        progress(candidate.factorization)
    most = max((each.loss for each in found if each.loss is not None), default=0.0)
    fitted = []
    for candidate, each in zip(candidates, found, strict=True):
        error = None if each.output_error is None else each.output_error**2
        error = each.loss / most if each.loss is not None and most > 0 else error
        fitted.append(candidate if error is None else dataclasses.replace(candidate, error_bound=error))
    fitted.sort(key=lambda c: (c.cost.params, c.cost.padded_flops, c.error_bound, str(c.factorization)))
    front: list[Candidate] = []
    for candidate in fitted:
        cost = candidate.cost
        if not any(f.cost.padded_flops <= cost.padded_flops and f.error_bound <= candidate.error_bound for f in front):
            front.append(candidate)
    return front
