"""All singular values of a large matrix at once, to about a percent of what a truncation discards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lrfdse.ir.factorization import Array

BLOCK = 32
"""Columns of the random block. Chosen; docs/method.md, section 4, has what the tails are off by."""

_STEPS, _FEW_STEPS = 12, 8
"""Products with the matrix and its transpose that follow the block, and those of a matrix of `_LARGE` elements. Chosen;
docs/method.md, section 4, has what the tails are off by."""

_LARGE = 1 << 25
"""Elements from which a matrix gets fewer products: each reads it twice. Chosen."""

_CONVERGED = 0.05
"""Part of a Ritz value that its residual is at most where it counts as an eigenvalue. Chosen: its square, the error
of the value, is then below a percent."""

_SIGMAS = 4.0
"""Standard deviations that a sum of weights may be off before it tells of copies of an eigenvalue. Chosen."""

_ROUNDING = 1e-6
"""Part of the energy below which single precision tells nothing."""


def squared_spectrum(matrix: NDArray[np.float32], energy: float, rng: np.random.Generator) -> Array:
    """Return the squared singular values of a matrix, descending: the leading ones found, the others by their density.

    Block Lanczos iteration on ``A A^T`` with a random block gives Ritz values. The leading ones converge. The others
    are the nodes of a Gauss quadrature whose weights, taken over a random block, tell how many eigenvalues each stands
    for (Golub and Meurant 2010, chapter 6; Ubaru, Chen and Saad 2017). Their counts are scaled to the energy that the
    leading ones leave, and the values between nodes interpolated in logarithms.

    Parameters
    ----------
    matrix : array, shape (S, C)
        The matrix, with S <= C, and S well above the columns of all steps.
    energy : float
        The sum of its squares.
    rng
        Draws the block.

    Returns
    -------
    array, shape (S,)
        Their sum is `energy`.
    """
    size = len(matrix)
    values, weights, residuals = _ritz(matrix, rng)
    # A random block holds each eigenvector with a mean square of 1 / S. More than that in the first Ritz values tells
    # of eigenvalues of which the space holds some copies only.
    found = np.arange(1, len(values) + 1)
    alone = np.cumsum(weights) * size <= found + _SIGMAS * np.sqrt(2 * found / BLOCK)
    converged = alone & (residuals <= _CONVERGED * values)
    count = len(values) if converged.all() else int(np.argmin(converged))
    leading = values[:count]
    rest = energy - float(leading.sum())
    nodes, held = values[count:], weights[count:] * size
    seen = float(nodes @ held)
    if rest <= _ROUNDING * energy or not seen > 0:
        return np.concatenate([leading, np.zeros(size - count)])
    held = held * (rest / seen)
    middles = np.cumsum(held) - held / 2
    logs = np.log(np.maximum(nodes, np.finfo(np.float64).tiny))
    density = np.exp(np.interp(np.arange(size - count) + 0.5, middles, logs))
    density *= rest / float(density.sum())
    return np.sort(np.concatenate([leading, density]))[::-1]


def steps(elements: int) -> int:
    """Return the number of products with a matrix of so many elements and its transpose."""
    return _STEPS if elements < _LARGE else _FEW_STEPS


def _ritz(matrix: NDArray[np.float32], rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Return Ritz values of ``A A^T``, descending, the shares of eigenvalues that they stand for, and residuals."""
    import scipy.linalg

    size = len(matrix)
    block, _ = scipy.linalg.qr(rng.standard_normal((size, BLOCK), dtype=np.float32), mode="economic")
    basis, images = np.empty((size, 0), np.float32), []
    last = np.zeros((BLOCK, BLOCK), np.float32)
    for _ in range(min(steps(matrix.size), size // BLOCK)):
        basis = np.hstack([basis, block])
        images.append(matrix.T @ block)
        beyond = matrix @ images[-1]
        beyond -= basis @ (basis.T @ beyond)
        block, last = scipy.linalg.qr(beyond, mode="economic", check_finite=False)
        # Again after scaling: directions that have nearly ended would bring back what is in the basis.
        for _ in range(2):
            block -= basis @ (basis.T @ block)
            block, scale = scipy.linalg.qr(block, mode="economic", check_finite=False)
            last = scale @ last
    joined = np.hstack(images)
    values, vectors = np.linalg.eigh((joined.T @ joined).astype(np.float64))
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    weights = (vectors[:BLOCK] ** 2).sum(axis=0) / BLOCK
    return values, weights, np.linalg.norm(last.astype(np.float64) @ vectors[-BLOCK:], axis=0)
