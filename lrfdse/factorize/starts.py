"""Trains in closed form that know the inputs: TT-SVD of the weight scaled on its input side, the scaling undone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lrfdse.factorize.thresholds import DEFAULT, Thresholds
from lrfdse.factorize.tt import tt_svd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lrfdse.factorize.objective import OutputError
    from lrfdse.factorize.splits import Splits
    from lrfdse.ir.factorization import Array, Factorization

_LIFT = 0.01
"""Part of the mean variance that whitening adds to every variance, so that its inverse stays small. Chosen, not
measured: alternating least squares starts there and goes on."""


def separable_start(
    error: OutputError, factorization: Factorization, thresholds: Thresholds = DEFAULT
) -> tuple[Array, ...]:
    """Return TT-SVD of the target under a covariance that is separable over the input modes, unwhitened.

    The factors are the partial traces of the covariance. The result need not be optimal where the covariance itself is
    not separable.
    """
    modes = factorization.in_modes
    tensor = error.covariance.reshape(*modes, *modes)
    roots = []
    for k, size in enumerate(modes):
        factor = tensor
        for axis in reversed([axis for axis in range(len(modes)) if axis != k]):
            factor = np.trace(factor, axis1=axis, axis2=axis + factor.ndim // 2)
        trace = float(np.trace(factor))
        lifted = _LIFT * np.eye(size) + (factor * (size / trace) if trace > 0 else np.eye(size))
        roots.append(np.asarray(np.linalg.cholesky(lifted)))
    return _scaled_tt_svd(error.weight, factorization, roots, thresholds, error.splits)


def diagonal_start(
    weight: Array, scales: Array, factorization: Factorization, thresholds: Thresholds = DEFAULT
) -> tuple[Array, ...]:
    """Return TT-SVD of the weight with its columns scaled, unscaled again.

    A train keeps its form only under scales that are products over the input digits, so the nearest such product in
    logarithms is taken; on the paths of the plain SVD that is the scales themselves.

    Parameters
    ----------
    weight
        Shape (M, N), those of the factorization.
    scales
        Shape (N,), positive.
    factorization
        A factorization of at least two cores.
    thresholds
        When to work in single precision.
    """
    modes = factorization.in_modes
    logs = np.log(scales).reshape(modes)
    logs -= logs.mean()
    others = [tuple(axis for axis in range(len(modes)) if axis != k) for k in range(len(modes))]
    return _scaled_tt_svd(weight, factorization, [np.exp(logs.mean(axis=axes)) for axes in others], thresholds)


def _scaled_tt_svd(
    weight: Array,
    factorization: Factorization,
    roots: Sequence[Array],
    thresholds: Thresholds,
    splits: Splits | None = None,
) -> tuple[Array, ...]:
    """Return TT-SVD of the weight times one root for each input mode, the inverses multiplied into the cores.

    A root is a lower triangular matrix, or a vector that stands for a diagonal one.
    """
    import scipy.linalg

    scaled = weight.reshape(-1, *factorization.in_modes)
    for k, root in enumerate(roots):
        last = np.moveaxis(scaled, k + 1, -1)
        scaled = np.moveaxis(last * root if root.ndim == 1 else last @ root, -1, k + 1)
    cores = []
    whitened = tt_svd(scaled.reshape(weight.shape), factorization, thresholds, splits, "scaled")
    for core, root in zip(whitened, roots, strict=True):
        if root.ndim == 1:
            cores.append(core / root[:, None])
            continue
        a, m, n, b = core.shape
        rows = core.transpose(2, 0, 1, 3).reshape(n, -1)
        found = scipy.linalg.solve_triangular(root, rows, lower=True, trans="T", check_finite=False)
        cores.append(np.asarray(found.reshape(n, a, m, b).transpose(1, 2, 0, 3)))
    return tuple(cores)
