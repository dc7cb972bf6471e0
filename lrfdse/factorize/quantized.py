"""Cores in int8: rounded one after the other as they are executed, and the last fitted to what the rounded ones give.

Step by step a chain is a linear map of the layer's inputs, so that with their covariance G the second moment of what
every step reads is known, pooled over the places where its matrix is applied: each matrix is rounded against it
(`lrfdse.factorize.rounding.against_moment`). Before the last matrix is rounded, it is moved to the least squares
solution given the rounded ones before it; for two factors that is all the rest there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lrfdse.factorize.chain import dense_weight
from lrfdse.factorize.rounding import against_moment, nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lrfdse.ir.factorization import Array, Factorization
    from lrfdse.ir.int8 import Int8Matrix

_MOST_WORK = 4e10
"""Multiplications for the moments of all steps up to which they are taken: some seconds on one core. Chosen."""

_MOST_INPUTS = 4096
"""Inputs up to which a step is rounded against their moment, which has that many rows and columns. Chosen."""

_PULL = 1e-4
"""Part of the mean eigenvalue of a moment that holds the last core where it is; decides where the moment says nothing.
Chosen, not measured."""


def quantized(
    target: Array, factorization: Factorization, cores: Sequence[Array], covariance: Array | None
) -> tuple[tuple[Array, ...], tuple[NDArray[np.float32], ...]]:
    """Return cores whose step matrices are int8 levels times scales, and the scales of each core's matrix.

    Parameters
    ----------
    target
        The matrix that the chain stands for, shape (M, N).
    factorization
        Its shape; sizes beyond M and N are padding.
    cores
        The cores in floating point, of `Factorization.core_shapes`.
    covariance
        Of the layer's inputs, shape (N, N); None rounds every element to the nearest level, as do sizes for which
        moments would take too long. Nothing else is kept if it is worse on this covariance.

    Raises
    ------
    ValueError
        There is NaN or Inf.
    """
    matrices = factorization.step_matrices([np.asarray(core, np.float64) for core in cores])
    plain = [nearest(matrix) for matrix in matrices]
    chosen = plain
    if covariance is not None and _work(factorization) <= _MOST_WORK and factorization.inputs <= _MOST_INPUTS:
        fitted = _fitted(target, factorization, matrices, covariance)
        if _error(target, factorization, fitted, covariance) < _error(target, factorization, plain, covariance):
            chosen = fitted
    scales = [each.scales for each in chosen]
    return _cores(factorization, chosen), tuple(scales if factorization.direction == "lr" else reversed(scales))


def _work(factorization: Factorization) -> float:
    """Return the multiplications for the moments of what the steps read, and for rounding against them."""
    steps = factorization.steps()
    return float(sum(step.input_size * factorization.inputs**2 + step.inner**3 for step in steps))


def _fitted(
    target: Array, factorization: Factorization, matrices: Sequence[Array], covariance: Array
) -> list[Int8Matrix]:
    size = factorization.inputs
    second = np.zeros((size, size))
    second[: len(covariance), : len(covariance)] = covariance
    padded = np.zeros((factorization.outputs, size))
    padded[: target.shape[0], : target.shape[1]] = target
    found: list[Int8Matrix] = []
    # What the next step reads, as a linear map of the inputs.
    reads: NDArray[Any] = np.eye(size)
    steps = factorization.steps()
    for step, matrix in zip(steps, matrices, strict=True):
        shape = (step.batch, step.inner, step.columns, size)
        seen = reads.reshape(-1, size) @ second
        seen, reads = seen.reshape(shape), reads.reshape(shape)
        moment = np.einsum("pkqn,plqn->kl", seen, reads, optimize=True)
        moment = (moment + moment.T) / 2
        if step is steps[-1]:
            wanted = padded.reshape(step.batch, step.out, step.columns, size)
            cross = np.einsum("pjqn,pkqn->jk", wanted, seen, optimize=True)
            matrix = _moved(matrix, cross, moment)
        found.append(against_moment(matrix, moment))
        reads = np.einsum("jk,pkqn->pjqn", found[-1].dense(), reads, optimize=True)
    return found


def _moved(matrix: Array, cross: Array, moment: Array) -> Array:
    """Return the matrix W with the least ``E|y - W z|^2``, held where it is by a small part of the moment of z."""
    held = np.diag(moment).mean()
    if not held > 0:
        return matrix
    damped = moment + _PULL * held * np.eye(len(moment))
    return np.asarray(matrix + np.linalg.solve(damped, (cross - matrix @ moment).T).T)


def _cores(factorization: Factorization, matrices: Sequence[Int8Matrix]) -> tuple[Array, ...]:
    return tuple(factorization.step_cores([each.dense() for each in matrices]))


def _error(target: Array, factorization: Factorization, matrices: Sequence[Int8Matrix], covariance: Array) -> float:
    outputs, inputs = target.shape
    difference = target - dense_weight(_cores(factorization, matrices))[:outputs, :inputs]
    return float(np.vdot(difference @ covariance, difference))
