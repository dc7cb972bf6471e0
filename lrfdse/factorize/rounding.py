"""Rounding a matrix to int8 against the second moment of what it multiplies.

This is the greedy scheme of Optimal Brain Quantization (Frantar and Alistarh, "Optimal Brain Compression", 2022)
in the column order and Cholesky form of GPTQ (Frantar, Ashkboos, Hoefler and Alistarh, 2022). With ``H = E[x x^T]`` the
harm of an error d in one output's weights is ``d H d^T``. After weight j was rounded with error e, the best the weights
that are not yet rounded can do is to move by ``-e / [H^-1]_jj * [H^-1]_j,rest``, where H is that of the weights not yet
rounded before j. All those inverses lie in one triangular matrix: with ``H = R R^T``, R upper triangular, row j of
``U = R^-1`` is proportional to what is needed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lrfdse.ir.int8 import Int8Matrix, nearest, nearest_levels

DAMPING = 0.01
"""Part of the mean of H's diagonal that is added to it: GPTQ's value."""

_BLOCK = 128
"""Columns after which the others are told of all errors at once: GPTQ's value. Decides speed alone."""


def against_moment(weight: NDArray[np.float64], second: NDArray[np.float64]) -> Int8Matrix:
    """Return a matrix rounded so that its product with what it reads changes little; scales are those of `nearest`.

    No output is worse by `harm` than with `nearest`: where the greedy scheme gains nothing, that is kept.

    Parameters
    ----------
    weight
        Shape (outputs, inputs), finite and within float32.
    second
        E[x x^T] of the inputs x, shape (inputs, inputs).

    Raises
    ------
    ValueError
        There is NaN or Inf, or the shapes do not fit.
    """
    inputs = weight.shape[1]
    if second.shape != (inputs, inputs) or not np.isfinite(second).all():
        raise ValueError(f"a second moment of {inputs} inputs must be finite and of shape {(inputs, inputs)}")
    plain = nearest(weight)
    diagonal = np.diag(second)
    if not diagonal.mean() > 0:
        return plain
    # Weights of strong inputs first: their errors are then passed on to all others.
    order = np.argsort(-diagonal, kind="stable")
    spread = _spread(second[np.ix_(order, order)])
    levels = np.empty_like(plain.levels)
    levels[:, order] = _greedy(weight[:, order], plain.scales.astype(np.float64), spread)
    found = Int8Matrix(levels, plain.scales)
    worse = harm(found, weight, second) >= harm(plain, weight, second)
    levels[worse] = plain.levels[worse]
    return found


def harm(rounded: Int8Matrix, weight: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each output's mean squared error on inputs of a second moment, ``d H d^T``, shape (outputs,)."""
    error = rounded.dense() - weight
    found: NDArray[np.float64] = np.einsum("ij,ij->i", error @ second, error)
    return found


def _spread(second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the upper triangular inverse of R, where H with damping is R R^T."""
    damped = second + DAMPING * np.diag(second).mean() * np.eye(len(second))
    # Cholesky's factor of the matrix turned end for end, turned back, is upper triangular.
    root = np.linalg.cholesky(damped[::-1, ::-1])[::-1, ::-1]
    return np.triu(np.linalg.inv(root))


def _greedy(weight: NDArray[np.float64], scales: NDArray[np.float64], spread: NDArray[np.float64]) -> NDArray[np.int8]:
    """Round column by column; the errors of a column move those after it."""
    left, levels = weight.copy(), np.empty(weight.shape, np.int8)
    inputs = weight.shape[1]
    for start in range(0, inputs, _BLOCK):
        stop = min(start + _BLOCK, inputs)
        errors = np.empty((len(weight), stop - start))
        for j in range(start, stop):
            levels[:, j] = nearest_levels(left[:, j], scales)
            errors[:, j - start] = (left[:, j] - levels[:, j] * scales) / spread[j, j]
            left[:, j + 1 : stop] -= errors[:, j - start, None] * spread[j, None, j + 1 : stop]
        left[:, stop:] -= errors @ spread[start:stop, stop:]
    return levels
