"""Leading singular triplets and square roots of second moments, at sizes from one element to VGG's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lrfdse.design import Array

DIRECT_SIDE = 1536
"""Smaller side up to which the full SVD is computed."""


def leading_svd(matrix: Array, rank: int) -> tuple[Array, Array, Array]:
    """Return ``U (rows, r)``, ``s (r,)``, ``Vt (r, columns)`` of the best approximation of at most `rank`.

    ``r = min(rank, rows, columns)``. Above `DIRECT_SIDE` the range is found by a randomized block power iteration
    (Halko, Martinsson, Tropp 2011, algorithm 4.4) with a fixed seed, so that the result is reproducible.
    """
    import scipy.linalg

    rank = min(rank, *matrix.shape)
    if min(matrix.shape) <= DIRECT_SIDE or rank > min(matrix.shape) // 2:
        u, s, vt = scipy.linalg.svd(matrix, full_matrices=False, check_finite=False, lapack_driver="gesdd")
        return u[:, :rank], s[:rank], vt[:rank]
    block = min(rank + 16, *matrix.shape)
    basis = matrix @ np.random.default_rng(0).standard_normal((matrix.shape[1], block))
    for _ in range(4):
        basis, _ = np.linalg.qr(basis)
        basis, _ = np.linalg.qr(matrix.T @ basis)
        basis = matrix @ basis
    basis, _ = np.linalg.qr(basis)
    u, s, vt = scipy.linalg.svd(basis.T @ matrix, full_matrices=False, check_finite=False)
    return (basis @ u)[:, :rank], s[:rank], vt[:rank]


def square_root(moment: Array) -> Array:
    """Return ``S`` with ``S S^T = moment`` for a symmetric positive semidefinite matrix, singular ones included.

    Only the directions that carry anything are kept, so ``S`` has shape ``(N, rank)``.
    """
    import scipy.linalg

    values, vectors = scipy.linalg.eigh(moment, check_finite=False)
    kept = values > max(values[-1], 0.0) * len(values) * np.finfo(np.float64).eps
    return np.asarray(vectors[:, kept] * np.sqrt(values[kept]))
