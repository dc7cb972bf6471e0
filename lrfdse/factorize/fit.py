"""Fit factorizations of one layer: to its outputs on calibration data, or to its weight where there are none."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from lrfdse.design import Factorization, Factors
from lrfdse.factorize.als import OutputError, fit_outputs
from lrfdse.factorize.chain import dense_weight
from lrfdse.factorize.linalg import leading_svd, shrunk, square_root
from lrfdse.factorize.tt import tt_svd

if TYPE_CHECKING:
    from lrfdse.design import Array, Moments


@dataclasses.dataclass(slots=True)
class Fitter:
    """Fits one layer's factorizations; what they share (bases, the root of the second moment) is computed once.

    Parameters
    ----------
    weight
        Shape (M, N).
    moments
        Of the layer's inputs; None when there are no calibration data.
    method
        "auto": every path is fitted to the outputs on the calibration data, SVD paths in closed form and others by
        alternating least squares under the covariance shrunk by the number of samples; without moments as "svd".
        "svd": every path is fitted to the weight, by TT-SVD. The bias correction and the output error need only
        moments.

    Notes
    -----
    The output error ``E|(W - What)(x - E x)|^2 = |(W - What) S|_F^2`` with ``S S^T`` the covariance of the inputs is,
    over matrices of rank r, least for ``What = U U^T W`` with ``U`` the r leading left singular vectors of ``W S``: the
    projection needs no inverse and so holds for a singular covariance (derived in docs/method.md). The mean is taken
    out because the bias absorbs it: ``b + (W - What) E x``.

    Shrinkage keeps trains from fitting the noise of few samples (docs/method.md holds the measurement). The closed form
    goes without: a projection of the weight itself has no such freedom. Errors are those on the moments as given.
    """

    weight: Array
    moments: Moments | None = None
    method: str = "auto"
    _root: Array | None = None
    _basis: Array | None = None
    _error: OutputError | None = None

    def fit(self, factorization: Factorization) -> Factors:
        """Return the fitted factors with their true errors."""
        if factorization.is_dense:
            shift = None if self.moments is None else np.zeros(len(self.weight))
            core = self.weight.reshape(1, *self.weight.shape, 1)
            return Factors(factorization, (core,), shift, 0.0, None if self.moments is None else 0.0)
        if self.method != "auto" or self.moments is None:
            cores = tt_svd(self.weight, factorization)
        elif factorization.is_svd:
            cores = self._whitened_svd(factorization)
        else:
            if self._error is None:
                covariance = shrunk(self.moments.covariance, self.moments.count)
                self._error = OutputError.of(self.weight, covariance)
            cores = fit_outputs(self._error, factorization)
        return self._measured(factorization, cores)

    def _whitened_svd(self, factorization: Factorization) -> tuple[Array, ...]:
        """Fit ``What = U (U^T W)`` with U from the outputs' principal directions."""
        rank = factorization.ranks[0]
        if self._basis is None or self._basis.shape[1] < min(rank, len(self.weight)):
            u, _, _ = leading_svd(self.weight @ self.root, max(rank, min(self.weight.shape) // 2))
            self._basis = u
        u = self._basis[:, :rank]
        left, right = np.zeros((len(u), rank)), np.zeros((rank, self.weight.shape[1]))
        left[:, : u.shape[1]] = u
        right[: u.shape[1]] = u.T @ self.weight
        if factorization.out_modes[1] == 1:
            return left[None, :, None, :], right[:, None, :, None]
        return right.T[None, None], left.T[:, :, None, None]

    def _measured(self, factorization: Factorization, cores: tuple[Array, ...]) -> Factors:
        outputs, inputs = self.weight.shape
        difference = self.weight - dense_weight(cores)[:outputs, :inputs]
        weight_error = _ratio(np.linalg.norm(difference), np.linalg.norm(self.weight))
        if self.moments is None:
            return Factors(factorization, cores, None, weight_error, None)
        output_error = _ratio(np.linalg.norm(difference @ self.root), np.linalg.norm(self.weight @ self.root))
        return Factors(factorization, cores, difference @ self.moments.mean, weight_error, output_error)

    @property
    def root(self) -> Array:
        """``S`` with ``S S^T`` the covariance of the inputs."""
        if self._root is None:
            assert self.moments is not None
            self._root = square_root(self.moments.covariance)
        return self._root


def _ratio(part: np.floating, whole: np.floating) -> float:
    return float(part / whole) if whole > 0 else 0.0
