"""Gauss-Newton refinement of one layer's cores on what the whole model gives, sample by sample."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from lrfdse.ir.halves import halved

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from lrfdse.ir.factorization import Array, Factorization, Step
    from lrfdse.ir.factors import Factors
    from lrfdse.quality.objective import SideBySide

    Single = NDArray[np.float32]

CG_STEPS = 25
"""Most conjugate gradient steps of one refinement step. Chosen, not measured."""
DAMPING = 1e-2
"""Damping of the cores, relative to the loss that a change as large as themselves may cost. Chosen, not measured."""
ANCHOR = 1.0
"""Weight of the layer's own output error, relative to the variance of its outputs, beside the model's loss. Chosen:
docs/method.md, section 9, measures what a refinement with it gains."""

_HALVINGS = 4
"""Lengths of a step that are tried, each half the one before. Chosen, not measured."""
_CG_TOLERANCE = 1e-3
"""Part of the gradient's norm at which conjugate gradients end. Chosen, not measured."""


class Chain:
    """A train applied to rows, with the derivatives of its outputs by the elements of its step matrices.

    Parameters
    ----------
    factorization
        The train's factorization, with the direction in which to contract.
    cores
        Core k of shape ``(r_{k-1}, m_k, n_k, r_k)``.
    rows
        What the layer reads, (rows, inputs); padded with zeros to the inputs of the factorization.
    outputs
        Outputs of the layer; those beyond are cut off.
    """

    def __init__(self, factorization: Factorization, cores: Sequence[Array], rows: Single, outputs: int) -> None:
        self._outputs = outputs
        self._steps = factorization.steps(len(rows))
        matrices = factorization.step_matrices(cores)
        norms = [float(np.linalg.norm(matrix)) or 1.0 for matrix in matrices]
        level = float(np.exp(np.mean(np.log(norms))))
        # Cores of one norm make one damping fit them all; the product stays.
        self.matrices = [(m * (level / norm)).astype(np.float32) for m, norm in zip(matrices, norms, strict=True)]
        self._states = [_padded(rows, factorization.inputs)]
        for step, matrix in zip(self._steps, self.matrices, strict=True):
            self._states.append(_apply(matrix, self._states[-1], step))

    @property
    def result(self) -> Single:
        """The outputs, (rows, outputs)."""
        return self._cut(self._states[-1])

    def tangent(self, changes: Sequence[Single]) -> Single:
        """Return how the outputs change, to first order, with changes of the step matrices."""
        moved = None
        for step, matrix, change, state in zip(self._steps, self.matrices, changes, self._states[:-1], strict=True):
            fresh = _apply(change, state, step)
            moved = fresh if moved is None else fresh + _apply(matrix, moved, step)
        assert moved is not None
        return self._cut(moved)

    def adjoint(self, pulls: Single) -> list[Single]:
        """Return the transpose of `tangent` at a value for every output."""
        total = self._states[-1].size // len(pulls)
        back = _padded(pulls, total)
        found = []
        for number in reversed(range(len(self._steps))):
            step, matrix, state = self._steps[number], self.matrices[number], self._states[number]
            b, q = back.reshape(-1, step.out, step.columns), state.reshape(-1, step.inner, step.columns)
            found.append(np.tensordot(b, q, axes=((0, 2), (0, 2))) if step.columns > 1 else b[..., 0].T @ q[..., 0])
            if number:
                back = _apply(matrix.T, back, step, step.out)
        return found[::-1]

    def adjoints(self, pulls: Single, count: int) -> list[Single]:
        """Return what `adjoint` gives for each of `count` runs of as many rows, (count, out, inner) a step."""
        total = self._states[-1].size // len(pulls)
        back = _padded(pulls, total)
        found = []
        for number in reversed(range(len(self._steps))):
            step, matrix, state = self._steps[number], self.matrices[number], self._states[number]
            b, q = (
                array.reshape(count, -1, size, step.columns).swapaxes(1, 2).reshape(count, size, -1)
                for array, size in ((back, step.out), (state, step.inner))
            )
            found.append(np.matmul(b, q.swapaxes(1, 2)))
            if number:
                back = _apply(matrix.T, back, step, step.out)
        return found[::-1]

    def _cut(self, state: Single) -> Single:
        return state.reshape(len(self._states[0]), -1)[:, : self._outputs]


def _padded(rows: Single, size: int) -> Single:
    """Return rows with zeros up to a size; those that have it are not copied."""
    if rows.shape[1] == size and rows.flags.c_contiguous:
        return rows
    return np.pad(rows, ((0, 0), (0, size - rows.shape[1])))


def _apply(matrix: Single, state: Single, step: Step, inner: int | None = None) -> Single:
    inner = step.inner if inner is None else inner
    if step.columns == 1:
        return np.asarray(state.reshape(-1, inner) @ matrix.T)
    return np.asarray(np.matmul(matrix, state.reshape(-1, inner, step.columns)))


def cores_of(factorization: Factorization, matrices: Sequence[Single]) -> tuple[Array, ...]:
    """Return the cores whose step matrices these are."""
    shapes = factorization.core_shapes
    if factorization.direction == "rl":
        pairs = zip(reversed(matrices), shapes, strict=True)
        return tuple(matrix.reshape(shape).astype(np.float64) for matrix, shape in pairs)
    return tuple(
        matrix.reshape(m, b, a, n).transpose(2, 0, 3, 1).astype(np.float64)
        for matrix, (a, m, n, b) in zip(matrices, shapes, strict=True)
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Local:
    """The model around one layer, at rows that the layer reads: to second order, what its outputs cost.

    With several rows a sample the layer's outputs must be the scores.
    """

    rows: Single
    """(rows, inputs)."""
    targets: Single
    """What the original layer gives without its bias, (rows, outputs)."""
    slopes: Single | None
    """Derivatives of the scores by the layer's outputs, (rows, scores, outputs); None where these are the scores."""
    chances: Single
    """Scores as `SideBySide.chances` has them, (rows, scores)."""
    pulls: Single
    """Derivatives of the loss by the scores, (rows, scores)."""
    side: SideBySide
    """The scores of a row, and what their changes cost."""
    evaluate: Callable[[Single], float]
    """The loss when the layer's outputs change by this much, (rows, outputs); divided by the number of rows."""


def refined(
    factorization: Factorization, cores: Sequence[Array], shift: Array, local: Local, damping: float = DAMPING
) -> tuple[tuple[Array, ...], Array, float]:
    """Return cores and bias shift after one Gauss-Newton step by conjugate gradients, and what the loss fell by.

    What is minimised is the model's loss plus `ANCHOR` times half the layer's own relative output error: the second
    part keeps the layer from using what a few samples leave free. The step is halved until the sum falls; where it
    does not, everything stays.

    Parameters
    ----------
    factorization
        The factorization of the layer's train.
    cores
        Core k of shape ``(r_{k-1}, m_k, n_k, r_k)``.
    shift
        The bias shift, (outputs,).
    local
        The model around the layer.
    damping
        Damping of the cores, relative to the loss that a change as large as themselves may cost.
    """
    # Both directions give the same outputs; only the cheaper one fits into memory for many rows.
    factorization = min(
        (dataclasses.replace(factorization, direction=way) for way in ("rl", "lr")), key=lambda f: f.macs()
    )
    count = len(local.rows)
    chain = Chain(factorization, cores, local.rows, local.targets.shape[1])
    variance = float(np.var(local.targets, axis=0, dtype=np.float64).sum()) or 1.0
    anchor = np.float32(ANCHOR / (count * variance))
    own = chain.result + shift.astype(np.float32) - local.targets
    size = sum(float(np.vdot(matrix, matrix)) for matrix in chain.matrices) or 1.0
    weight, shift_weight = np.float32(damping / size), np.float32(damping / variance)

    def back(pulls: Single) -> list[Single]:
        return [*chain.adjoint(pulls), pulls.sum(axis=0)]

    def through(pulls: Single) -> Single:
        return pulls if local.slopes is None else np.matmul(pulls[:, None, :], local.slopes)[:, 0]

    def product(changes: list[Single]) -> list[Single]:
        moved = chain.tangent(changes[:-1]) + changes[-1]
        scores = moved if local.slopes is None else np.matmul(local.slopes, moved[:, :, None])[..., 0]
        scores = local.side.curved(local.chances, np.asarray(scores, np.float32))
        found = back(through(scores / np.float32(count)) + anchor * moved)
        return [f + weight * c for f, c in zip(found[:-1], changes[:-1], strict=True)] + [
            found[-1] + shift_weight * changes[-1]
        ]

    step = conjugate(product, [-g for g in back(through(local.pulls / np.float32(count)) + anchor * own)])
    before = local.evaluate(np.zeros_like(own)) + 0.5 * float(anchor) * float(np.vdot(own, own))
    length = 1.0
    for _ in range(_HALVINGS):
        matrices = [m + np.float32(length) * s for m, s in zip(chain.matrices, step, strict=False)]
        moved_shift = shift + length * step[-1].astype(np.float64)
        found = cores_of(factorization, matrices)
        trial = Chain(factorization, found, local.rows, local.targets.shape[1]).result
        change = trial - chain.result + np.float32(length) * step[-1]
        after = local.evaluate(change) + 0.5 * float(anchor) * float(np.vdot(own + change, own + change))
        if after < before:
            return found, moved_shift, before - after
        length /= 2
    return tuple(cores), shift, 0.0


def conjugate(
    product: Callable[[list[Single]], list[Single]], target: list[Single], rounds: int = CG_STEPS
) -> list[Single]:
    """Return about the solution of a linear system, whose vectors are lists of arrays, by conjugate gradients.

    Parameters
    ----------
    product
        Multiplies a vector by the system's matrix, symmetric and positive definite.
    target
        The right-hand side.
    rounds
        Most steps.
    """
    found = [np.zeros_like(part) for part in target]
    residual, direction = list(target), list(target)
    energy = first = _dot(residual, residual)
    for _ in range(rounds):
        if energy <= _CG_TOLERANCE**2 * first:
            break
        image = product(direction)
        curvature = _dot(direction, image)
        if not curvature > 0:
            break
        length = np.float32(energy / curvature)
        found = [f + length * d for f, d in zip(found, direction, strict=True)]
        residual = [r - length * i for r, i in zip(residual, image, strict=True)]
        energy, last = _dot(residual, residual), energy
        direction = [r + np.float32(energy / last) * d for r, d in zip(residual, direction, strict=True)]
    return found


def _dot(one: Sequence[Single], other: Sequence[Single]) -> float:
    return sum(float(np.vdot(a, b)) for a, b in zip(one, other, strict=True))


def rounded(factors: Factors, cores: Sequence[Array], sizes: tuple[int, ...], inputs: Single) -> Factors:
    """Return cores rounded as factors are stored, the bias making up for what that does to the outputs' mean.

    Parameters
    ----------
    factors
        How they are stored, and the shift of the bias.
    cores
        What is rounded; of a repaired layer its weight, which is repaired again.
    sizes
        Outputs and inputs of the layer, padding aside.
    inputs
        What the layer reads, shape (samples, inputs).
    """
    from lrfdse.factorize.chain import dense_weight, weight_of
    from lrfdse.factorize.inputs import rounded_inputs
    from lrfdse.factorize.problem import Problem
    from lrfdse.factorize.quantized import quantized
    from lrfdse.factorize.repaired import repaired
    from lrfdse.ir.factors import Moments

    assert factors.bias_shift is not None
    if factors.table:
        return dataclasses.replace(factors, cores=tuple(cores))
    if factors.halves:
        return dataclasses.replace(factors, cores=halved(cores))
    rows = inputs.astype(np.float64)
    mean = rows.mean(axis=0)
    covariance = rows.T @ rows / len(rows) - np.outer(mean, mean)
    factorization, before = factors.factorization, dense_weight(cores)[: sizes[0], : sizes[1]]
    if factorization.repair:
        found, scales = repaired(Problem(before, Moments(len(rows), mean, rows.T @ rows / len(rows))), factorization)
    else:
        found, scales = quantized(before, factorization, cores, covariance)
    moved = (before - weight_of(factorization, found)[: sizes[0], : sizes[1]]) @ mean
    roundings = None
    if factors.roundings is not None:
        made = rounded_inputs(factorization, found, rows)
        roundings, moved = made.roundings, moved + made.moved[:, : sizes[0]].mean(axis=0)
    return dataclasses.replace(
        factors, cores=found, scales=scales, bias_shift=factors.bias_shift + moved, roundings=roundings
    )
