"""The methods that fit a factorization, behind one protocol.

Each takes a `Problem` and a factorization of at least two cores and returns cores of its `core_shapes`. To add one,
write a class with the protocol's three members and add an object of it to `METHODS`, or offer it from a package of your
own under the entry-point group "lrfdse.methods"; `lrfdse.testing.methods` tests what every method must do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from lrfdse.base.registry import Registry
from lrfdse.factorize.als import BUDGET, fit_outputs
from lrfdse.factorize.linalg import leading_split
from lrfdse.factorize.starts import diagonal_start, separable_start
from lrfdse.factorize.tt import balanced, tt_svd

if TYPE_CHECKING:
    from lrfdse.factorize.problem import Problem
    from lrfdse.ir.factorization import Array, Factorization


class Method(Protocol):
    """How cores are found."""

    @property
    def source(self) -> str:
        """Paper and equation, or where it is derived."""

    @property
    def needs_moments(self) -> bool:
        """Whether the method looks at calibration data; without any, the fit is that of "svd"."""

    def fit(self, problem: Problem, factorization: Factorization) -> tuple[Array, ...]:
        """Return core k of shape ``(r_{k-1}, m_k, n_k, r_k)``."""


class PlainSvd:
    """TT-SVD of the weight, blind to data; on the paths of the plain SVD the truncated SVD."""

    source = "Oseledets 2011, algorithm 1"
    needs_moments = False

    def fit(self, problem: Problem, factorization: Factorization) -> tuple[Array, ...]:
        """Return the cores of TT-SVD; on the paths of the plain SVD of a large weight, of one SVD for all ranks."""
        rank = factorization.ranks[0]
        if not factorization.is_svd or problem.left_vectors is None or rank > min(problem.weight.shape):
            return tt_svd(problem.weight, factorization, problem.thresholds)
        u = problem.left_vectors[:, :rank]
        left, right = np.zeros((factorization.outputs, rank)), np.zeros((rank, factorization.inputs))
        left[: len(u)] = u
        right[:, : problem.weight.shape[1]] = u.T @ problem.weight
        return balanced(_as_svd(factorization, left, right))


class WhitenedSvd:
    """TT-SVD of the weight whitened by the inputs' covariance.

    Exact on the paths of the plain SVD, by projection on the outputs' principal directions. On others the covariance is
    replaced by its separable part, and a weighting of the outputs is ignored.
    """

    source = "SVD-LLM (arXiv 2403.07378) and AFM (Yu and Wu 2023) in projection form, docs/method.md section 7"
    needs_moments = True

    def fit(self, problem: Problem, factorization: Factorization) -> tuple[Array, ...]:
        """Return the cores of the closed form."""
        if factorization.is_svd:
            return projected_svd(problem, factorization)
        error = problem.error(factorization).padded(factorization.outputs, factorization.inputs)
        return separable_start(error, factorization, problem.thresholds)


class DiagonalSvd:
    """TT-SVD of the weight with each input scaled by the square root of its root mean square: for comparison."""

    source = "ASVD (arXiv 2312.05821), alpha = 0.5; root mean squares for its mean absolute values"
    needs_moments = True
    alpha = 0.5

    def fit(self, problem: Problem, factorization: Factorization) -> tuple[Array, ...]:
        """Return the cores of the scaled TT-SVD, unscaled."""
        assert problem.moments is not None
        scales = np.sqrt(np.maximum(np.diag(problem.moments.second), 0.0))
        largest = float(scales.max())
        scales = np.maximum(scales, 1e-3 * largest) if largest > 0 else np.ones_like(scales)
        m, n = problem.weight.shape
        added = (0, factorization.outputs - m), (0, factorization.inputs - n)
        padded = np.pad(scales**self.alpha, added[1], mode="mean")
        return diagonal_start(np.pad(problem.weight, added), padded, factorization, problem.thresholds)


class AlternatingLeastSquares:
    """The least output error found: in closed form on the paths of the plain SVD, by alternating least squares else.

    Beyond `Thresholds.swept` it starts from the better of "svd" and "svd-whitened", and makes one sweep where samples
    are few, else none.
    """

    source = "docs/method.md section 7; cumulative targets after SAES-SVD (arXiv 2602.03051)"
    needs_moments = True

    def fit(self, problem: Problem, factorization: Factorization) -> tuple[Array, ...]:
        """Return the fitted cores."""
        if factorization.is_svd:
            return projected_svd(problem, factorization)
        also = [problem.weight] if problem.is_cumulative else []
        error = problem.error(factorization)
        sweeps = problem.sweeps
        if problem.weight.size * problem.weight.shape[1] > problem.thresholds.swept:
            # A sweep takes minutes where the covariance has full rank.
            sweeps = min(sweeps, 1 if problem.has_few_samples else 0)
        budget = problem.budget
        if budget is None and problem.has_few_samples:
            # As for a layer of as many inputs as there are samples, twice for products there and back.
            budget = max(BUDGET, 32.0 * error.weight.size * problem.root.shape[1])
        return fit_outputs(error, factorization, sweeps=sweeps, budget=budget, also=also, thresholds=problem.thresholds)


_ALS = AlternatingLeastSquares()

METHODS: Registry[Method] = Registry(
    "lrfdse.methods",
    "fitting method",
    {"auto": _ALS, "als": _ALS, "svd": PlainSvd(), "svd-whitened": WhitenedSvd(), "asvd": DiagonalSvd()},
)
"""The fitting methods by name; "auto" is the best that is known."""


def projected_svd(problem: Problem, factorization: Factorization) -> tuple[Array, ...]:
    """Return the factors of the least output error of their rank on a path of the plain SVD.

    With T the target, S a root of the covariance and K one of the weighting, ``K^T What S`` is the truncated SVD of
    ``K^T T S``, hence ``What = K^-T U U^T K^T T``: the input side needs no inverse. Where the data span fewer
    directions than the rank, the rest of U goes to what is left of the target itself.
    """
    import scipy.linalg

    rank, root = factorization.ranks[0], problem.weighting_root
    target = problem.target(factorization)
    turned = target if root is None else root.T @ target
    u = _principal(problem, turned, min(rank, *turned.shape))
    left, right = np.zeros((factorization.outputs, rank)), np.zeros((rank, factorization.inputs))
    used = u if root is None else scipy.linalg.solve_triangular(root, u, lower=True, trans="T", check_finite=False)
    left[: len(u), : u.shape[1]] = used
    right[: u.shape[1], : turned.shape[1]] = u.T @ turned
    return _as_svd(factorization, left, right)


def _as_svd(factorization: Factorization, left: Array, right: Array) -> tuple[Array, ...]:
    """Return ``left @ right`` as the two cores of a path of the plain SVD."""
    if factorization.out_modes[1] == 1 and factorization.in_modes[0] == 1:
        return left[None, :, None, :], right[:, None, :, None]
    return right.T[None, None], left.T[:, :, None, None]


def _principal(problem: Problem, weight: Array, rank: int) -> Array:
    """Return orthonormal columns, at most `rank`: the leading left singular vectors of ``weight @ root``, then more.

    Columns without weight behind them are left out of the first part, and filled up with those of what the first part
    leaves of `weight`.
    """
    u, s = problem.principal(weight, rank)
    u = u[:, s > (s[0] if len(s) else 0.0) * 1e-12]
    if (missing := rank - u.shape[1]) > 0:
        rest = weight - u @ (u.T @ weight)
        u = np.hstack([u, leading_split(rest, missing)[0]])
        u, _ = np.linalg.qr(u)
    return u
