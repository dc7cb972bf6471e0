"""Leading singular triplets and square roots of second moments, at sizes from one element to VGG's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lrfdse.factorize.thresholds import DEFAULT, Thresholds

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from lrfdse.ir.factorization import Array

_CHUNK = 1 << 22
"""Elements of a large matrix that are held in double precision at a time: 32 MB. Chosen, not measured."""

_NOISE = 1e-6
"""Part of the largest singular value below which single precision (rounding 6e-8, summed over rows) holds none."""

_CUT = 1e-13
"""Part of the largest eigenvalue below which one counts as zero: some hundred roundings of double precision."""


def leading_svd(matrix: Array, rank: int, thresholds: Thresholds = DEFAULT) -> tuple[Array, Array, Array]:
    """Return ``U (rows, r)``, ``s (r,)``, ``Vt (r, columns)`` of the best approximation of at most `rank`.

    ``r = min(rank, rows, columns)``. Above `Thresholds.direct_side` the range is found by a randomized block power
    iteration (Halko, Martinsson, Tropp 2011, algorithm 4.4) with a fixed seed, so that the result is reproducible.
    """
    import scipy.linalg

    rank = min(rank, *matrix.shape)
    if is_direct(matrix.shape, rank, thresholds):
        u, s, vt = full_svd(matrix)
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


def is_direct(shape: tuple[int, ...], rank: int, thresholds: Thresholds = DEFAULT) -> bool:
    """Return whether the leading triplets of a matrix are cut from its full SVD, which serves every rank then."""
    return min(shape) <= thresholds.direct_side or rank > min(shape) // 2


def full_svd(matrix: Array) -> tuple[Array, Array, Array]:
    """Return ``U (rows, k)``, ``s (k,)``, ``Vt (k, columns)`` of a matrix, k its smaller side."""
    import scipy.linalg

    found = scipy.linalg.svd(matrix, full_matrices=False, check_finite=False, lapack_driver="gesdd")
    u, s, vt = (np.asarray(part) for part in found)
    return u, s, vt


def leading_split(matrix: NDArray[Any], rank: int, thresholds: Thresholds = DEFAULT) -> tuple[Array, Array]:
    """Return ``U (rows, r)``, orthonormal, and ``U^T matrix (r, columns)`` of the best approximation of at most `rank`.

    ``r = min(rank, rows, columns)``. From `Thresholds.large` elements on it works in single precision: by the
    eigenvectors of the Gram matrix of the smaller side, or by a randomized block power iteration. Directions that
    single precision cannot tell from rounding are left zero.
    """
    rank = min(rank, *matrix.shape)
    if matrix.size < thresholds.large:
        u, s, vt = leading_svd(np.asarray(matrix, dtype=np.float64), rank, thresholds)
        return u, s[:, None] * vt
    single = matrix.astype(np.float32, copy=False)
    is_wide = single.shape[0] <= single.shape[1]
    basis = leading_basis(single if is_wide else single.T, rank, thresholds)
    if is_wide:
        return basis, basis.T @ single
    image = single @ basis
    norms = np.linalg.norm(image, axis=0)
    norms[norms <= _NOISE * norms.max(initial=0.0)] = 0.0
    inverse = np.divide(1, norms, out=np.zeros_like(norms), where=norms > 0)
    return image * inverse, norms[:, None] * basis.T


def leading_basis(single: NDArray[Any], rank: int, thresholds: Thresholds = DEFAULT) -> Array:
    """Return the `rank` leading left singular vectors of a large wide matrix in single precision."""
    import scipy.linalg

    side = len(single)
    by_gram = side <= thresholds.most_gram_side and rank > thresholds.gram_part * side
    if side <= thresholds.gram_side or by_gram:
        return left_vectors(single)[:, :rank]
    block = min(rank + 16, side)
    rng = np.random.default_rng(0)
    basis = single @ rng.standard_normal((single.shape[1], block), dtype=np.float32)
    for _ in range(2):
        basis, _ = scipy.linalg.qr(basis, mode="economic", overwrite_a=True, check_finite=False)
        basis = single @ (single.T @ basis)
    basis, _ = scipy.linalg.qr(basis, mode="economic", overwrite_a=True, check_finite=False)
    projected = basis.T @ single
    _, vectors = np.linalg.eigh((projected @ projected.T).astype(np.float64))
    return np.asarray(basis @ vectors[:, : -rank - 1 : -1].astype(np.float32))


def left_vectors(matrix: NDArray[Any]) -> Array:
    """Return all left singular vectors of a wide matrix, those of the largest values first, in single precision.

    They are the eigenvectors of the Gram matrix, which is summed in double precision.
    """
    gram = np.zeros((len(matrix), len(matrix)))
    step = max(1, _CHUNK // len(matrix))
    for start in range(0, matrix.shape[1], step):
        part = matrix[:, start : start + step].astype(np.float64)
        gram += part @ part.T
    vectors: Any = np.ascontiguousarray(np.linalg.eigh(gram)[1][:, ::-1], dtype=np.float32)
    return vectors  # type: ignore[no-any-return]


def square_root(moment: Array) -> Array:
    """Return ``S`` with ``S S^T = moment`` for a symmetric positive semidefinite matrix, singular ones included.

    By Cholesky factorization with pivoting, which ends where what is left is rounding: ``S`` has shape ``(N, rank)``.
    """
    from scipy.linalg import lapack

    factor, pivots, rank, _ = lapack.dpstrf(moment, lower=1)
    root = np.zeros((len(moment), rank))
    root[pivots - 1] = np.tril(factor)[:, :rank]
    return root


def shrunk(covariance: Array, samples: int) -> Array:
    """Return ``(1 - t) C + t (tr C / N) I`` with t by oracle approximating shrinkage (Chen, Wiesel, Eldar, Hero 2010).

    The weight t falls with the number of samples and with how far C is from a multiple of the identity; it depends on
    nothing else. It is 1 where C says nothing beyond its scale.
    """
    part, scale = shrinkage(covariance, samples)
    return np.asarray((1 - part) * covariance + part * scale * np.eye(len(covariance)))


def shrinkage(covariance: Array, samples: int) -> tuple[float, float]:
    """Return t and ``tr C / N`` of `shrunk`."""
    size, trace = len(covariance), float(np.trace(covariance))
    squares = float(np.vdot(covariance, covariance))
    spread = (samples + 1 - 2 / size) * (squares - trace * trace / size)
    weight = (1 - 2 / size) * squares + trace * trace
    return (min(weight / spread, 1.0) if spread > 0 else 1.0), trace / size


def solve_semidefinite(matrix: Array, rows: Array) -> Array:
    """Return ``rows @ pinv(matrix)`` for a symmetric positive semidefinite matrix.

    By Cholesky where the matrix is well enough conditioned for double precision, else by eigenvalues, of which those
    below ``1e-13`` of the largest count as zero.
    """
    import scipy.linalg
    from scipy.linalg import lapack

    scale = float(np.abs(matrix).max(initial=0.0))
    if scale == 0.0:
        return np.zeros_like(rows)
    try:
        factor = scipy.linalg.cholesky(matrix, lower=True, check_finite=False)
    except np.linalg.LinAlgError:
        factor = None
    if factor is not None:
        reciprocal, _ = lapack.dpocon(factor, np.linalg.norm(matrix, 1), uplo="L")
        if reciprocal > _CUT:
            return np.asarray(scipy.linalg.cho_solve((factor, True), rows.T, check_finite=False).T)
    values, vectors = scipy.linalg.eigh(matrix, check_finite=False)
    kept = values > values[-1] * _CUT
    basis = vectors[:, kept]
    return np.asarray(((rows @ basis) / values[kept]) @ basis.T)


def conjugate_gradients(
    apply: Callable[[Array], Array],
    target: Array,
    steps: int,
    tolerance: float,
    precondition: Callable[[Array], Array] | None = None,
) -> tuple[Array, Array]:
    """Solve ``apply(x) = target`` from zero for a symmetric positive semidefinite operator; return x and ``apply(x)``.

    Ends after `steps` products or when the residual, in the norm of the preconditioner, has fallen to `tolerance` of
    the target. Every iterate lowers ``<x, apply(x)> - 2 <x, target>``.

    Parameters
    ----------
    apply
        The product with the operator.
    target
        The right-hand side, of any shape.
    steps
        Most products.
    tolerance
        Part of the target's norm, in that of the preconditioner, at which the residual is small enough.
    precondition
        The product with an approximate inverse of the operator; None is the identity.
    """
    x, product = np.zeros_like(target), np.zeros_like(target)
    residual = target.copy()
    better = residual if precondition is None else precondition(residual)
    direction = better.copy()
    energy = first = float(np.vdot(residual, better))
    for _ in range(steps):
        if not energy > tolerance**2 * first:
            break
        image = apply(direction)
        curvature = float(np.vdot(direction, image))
        if not curvature > 0:
            break
        length = energy / curvature
        x += length * direction
        product += length * image
        residual = target - product
        better = residual if precondition is None else precondition(residual)
        before, energy = energy, float(np.vdot(residual, better))
        direction = better + (energy / before) * direction
    return x, product
