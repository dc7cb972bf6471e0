"""Tensor trains fitted to a layer's outputs: alternating least squares over cores under the inputs' covariance."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from lrfdse.factorize.chain import dense_weight
from lrfdse.factorize.objective import OutputError
from lrfdse.factorize.starts import separable_start
from lrfdse.factorize.system import CoreSystem
from lrfdse.factorize.thresholds import DEFAULT, Thresholds
from lrfdse.factorize.tt import balanced, carried_ranks, tt_svd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lrfdse.ir.factorization import Array, Factorization

SWEEPS = 12
"""Most sweeps of a fit; results/als.md has what further ones gain."""

LEAST_GAIN = 1e-3
"""A fit ends when a sweep lowers the squared error by less than this part of it; results/als.md has the errors left."""

BUDGET = 2e10
"""Floating-point operations, estimated, after which a fit starts no further sweep: some seconds on one core
(results/als.md has the times)."""

_UNWEIGHTED_SWEEPS = 4
"""Most sweeps of the fit without weighting that a fit with one starts from. Chosen, not measured."""

_ROUNDING = 1e-14
"""Part of the whole energy below which rounding in the interfaces is all that is left of the error."""


def fit_outputs(
    error: OutputError,
    factorization: Factorization,
    sweeps: int = SWEEPS,
    gain: float = LEAST_GAIN,
    budget: float | None = None,
    also: Sequence[Array] = (),
    thresholds: Thresholds = DEFAULT,
) -> tuple[Array, ...]:
    """Return cores that minimise the output error of any path, from the best of several starts, never above TT-SVD.

    The starts are TT-SVD of the target, and TT-SVD of the target whitened by a covariance that is separable over the
    input modes. Each core in turn takes the step that solves its least squares problem exactly (or nearly, by conjugate
    gradients where the system is large); directions that the inputs never take stay as they were. Derived in
    docs/method.md.

    Where one core holds all output digits, a weighting of the outputs acts on that core alone: its root goes to the
    target, and its inverse to the core. Elsewhere the weighting stands in the least squares problems.

    Parameters
    ----------
    error
        The squared error of the layer; sizes below the factorization's are padded with zeros.
    factorization
        At least two cores. A rank above what a bond can carry leaves zeros.
    sweeps
        Most sweeps over all cores, there and back; 0 returns the start.
    gain
        Ends the fit when a sweep lowers the squared error by a smaller part.
    budget
        Operations after which no further sweep starts; by default `BUDGET`, or 16 times the size of the layer times its
        inputs where that is more. The first sweep is always made whole, so every core is fitted.
    also
        Further weights, shape (M, N), whose TT-SVDs are starts.
    thresholds
        Sizes at which to change to cheaper algorithms.

    Returns
    -------
    tuple of array
        Core k of shape ``(r_{k-1}, m_k, n_k, r_k)``.
    """
    error = error.padded(factorization.outputs, factorization.inputs)
    also = [_padded(weight, error.weight.shape) for weight in also]
    if budget is None:
        budget = max(BUDGET, 16.0 * error.weight.size * factorization.inputs)
    effort = _Effort(sweeps, gain, budget, thresholds)
    holders = [k for k, m in enumerate(factorization.out_modes) if m > 1]
    if error.weighting is None or len(holders) > 1:
        return _descended(error, factorization, effort, also)
    root, turned = error.weighting_root, error.turned
    # TT-SVD of the target itself is no start of the turned problem, but the promise is to stay below it.
    plain = tt_svd(error.weight, factorization, thresholds, error.splits)
    also = [root.T @ dense_weight(plain), *(root.T @ weight for weight in also)]
    cores = list(_descended(turned, factorization, effort, also))
    k = holders[0] if holders else 0
    cores[k] = _solved(root, cores[k])
    return balanced(cores)


@dataclasses.dataclass(frozen=True, slots=True)
class _Effort:
    """How far a fit goes; see `fit_outputs`."""

    sweeps: int
    gain: float
    budget: float
    thresholds: Thresholds


def _descended(
    error: OutputError, factorization: Factorization, effort: _Effort, also: Sequence[Array]
) -> tuple[Array, ...]:
    """Return the cores after sweeps from the best start."""
    least_ranks, thresholds = dataclasses.replace(factorization, ranks=carried_ranks(factorization)), effort.thresholds
    made = [tt_svd(error.weight, factorization, thresholds, error.splits)]
    made += [tt_svd(weight, factorization, thresholds) for weight in also]
    starts = [_carried(each, factorization, least_ranks, thresholds) for each in made]
    starts.insert(1, separable_start(error, least_ranks, thresholds))
    if error.weighting is not None:
        fewer = dataclasses.replace(effort, sweeps=min(effort.sweeps, _UNWEIGHTED_SWEEPS))
        starts.append(_descended(error.unweighted, least_ranks, fewer, also))
    reached = [error(start) for start in starts]
    least = min(reached)
    best = starts[reached.index(least)]
    floor = error.whole * _ROUNDING
    if effort.sweeps > 0 and least > floor:
        found = _swept(error, best, effort, least, floor)
        if error(found) < least:
            best = found
    return _grown(balanced(best), factorization)


def _swept(
    error: OutputError, cores: Sequence[Array], effort: _Effort, reached: float, floor: float
) -> tuple[Array, ...]:
    """Return the cores after sweeps from a start whose squared error is `reached`; at `floor` all is gained."""
    sweep = Sweep(error, list(cores), reached, effort.thresholds)
    for _ in range(effort.sweeps):
        before = sweep.reached
        sweep.forward()
        sweep.backward()
        done = sweep.reached <= floor or sweep.reached > (1 - effort.gain) * before
        if done or sweep.operations >= effort.budget:
            break
    return tuple(sweep.cores)


class Sweep:
    """The cores of a train taken in turn; the products to the left and to the right of each are kept orthonormal.

    The left part of core k has shape ``(M_{k-1}, N_{k-1}, r_{k-1})``, the right part ``(r_k, M/M_k, N/N_k)``.

    Parameters
    ----------
    error
        The squared error of the layer, of the sizes of the train.
    cores
        Core k of shape ``(r_{k-1}, m_k, n_k, r_k)``.
    reached
        Their squared error.
    thresholds
        Sizes at which to change to cheaper algorithms.
    """

    def __init__(
        self, error: OutputError, cores: list[Array], reached: float, thresholds: Thresholds = DEFAULT
    ) -> None:
        self._error, self._thresholds = error, thresholds
        self._left: list[Array] = [np.ones((1, 1, 1))] * len(cores)
        self._right: list[Array] = [np.ones((1, 1, 1))] * len(cores)
        self.cores = cores
        self.reached = reached
        self.operations = 0.0
        for k in range(len(cores) - 1, 0, -1):
            self.pass_left(k)

    def forward(self) -> None:
        """Update every core but the last, left to right."""
        for k in range(len(self.cores) - 1):
            self.update(k)
            self.pass_right(k)

    def backward(self) -> None:
        """Update every core but the first, right to left."""
        for k in range(len(self.cores) - 1, 0, -1):
            self.update(k)
            self.pass_left(k)

    def pass_right(self, k: int) -> None:
        """Make core k orthonormal over its left and own indices; its triangular factor moves to core k + 1."""
        core, after = self.cores[k], self.cores[k + 1]
        a, m, n, b = core.shape
        q, triangle = np.linalg.qr(core.reshape(a * m * n, b))
        self.cores[k] = q.reshape(a, m, n, b)
        self.cores[k + 1] = np.tensordot(triangle, after, axes=(1, 0))
        left = self._left[k]
        joined = np.tensordot(left, self.cores[k], axes=(2, 0)).transpose(0, 2, 1, 3, 4)
        self._left[k + 1] = joined.reshape(left.shape[0] * m, left.shape[1] * n, b)

    def pass_left(self, k: int) -> None:
        """Do the mirror image."""
        core, before = self.cores[k], self.cores[k - 1]
        a, m, n, b = core.shape
        q, triangle = np.linalg.qr(core.reshape(a, m * n * b).T)
        self.cores[k] = q.T.reshape(a, m, n, b)
        self.cores[k - 1] = np.tensordot(before, triangle, axes=(3, 1))
        right = self._right[k]
        joined = np.tensordot(self.cores[k], right, axes=(3, 0)).transpose(0, 1, 3, 2, 4)
        self._right[k - 1] = joined.reshape(a, m * right.shape[1], n * right.shape[2])

    def update(self, k: int) -> None:
        """Solve for core k, the others orthonormal, and take the step where it lowers the error."""
        core = self.cores[k]
        system = CoreSystem(self._error, self._left[k], self._right[k], core.shape, self._thresholds)
        self.operations += system.operations
        if (found := system.step(core)) is not None:
            self.cores[k] = core + found[0]
            self.reached -= found[1]


def _carried(
    cores: tuple[Array, ...], factorization: Factorization, least_ranks: Factorization, thresholds: Thresholds
) -> tuple[Array, ...]:
    """Return an exact train of the ranks that the bonds can carry."""
    return cores if least_ranks == factorization else tt_svd(dense_weight(cores), least_ranks, thresholds)


def _solved(root: Array, core: Array) -> Array:
    """Return the core with the inverse of ``root^T`` on its output mode."""
    import scipy.linalg

    a, m, n, b = core.shape
    columns = core.transpose(1, 0, 2, 3).reshape(m, -1)
    found = scipy.linalg.solve_triangular(root, columns, lower=True, trans="T", check_finite=False)
    return np.asarray(found.reshape(m, a, n, b).transpose(1, 0, 2, 3))


def _padded(weight: Array, shape: tuple[int, ...]) -> Array:
    return np.pad(weight, [(0, wanted - size) for wanted, size in zip(shape, weight.shape, strict=True)])


def _grown(cores: Sequence[Array], factorization: Factorization) -> tuple[Array, ...]:
    """Fill cores of smaller ranks up to the factorization's shapes with zeros."""
    return tuple(
        np.pad(core, [(0, wanted - size) for wanted, size in zip(full, core.shape, strict=True)])
        for core, full in zip(cores, factorization.core_shapes, strict=True)
    )
