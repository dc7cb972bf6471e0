"""Tensor trains fitted to a layer's outputs: alternating least squares over cores under the inputs' covariance."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from lrfdse.factorize.chain import dense_weight
from lrfdse.factorize.linalg import conjugate_gradients, solve_semidefinite
from lrfdse.factorize.tt import balanced, carried_ranks, tt_svd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lrfdse.design import Array, Factorization

SWEEPS = 12
"""Most sweeps of a fit."""

LEAST_GAIN = 1e-3
"""A fit ends when a sweep lowers the squared error by less than this part of it."""

BUDGET = 2e10
"""Floating-point operations, estimated, that the updates of a fit may spend."""

_DIRECT_UNKNOWNS = 5000
_DIRECT_ELEMENTS = 32_000_000
_CG_STEPS = 25
_CG_TOLERANCE = 1e-4


@dataclasses.dataclass(frozen=True, slots=True)
class OutputError:
    """The squared error ``|(W - What) S|_F^2`` with ``S S^T`` the covariance of the inputs, for one layer.

    Parameters
    ----------
    weight
        W, shape (M, N).
    covariance
        Shape (N, N), positive semidefinite.
    product
        ``W`` times the covariance, shape (M, N).
    """

    weight: Array
    covariance: Array
    product: Array

    @classmethod
    def of(cls, weight: Array, covariance: Array) -> OutputError:
        """Take the product once, for all fits of the layer."""
        weight = np.asarray(weight, dtype=np.float64)
        return cls(weight, covariance, weight @ covariance)

    def padded(self, outputs: int, inputs: int) -> OutputError:
        """Return the error of the layer padded with zeros: outputs that are zero and inputs that never vary."""
        m, n = self.weight.shape
        if (m, n) == (outputs, inputs):
            return self
        added = ((0, outputs - m), (0, inputs - n))
        return OutputError(
            np.pad(self.weight, added),
            np.pad(self.covariance, (added[1], added[1])),
            np.pad(self.product, added),
        )

    def __call__(self, cores: Sequence[Array]) -> float:
        """Return the squared error of a train."""
        difference = self.weight - dense_weight(cores)
        return max(float(np.vdot(difference @ self.covariance, difference)), 0.0)


def fit_outputs(
    error: OutputError,
    factorization: Factorization,
    sweeps: int = SWEEPS,
    gain: float = LEAST_GAIN,
    budget: float | None = None,
) -> tuple[Array, ...]:
    """Return cores that minimise the output error of any path, from the better of two starts, never above TT-SVD.

    The starts are TT-SVD of the weight, and TT-SVD of the weight whitened by a covariance that is separable over the
    input modes. Each core in turn takes the step that solves its least squares problem exactly (or nearly, by conjugate
    gradients where the system is large); directions that the inputs never take stay as they were. Derived in
    docs/method.md.

    Parameters
    ----------
    error
        Of the layer; sizes below the factorization's are padded with zeros.
    factorization
        At least two cores. A rank above what a bond can carry leaves zeros.
    sweeps
        Most sweeps over all cores, there and back; 0 returns the start.
    gain
        Ends the fit when a sweep lowers the squared error by a smaller part.
    budget
        Operations that the updates may spend; by default `BUDGET`, or twice what evaluating the error once takes where
        that is more. An update that would go beyond it is left out, so that in a layer of many millions of weights only
        cores with small systems are fitted.

    Returns
    -------
    tuple of array
        Core k of shape ``(r_{k-1}, m_k, n_k, r_k)``.
    """
    ranks = carried_ranks(factorization)
    shape = dataclasses.replace(factorization, ranks=ranks)
    error = error.padded(shape.outputs, shape.inputs)
    best = tt_svd(error.weight, factorization)
    if shape != factorization:
        # Where no bond carries more, what was found has an exact train of the smaller ranks.
        best = tt_svd(dense_weight(best), shape)
    least = error(best)
    other = _separable_start(error, shape)
    if (reached := error(other)) < least:
        best, least = other, reached
    # Rounding in the interfaces limits what can be gained.
    floor = float(np.vdot(error.product, error.weight)) * 1e-14
    sweep = _Sweep(error, list(best), max(BUDGET, 4.0 * error.weight.size * shape.inputs) if budget is None else budget)
    for _ in range(sweeps):
        if least <= floor:
            break
        sweep.forward()
        sweep.backward()
        before, reached = least, error(sweep.cores)
        if reached < least:
            best, least = tuple(sweep.cores), reached
        if not sweep.moved or least > (1 - gain) * before:
            break
    return _grown(balanced(best), factorization)


class _Sweep:
    """Cores in turn, with the product of those to the left and to the right of each kept orthonormal.

    The left part of core k has shape ``(M_{k-1}, N_{k-1}, r_{k-1})``, the right part ``(r_k, M/M_k, N/N_k)``.
    """

    def __init__(self, error: OutputError, cores: list[Array], budget: float) -> None:
        self._error = error
        self._left: list[Array] = [np.ones((1, 1, 1))] * len(cores)
        self._right: list[Array] = [np.ones((1, 1, 1))] * len(cores)
        self._budget = budget
        self.cores = cores
        self.moved = False
        for k in range(len(cores) - 1, 0, -1):
            self._pass_left(k)

    def forward(self) -> None:
        """Update every core but the last, left to right."""
        self.moved = False
        for k in range(len(self.cores) - 1):
            self._update(k)
            self._pass_right(k)

    def backward(self) -> None:
        """Update every core but the first, right to left."""
        for k in range(len(self.cores) - 1, 0, -1):
            self._update(k)
            self._pass_left(k)

    def _pass_right(self, k: int) -> None:
        """Make core k orthonormal over its left and own indices; its triangular factor moves to core k + 1."""
        core, after = self.cores[k], self.cores[k + 1]
        a, m, n, b = core.shape
        q, triangle = np.linalg.qr(core.reshape(a * m * n, b))
        self.cores[k] = q.reshape(a, m, n, b)
        self.cores[k + 1] = np.tensordot(triangle, after, axes=(1, 0))
        left = self._left[k]
        joined = np.tensordot(left, self.cores[k], axes=(2, 0)).transpose(0, 2, 1, 3, 4)
        self._left[k + 1] = joined.reshape(left.shape[0] * m, left.shape[1] * n, b)

    def _pass_left(self, k: int) -> None:
        """Do the mirror image."""
        core, before = self.cores[k], self.cores[k - 1]
        a, m, n, b = core.shape
        q, triangle = np.linalg.qr(core.reshape(a, m * n * b).T)
        self.cores[k] = q.T.reshape(a, m, n, b)
        self.cores[k - 1] = np.tensordot(before, triangle, axes=(3, 1))
        right = self._right[k]
        joined = np.tensordot(self.cores[k], right, axes=(3, 0)).transpose(0, 1, 3, 2, 4)
        self._right[k - 1] = joined.reshape(a, m * right.shape[1], n * right.shape[2])

    def _update(self, k: int) -> None:
        """Solve for core k where the budget allows, and take the solution where it lowers the error."""
        core, system = self.cores[k], _System(self._error, self._left[k], self._right[k], self.cores[k].shape)
        if system.operations > self._budget:
            return
        self._budget -= system.operations
        step = system.step(core)
        if step is not None:
            self.cores[k] = core + step
            self.moved = True


class _System:
    """The least squares problem of one core ``(a, m, n, b)`` between a left and a right part.

    The normal matrix pairs ``(a, n, b)`` with itself and is the same for every output digit m. A part that holds no
    input digits is orthonormal over its outputs alone, so its bond index only adds right-hand sides.
    """

    def __init__(self, error: OutputError, left: Array, right: Array, shape: tuple[int, ...]) -> None:
        self._a, self._m, self._n, self._b = shape
        self._error, self._left, self._right = error, left, right
        self._p, self._q = left.shape[1], right.shape[2]
        # Outputs enter the normal matrix by their inner products alone, so an orthonormal basis of them serves.
        self._few_left = _compressed(left)
        self._few_right = _compressed(right.transpose(1, 2, 0))
        o, t = len(self._few_left), len(self._few_right)
        size = len(error.covariance)
        a, b = (self._a if self._p > 1 else 1), (self._b if self._q > 1 else 1)
        self._unknowns = a * self._n * b
        rows = self._m * self._a * self._n * self._b / self._unknowns
        middle = self._p * self._n * b
        direct = 2.0 * size * size * (min(b * b, t * b) if self._q > 1 else 0)
        direct += 2.0 * middle * middle * (min(a * a, o * a) if self._p > 1 else 0)
        direct += self._unknowns**3 / 3 + 4 * rows * self._unknowns**2
        product = 2.0 * o * self._m * t * size * size
        iterative = _CG_STEPS * product
        self._direct = (
            self._unknowns <= _DIRECT_UNKNOWNS and middle * middle <= _DIRECT_ELEMENTS and direct <= iterative
        )
        self.operations = (direct if self._direct else iterative) + 2.0 * error.weight.size * self._a

    def step(self, core: Array) -> Array | None:
        """Return what to add to the core, or None where nothing lowers the error."""
        target = _projected(self._error.product, self._left, self._right, self._m, self._n)
        if self._direct:
            matrix = self._matrix()
            residual = self._rows(target) - self._rows(core) @ matrix
            step = solve_semidefinite(matrix, residual)
            change = step @ matrix
        else:
            residual = target - self._apply(core)
            step, change = conjugate_gradients(self._apply, residual, _CG_STEPS, _CG_TOLERANCE)
        if not (2 * np.vdot(residual, step) - np.vdot(change, step) > 0):
            return None
        return self._cored(step) if self._direct else step

    def _matrix(self) -> Array:
        """Return the normal matrix over the unknowns of one right-hand side."""
        p, n, q = self._p, self._n, self._q
        tensor = self._error.covariance
        if q > 1:
            tensor = _congruence(tensor.reshape(p * n, q, p * n, q), self._few_right)
        if p > 1:
            rest = self._unknowns // self._a
            turned = tensor.reshape(p, rest, p, rest).transpose(1, 0, 3, 2)
            tensor = _congruence(turned, self._few_left).reshape(rest, self._a, rest, self._a).transpose(1, 0, 3, 2)
        matrix = tensor.reshape(self._unknowns, self._unknowns)
        return np.asarray((matrix + matrix.T) / 2)

    def _order(self) -> tuple[int, ...]:
        """Return the axes of a core ``(a, m, n, b)`` with those of the right-hand sides first."""
        free = ([0] if self._p == 1 else []) + [1] + ([3] if self._q == 1 else [])
        return (*free, *(axis for axis in range(4) if axis not in free))

    def _rows(self, core: Array) -> Array:
        return core.transpose(self._order()).reshape(-1, self._unknowns)

    def _cored(self, rows: Array) -> Array:
        order, shape = self._order(), (self._a, self._m, self._n, self._b)
        return rows.reshape([shape[axis] for axis in order]).transpose(np.argsort(order))

    def _apply(self, core: Array) -> Array:
        """Multiply by the normal matrix without forming it."""
        left, right = self._few_left, self._few_right
        dense = np.tensordot(np.tensordot(left, core, axes=(2, 0)), right, axes=(4, 2))
        o, p, m, n, t, q = dense.shape
        dense = dense.transpose(0, 2, 4, 1, 3, 5).reshape(o * m * t, p * n * q)
        return _projected(dense @ self._error.covariance, left, right.transpose(2, 0, 1), m, n)


def _projected(product: Array, left: Array, right: Array, m: int, n: int) -> Array:
    """Return ``sum L[o,p,a] P[(o,i,t),(p,j,q)] R[b,t,q]`` as ``(a, i, j, b)``."""
    (o, p, _), (_, t, q) = left.shape, right.shape
    joined = np.tensordot(left, product.reshape(o, m, t, p, n, q), axes=((0, 1), (0, 3)))
    return np.asarray(np.tensordot(joined, right, axes=((2, 4), (1, 2))))


def _compressed(part: Array) -> Array:
    """Return an array ``(o', p, a)`` with the same sums over o of products as `part` of shape ``(o, p, a)``."""
    o, p, a = part.shape
    if p == 1:
        return np.eye(a)[:, None, :]
    return part if o <= p * a else np.linalg.qr(part.reshape(o, p * a))[1].reshape(-1, p, a)


def _congruence(tensor: Array, part: Array) -> Array:
    """Return ``sum_o F_o^T T F_o`` over axes 1 and 3 of ``T (s, c, s, c)``, where ``part[o]`` is F_o ``(c, e)``."""
    s, c = tensor.shape[:2]
    o, _, e = part.shape
    if e <= o and c * c * e * e <= _DIRECT_ELEMENTS:
        flat = part.reshape(o, c * e)
        pairs = (flat.T @ flat).reshape(c, e, c, e).transpose(0, 2, 1, 3).reshape(c * c, e * e)
        turned = tensor.transpose(0, 2, 1, 3).reshape(s * s, c * c) @ pairs
        return turned.reshape(s, s, e, e).transpose(0, 2, 1, 3)
    total = np.zeros((s * e, s * e))
    for each in part:
        half = (tensor.reshape(s * c * s, c) @ each).reshape(s, c, s * e)
        total += (each.T @ half).reshape(s * e, s * e)
    return total.reshape(s, e, s, e)


def _separable_start(error: OutputError, shape: Factorization) -> tuple[Array, ...]:
    """Return TT-SVD of the weight under the covariance's nearest separable part, by partial traces, unwhitened.

    The roots are of mean 1 on the diagonal and are lifted by a hundredth so that their inverses stay small; the start
    need not be optimal.
    """
    modes = shape.in_modes
    tensor = error.covariance.reshape(*modes, *modes)
    roots, inverses = [], []
    for k, size in enumerate(modes):
        factor = tensor
        for axis in reversed([axis for axis in range(len(modes)) if axis != k]):
            factor = np.trace(factor, axis1=axis, axis2=axis + factor.ndim // 2)
        trace = float(np.trace(factor))
        values, vectors = np.linalg.eigh(factor * (size / trace) if trace > 0 else np.eye(size))
        lifted = np.sqrt(np.maximum(values, 0.0) + 0.01)
        roots.append((vectors * lifted) @ vectors.T)
        inverses.append((vectors / lifted) @ vectors.T)
    whitened = error.weight.reshape(-1, *modes)
    for k, root in enumerate(roots):
        whitened = np.moveaxis(np.tensordot(whitened, root, axes=(k + 1, 0)), -1, k + 1)
    cores = tt_svd(whitened.reshape(error.weight.shape), shape)
    return tuple(
        np.tensordot(core, inverse, axes=(2, 0)).transpose(0, 1, 3, 2)
        for core, inverse in zip(cores, inverses, strict=True)
    )


def _grown(cores: Sequence[Array], factorization: Factorization) -> tuple[Array, ...]:
    """Fill cores of smaller ranks up to the factorization's shapes with zeros."""
    return tuple(
        np.pad(core, [(0, wanted - size) for wanted, size in zip(full, core.shape, strict=True)])
        for core, full in zip(cores, factorization.core_shapes, strict=True)
    )
