"""A monotone curve through measured points: more error never loses less."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class MonotoneFit:
    """A non-decreasing curve from (0, 0) through its knots: linear between them, proportional beyond the last."""

    at: tuple[float, ...]
    """Errors that were run, ascending and positive."""
    values: tuple[float, ...]
    """The loss fitted there, non-decreasing and not negative."""

    @classmethod
    def of(cls, errors: Sequence[float], losses: Sequence[float]) -> MonotoneFit:
        """Fit losses measured at errors: the non-decreasing sequence, none below 0, nearest in squared difference.

        Isotonic regression by pool-adjacent-violators (Barlow et al., "Statistical inference under order
        restrictions", 1972). Losses at equal errors count as their mean, with the weight of their number; a measured
        loss below 0 is noise.

        Raises
        ------
        ValueError
            There are not as many errors as losses, an error is not positive, or a number is not finite.

        >>> MonotoneFit.of([0.1, 0.2, 0.4], [0.01, 0.05, 0.03]).values
        (0.01, 0.04, 0.04)
        """
        from scipy.optimize import isotonic_regression

        x, y = np.asarray(errors, np.float64), np.asarray(losses, np.float64)
        if x.shape != y.shape or x.ndim != 1:
            raise ValueError(f"every error needs a loss, but there are {x.size} errors and {y.size} losses")
        if not (np.isfinite(x).all() and np.isfinite(y).all() and (x > 0).all()):
            raise ValueError("a monotone fit needs finite losses at finite, positive errors")
        if not x.size:
            return cls((), ())
        at, group, weights = np.unique(x, return_inverse=True, return_counts=True)
        means = np.bincount(group, weights=y) / weights
        fitted = np.maximum(isotonic_regression(means, weights=weights).x, 0.0)
        return cls(tuple(map(float, at)), tuple(float(np.round(value, 15)) for value in fitted))

    def predict(self, errors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the loss at errors >= 0 of any shape.

        >>> MonotoneFit((0.1, 0.2), (0.01, 0.04)).predict(np.array([0.0, 0.05, 0.15, 0.4])).round(4).tolist()
        [0.0, 0.005, 0.025, 0.08]
        """
        if not self.at:
            return np.zeros(np.shape(errors))
        inside = np.interp(errors, (0.0, *self.at), (0.0, *self.values))
        beyond = self.values[-1] * errors / self.at[-1]
        return np.asarray(np.where(errors > self.at[-1], beyond, inside), np.float64)
