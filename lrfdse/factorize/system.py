"""The least squares problem of one core of a train, all others held: formed where that is cheap, else applied."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lrfdse.factorize.linalg import conjugate_gradients, solve_semidefinite
from lrfdse.factorize.thresholds import DEFAULT, Thresholds

if TYPE_CHECKING:
    from collections.abc import Callable

    from lrfdse.factorize.objective import OutputError
    from lrfdse.ir.factorization import Array

_SLOWER = 4.0
"""What an operation of the formed matrix takes at the sizes at which a covariance has a root: it moves large arrays.
Chosen, not measured."""

_FLOOR = 1e-6
"""Part of their mean eigenvalue that the factors of a preconditioner are lifted by, so that they can be inverted.
Chosen, not measured: it changes how fast conjugate gradients converge, not where to."""


class CoreSystem:
    """The least squares problem of a core ``(a, m, n, b)`` between ``L[o, p, a]`` and ``R[b, t, q]``.

    ``L`` is the product of the cores to the left, with output digits o, input digits p and bond a; ``R`` that of those
    to the right. Both are orthonormal. Without a weighting of the outputs, the normal matrix pairs ``(a, n, b)`` with
    itself and is the same for every output digit m; a part that holds no input digits is orthonormal over its outputs
    alone, so its bond index only adds right-hand sides. Derived in docs/method.md.

    Parameters
    ----------
    error
        The squared error of the layer, of the sizes of the train.
    left, right
        L and R, shapes ``(M_{k-1}, N_{k-1}, a)`` and ``(b, M / M_k, N / N_k)``.
    shape
        ``(a, m, n, b)``.
    thresholds
        When to form the normal matrix, and how far to iterate.

    Attributes
    ----------
    operations
        Estimate of the floating-point operations of a step.
    """

    def __init__(
        self, error: OutputError, left: Array, right: Array, shape: tuple[int, ...], thresholds: Thresholds = DEFAULT
    ) -> None:
        self._a, self._m, self._n, self._b = shape
        self._budget = budget = thresholds.core
        self._error, self._left, self._right = error, left, right
        self._p, self._q = left.shape[1], right.shape[2]
        turned = right.transpose(1, 2, 0)
        if error.weighting is None:
            # Outputs enter the normal matrix by their inner products alone, so an orthonormal basis of them serves.
            self._few_left, self._few_right = _compressed(left), _compressed(turned)
        else:
            self._few_left, self._few_right = left, turned
        size = len(error.covariance)
        a, b = (self._a if self._p > 1 else 1), (self._b if self._q > 1 else 1)
        self._unknowns = a * self._n * b
        rows = self._m * self._a * self._n * self._b / self._unknowns
        o, t = len(self._few_left), len(self._few_right)
        middle = self._p * self._n * b
        direct = 2.0 * size * size * (min((b * b + b) / 2, t * b) if self._q > 1 else 0)
        direct += 2.0 * middle * middle * (min((a * a + a) / 2, o * a) if self._p > 1 else 0)
        direct += self._unknowns**3 / 3 + 4 * rows * self._unknowns**2
        self._form, product = self._cheapest(o, t, size)
        self._steps = budget.steps if error.weight.size < thresholds.large else budget.few_steps
        iterative = (self._steps + 1) * product
        self._direct = (
            error.weighting is None
            and self._unknowns <= budget.direct_unknowns
            and middle * middle <= budget.direct_elements
            and (direct if error.root is None else _SLOWER * direct) <= iterative
        )
        self.operations = (direct if self._direct else iterative) + 2.0 * error.weight.size * self._a

    def _cheapest(self, o: int, t: int, size: int) -> tuple[str, float]:
        """Return how to apply the normal matrix, and what one product takes."""
        root = self._error.root
        if self._error.weighting is not None:
            width = size if root is None else 2 * root.shape[1]
            return "weighting", 2.0 * self._error.weight.size * (width + len(self._error.weight))
        forms = {"dense": o * t}
        if size * self._p * self._a * self._m * t <= self._budget.largest_array:
            forms["left"] = self._a * t
        if size * self._q * self._b * self._m * o <= self._budget.largest_array:
            forms["right"] = o * self._b
        products = {form: 2.0 * size * size * self._m * columns for form, columns in forms.items()}
        if root is not None:
            products["dense"] = 4.0 * size * root.shape[1] * self._m * o * t
        form = min(products, key=products.__getitem__)
        return form, products[form]

    def step(self, core: Array) -> tuple[Array, float] | None:
        """Return what to add to the core and by how much that lowers the error, or None where nothing lowers it."""
        target = projected(self._error.product, self._left, self._right, self._m, self._n)
        if self._direct:
            matrix = self._matrix()
            residual = self._rows(target) - self._rows(core) @ matrix
            step = solve_semidefinite(matrix, residual)
            change = step @ matrix
        else:
            apply = self._operator()
            residual = target - apply(core)
            step, change = conjugate_gradients(
                apply, residual, self._steps, self._budget.tolerance, self._preconditioner()
            )
        gain = float(2 * np.vdot(residual, step) - np.vdot(change, step))
        if not gain > 0:
            return None
        return (self._cored(step) if self._direct else step), gain

    def _matrix(self) -> Array:
        """Return the normal matrix over the unknowns of one right-hand side."""
        p, n, q = self._p, self._n, self._q
        tensor = self._error.covariance
        if q > 1:
            tensor = _congruence(tensor.reshape(p * n, q, p * n, q), self._few_right, self._budget.direct_elements)
        if p > 1:
            rest = self._unknowns // self._a
            turned = tensor.reshape(p, rest, p, rest).transpose(1, 0, 3, 2)
            tensor = _congruence(turned, self._few_left, self._budget.direct_elements)
            tensor = tensor.reshape(rest, self._a, rest, self._a).transpose(1, 0, 3, 2)
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

    def _operator(self) -> Callable[[Array], Array]:
        """Return the product with the normal matrix, which is not formed."""
        covariance = self._error.covariance
        if self._form in ("dense", "weighting"):
            return lambda core: _through_dense(self._error, self._few_left, self._few_right, core)
        p, n, q = self._p, self._n, self._q
        if self._form == "left":
            return _pairwise(covariance, self._few_left, self._few_right, n)
        mirrored = covariance.reshape(p, n, q, p, n, q).transpose(2, 1, 0, 5, 4, 3).reshape(covariance.shape)
        apply = _pairwise(mirrored, self._few_right, self._few_left, n)
        return lambda core: apply(core.transpose(3, 1, 2, 0)).transpose(3, 1, 2, 0)

    def _preconditioner(self) -> Callable[[Array], Array]:
        """Return the product with the inverse of the normal matrix's separable part, by its partial traces."""
        p, n, q = self._p, self._n, self._q
        left, right = self._few_left, self._few_right
        tensor = self._error.covariance.reshape(p, n, q, p, n, q)
        over_left = np.tensordot(left, left, axes=((0, 2), (0, 2)))
        over_right = np.tensordot(right, right, axes=((0, 2), (0, 2)))
        inner = np.einsum("pjqrks,qs->pjrk", tensor, over_right, optimize=True)
        factors = {2: np.einsum("pjrk,pr->jk", inner, over_left, optimize=True)}
        if p > 1:
            factors[0] = _traced(np.einsum("pjrj->pr", inner), left)
        if q > 1:
            factors[3] = _traced(np.einsum("pjqrjs,pr->qs", tensor, over_left, optimize=True), right)
        if self._error.weighting is not None:
            o, t, m = len(left), len(right), self._m
            factors[1] = np.einsum("oitokt->ik", self._error.weighting.reshape(o, m, t, o, m, t))
        inverses = {axis: _lifted_inverse(factor) for axis, factor in factors.items()}

        def apply(core: Array) -> Array:
            for axis, inverse in inverses.items():
                core = np.moveaxis(np.tensordot(core, inverse, axes=(axis, 0)), -1, axis)
            return core

        return apply


def projected(product: Array, left: Array, right: Array, m: int, n: int) -> Array:
    """Return ``sum L[o,p,a] P[(o,i,t),(p,j,q)] R[b,t,q]`` as ``(a, i, j, b)``.

    Parameters
    ----------
    product
        P, shape (M, N).
    left, right
        L and R.
    m, n
        Sizes of the core's modes i and j.
    """
    (o, p, _), (_, t, q) = left.shape, right.shape
    joined = np.tensordot(left, product.reshape(o, m, t, p, n, q), axes=((0, 1), (0, 3)))
    return np.asarray(np.tensordot(joined, right, axes=((2, 4), (1, 2))))


def _through_dense(error: OutputError, left: Array, right: Array, core: Array) -> Array:
    """Return the normal matrix times a core, by way of the product of all parts; `right` is ``(t, q, b)``."""
    dense = np.tensordot(np.tensordot(left, core, axes=(2, 0)), right, axes=(4, 2))
    o, p, m, n, t, q = dense.shape
    dense = dense.transpose(0, 2, 4, 1, 3, 5).reshape(o * m * t, p * n * q)
    image = error.weighed(dense)
    if error.weighting is not None:
        image = error.weighting @ image
    return projected(image, left, right.transpose(2, 0, 1), m, n)


def _pairwise(covariance: Array, left: Array, right: Array, n: int) -> Callable[[Array], Array]:
    """Return the product with the normal matrix by way of the covariance's blocks over pairs of left input digits.

    The left part enters by its inner products over outputs, so the covariance meets ``a`` columns for each output and
    right digit, where the dense form has one for each left output digit. `right` is ``(t, q, b)``.
    """
    (_, p, a), (t, q, _) = left.shape, right.shape
    pairs = np.tensordot(left, left, axes=(0, 0)).transpose(0, 1, 3, 2).reshape(p, a, a * p)
    blocks = covariance.reshape(p, n * q * p, n * q)

    def apply(core: Array) -> Array:
        m = core.shape[1]
        columns = np.tensordot(core, right, axes=(3, 2))
        columns = columns.transpose(2, 4, 0, 1, 3).reshape(n * q, a * m * t)
        total = np.zeros((a, n * q * m * t))
        for block, pair in zip(blocks, pairs, strict=True):
            image = (block @ columns).reshape(n * q, p, a, m * t).transpose(2, 1, 0, 3)
            total += pair @ image.reshape(a * p, n * q * m * t)
        joined = total.reshape(a, n, q, m, t)
        return np.asarray(np.tensordot(joined, right, axes=((2, 4), (1, 0))).transpose(0, 2, 1, 3))

    return apply


def _compressed(part: Array) -> Array:
    """Return an array ``(o', p, a)`` with the same sums over o of products as `part` of shape ``(o, p, a)``."""
    o, p, a = part.shape
    if p == 1:
        return np.eye(a)[:, None, :]
    return part if o <= p * a else np.linalg.qr(part.reshape(o, p * a))[1].reshape(-1, p, a)


def _congruence(tensor: Array, part: Array, most_elements: int) -> Array:
    """Return ``sum_o F_o^T T F_o`` over axes 1 and 3 of ``T (s, c, s, c)``, where ``part[o]`` is F_o ``(c, e)``.

    T is symmetric under the exchange of its first two axes with its last two. What is held beside it has at most
    `most_elements` elements.
    """
    s, c = tensor.shape[:2]
    o, _, e = part.shape
    if e < 2 * o and c * c * e * e <= most_elements:
        flat = part.reshape(o, c * e)
        first, second = np.triu_indices(e)
        pairs = (flat.T @ flat).reshape(c, e, c, e).transpose(0, 2, 1, 3)[:, :, first, second]
        half = tensor.transpose(0, 2, 1, 3).reshape(s * s, c * c) @ pairs.reshape(c * c, -1)
        half = half.reshape(s, s, -1)
        made = np.empty((s, e, s, e))
        start = 0
        for k in range(e):
            columns = half[:, :, start : start + e - k]
            made[:, k, :, k:] = columns
            made[:, k:, :, k] = columns.transpose(1, 2, 0)
            start += e - k
        return made
    total = np.zeros((s * e, s * e))
    for each in part:
        half = (tensor.reshape(s * c * s, c) @ each).reshape(s, c, s * e)
        total += (each.T @ half).reshape(s * e, s * e)
    return total.reshape(s, e, s, e)


def _traced(moment: Array, part: Array) -> Array:
    """Return ``sum_o F_o^T Q F_o`` for ``Q (c, c)`` and ``part[o] = F_o (c, e)``."""
    return np.asarray(np.tensordot(part, np.tensordot(part, moment, axes=(1, 0)), axes=((0, 1), (0, 2))))


def _lifted_inverse(factor: Array) -> Array:
    scale = float(np.trace(factor)) / len(factor)
    return np.asarray(np.linalg.inv(factor + (_FLOOR * scale if scale > 0 else 1.0) * np.eye(len(factor))))
