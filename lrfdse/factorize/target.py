"""What a layer is to compute on the inputs that a compressed model feeds it: targets between its own and the original.

Sources: SAES-SVD (arXiv 2602.03051), whose closed form is the target of `Cumulative.at` cut to a rank, and whose ACES
chooses the weight between the two by what the rank retains. The ridge is that of generalized cross-validation (Golub,
Heath and Wahba 1979). Derived in docs/method.md.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from lrfdse.factorize.spectra import bond_tails, whitened_for

if TYPE_CHECKING:
    from lrfdse.ir.factorization import Array, Factorization
    from lrfdse.ir.factors import Moments

_RIDGES = 61
"""Ridges tried, spaced evenly in logarithms: four to five a decade. Chosen, not measured."""
_LEAST_RIDGE = 1e-10
"""The least ridge tried, as a part of the largest variance of the inputs; the largest is a thousand times that
variance. Chosen: beyond either nothing changes."""
_SEARCHES = 10
"""Evaluations of the retained part beside those at both ends. Chosen, not measured."""


@dataclasses.dataclass(frozen=True, slots=True)
class Cumulative:
    """A layer on the inputs xh that the compressed model feeds it, whose outputs y should be those of the original.

    With ``y_beta = beta y + (1 - beta) W xh`` the best linear map from xh to it is ``W + beta correction``.
    """

    weight: Array
    """W, shape (M, N)."""
    correction: Array
    """``(C - W G) (G + ridge I)^-1``, shape (M, N); 0 in directions that xh never takes."""
    ridge: float

    @classmethod
    def of(cls, weight: Array, moments: Moments, ridge: float | None = None) -> Cumulative:
        """Regress what the original outputs have beyond ``W xh`` on xh.

        Parameters
        ----------
        weight
            Shape (M, N).
        moments
            With `cross`, `output_mean` and `output_variance`.
        ridge
            By default the one that generalized cross-validation finds for the number of samples.
        """
        import scipy.linalg

        assert moments.cross is not None and moments.output_variance is not None
        covariance = moments.covariance
        image = weight @ covariance
        values, vectors = scipy.linalg.eigh(covariance, check_finite=False)
        kept = values > max(values[-1], 0.0) * len(values) * np.finfo(np.float64).eps
        values, vectors = values[kept], vectors[:, kept]
        beyond = (moments.cross - image) @ vectors
        if ridge is None:
            energy = moments.output_variance - 2 * float(np.vdot(weight, moments.cross)) + float(np.vdot(image, weight))
            ridge = _cross_validated(values, np.einsum("mi,mi->i", beyond, beyond), energy, moments.count)
        return cls(weight, (beyond / (values + ridge)) @ vectors.T, ridge)

    def at(self, beta: float) -> Array:
        """Return the target ``W + beta correction``."""
        return self.weight + beta * self.correction

    def beta(self, factorization: Factorization, covariance: Array) -> float:
        """Return the weight in [0, 1] at which the path retains most of the target's energy (ACES).

        The retained part is 1 minus the tails of the whitened target at the path's bonds: exactly that of the truncated
        SVD on the paths of the plain SVD, an estimate elsewhere.

        Parameters
        ----------
        factorization
            Of any path; its ranks count.
        covariance
            Of xh, shape (N, N).
        """
        from scipy.optimize import minimize_scalar

        m, n, d = factorization.out_modes, factorization.in_modes, len(factorization.out_modes)
        bonds = {(int(np.prod(m[:k])), int(np.prod(n[:k]))): factorization.ranks[k - 1] for k in range(1, d)}
        added = (0, factorization.outputs - len(self.weight)), (0, factorization.inputs - len(covariance))
        covariance = np.pad(covariance, added[1])
        both = np.pad(np.stack([self.weight, self.correction]), ((0, 0), *added)).reshape(-1, factorization.inputs)
        whitened = {split: whitened_for(both, covariance, split) for split in sorted({b for _, b in bonds})}
        outputs = factorization.outputs

        def lost(beta: float) -> float:
            parts = ((bond, rank, whitened[bond[1]]) for bond, rank in bonds.items())
            return sum(
                float(bond_tails(part[:outputs] + beta * part[outputs:], {bond: rank})[bond][-1])
                for bond, rank, part in parts
            )

        found = minimize_scalar(lost, bounds=(0.0, 1.0), method="bounded", options={"maxiter": _SEARCHES})
        return min((1.0, 0.0, float(found.x)), key=lost)


def _cross_validated(values: Array, explained: Array, energy: float, count: int) -> float:
    """Return the ridge of least generalized cross-validation error, over a grid below the largest variance.

    Parameters
    ----------
    values
        Variances along the principal directions of the inputs, positive, shape (K,).
    explained
        Squared covariances of the regressed outputs with those directions, summed over outputs, shape (K,).
    energy
        Variance of the regressed outputs, summed.
    count
        Samples.
    """
    if not len(values):
        return 0.0
    grid = values[-1] * np.geomspace(_LEAST_RIDGE, 1e3, _RIDGES)
    shares = values / (values + grid[:, None])
    left = np.maximum(energy - (explained / values * (2 * shares - shares**2)).sum(axis=1), 0.0)
    # The mean takes one degree of freedom more.
    free = 1 - (1 + shares.sum(axis=1)) / count
    scores = np.where(free > 0, left / np.maximum(free, 1e-12) ** 2, np.inf)
    return float(grid[int(np.argmin(scores))])
