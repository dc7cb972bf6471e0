"""Cores in int8: rounded one after the other as they are executed, and the rest fitted to what the rounded ones give.

Step by step a chain is a linear map of the layer's inputs, so that with their covariance G the second moment of what
every step reads is known, pooled over the places where its matrix is applied: each matrix is rounded against it
(`lrfdse.factorize.rounding.against_moment`). Before a matrix is rounded, those that are not yet rounded take their
least squares solutions given all others, the last one first, this one last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lrfdse.factorize.als import BUDGET
from lrfdse.factorize.chain import dense_weight, product_of
from lrfdse.factorize.objective import OutputError
from lrfdse.factorize.rounding import against_moment
from lrfdse.factorize.system import CoreSystem
from lrfdse.ir.int8 import nearest

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

_LEAST_DIRECTION = 1e-6
"""Part of the largest singular value of what surrounds a core below which a direction is left as it is: far below a
level of int8, which is a 127th of the largest element. Chosen, not measured."""


def quantized(
    target: Array,
    factorization: Factorization,
    cores: Sequence[Array],
    covariance: Array | None,
    shrunk: Array | None = None,
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
    shrunk
        The covariance that matrices between the first and the last are fitted on again, shape (N, N): one that is
        shrunk by the number of samples keeps them from fitting noise. By default that of the inputs.

    Raises
    ------
    ValueError
        There is NaN or Inf.
    """
    matrices = factorization.step_matrices([np.asarray(core, np.float64) for core in cores])
    plain = [nearest(matrix) for matrix in matrices]
    chosen = plain
    if covariance is not None and _work(factorization) <= _MOST_WORK and factorization.inputs <= _MOST_INPUTS:
        fitted = _fitted(target, factorization, matrices, covariance, covariance if shrunk is None else shrunk)
        if _error(target, factorization, fitted, covariance) < _error(target, factorization, plain, covariance):
            chosen = fitted
    scales = [each.scales for each in chosen]
    return _cores(factorization, chosen), tuple(scales if factorization.direction == "lr" else reversed(scales))


def _work(factorization: Factorization) -> float:
    """Return the multiplications for the moments of what the steps read, and for rounding against them."""
    steps = factorization.steps()
    return float(sum(step.input_size * factorization.inputs**2 + step.inner**3 for step in steps))


def _fitted(
    target: Array, factorization: Factorization, matrices: Sequence[Array], covariance: Array, shrunk: Array
) -> list[Int8Matrix]:
    size = factorization.inputs
    second = np.pad(covariance, (0, size - len(covariance)))
    padded = np.pad(target, [(0, factorization.outputs - len(target)), (0, size - target.shape[1])])
    found: list[Int8Matrix] = []
    # What the next step reads, as a linear map of the inputs.
    reads: NDArray[Any] = np.eye(size)
    steps = factorization.steps()
    error = OutputError.of(padded, np.pad(shrunk, (0, size - len(shrunk)))) if len(steps) > 2 else None
    left = list(matrices)
    for place, step in enumerate(steps):
        if error is not None and 0 < place < len(steps) - 1:
            left[place:] = _refitted(error, factorization, [*(each.dense() for each in found), *left[place:]], place)
        matrix = left[place]
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


def _refitted(error: OutputError, factorization: Factorization, matrices: Sequence[Array], first: int) -> list[Array]:
    """Return the matrices from the place `first` on, each at its least squares solution given all others as they are.

    Where one takes too long to solve for, it stays as it is.
    """
    cores, count = list(factorization.step_cores(matrices)), len(matrices)
    for place in reversed(range(first, count)):
        k = place if factorization.direction == "lr" else count - 1 - place
        before, after = product_of(cores[:k]), product_of(cores[k + 1 :])
        # (M', N', a) is orthonormal over its bond where it is that of its left singular vectors.
        u, into, out_of = _orthonormal(before.reshape(-1, before.shape[-1]))
        v, beyond, back = _orthonormal(after.reshape(len(after), -1).T)
        core = np.einsum("ea,amnb,fb->emnf", into, cores[k], beyond, optimize=True)
        left, right = u.reshape(*before.shape[1:3], -1), v.T.reshape(-1, *after.shape[1:3])
        system = CoreSystem(error, left, right, core.shape)
        if system.operations <= BUDGET and (found := system.step(core)) is not None:
            cores[k] = cores[k] + np.einsum("ae,emnf,bf->amnb", out_of, found[0], back, optimize=True)
    return factorization.step_matrices(cores)[first:]


def _orthonormal(columns: Array) -> tuple[Array, Array, Array]:
    """Return U, R and T with the given matrix U R, U of orthonormal columns, and R T = 1; small directions are out."""
    u, s, v = np.linalg.svd(columns, full_matrices=False)
    kept = s > _LEAST_DIRECTION * s[0] if s[0] > 0 else s == s[0]
    u, s, v = u[:, kept], s[kept], v[kept]
    return u, s[:, None] * v, v.T / np.where(s > 0, s, 1.0)


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
