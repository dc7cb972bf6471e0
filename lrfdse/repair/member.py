"""One layer of those that take a step together: its elements as part of one vector, and its own output error."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np

from lrfdse.repair.refine import DAMPING, Chain, cores_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from lrfdse.ir.factorization import Array
    from lrfdse.ir.factors import Factors

    Single = NDArray[np.float32]


ANCHOR = 0.5
"""Weight of a layer's own relative output error beside the model's loss. Of many layers one after another the later
ones' errors are mostly those of the layers before."""

NEARNESS = 2.0
"""Weight of a layer's relative change of outputs in one step: what the curvature of few samples leaves free."""


class Member:
    """A layer with its factors, to which changes of the elements of its cores and of its bias are applied.

    Parameters
    ----------
    factors
        Its factors, in floating point, with a bias shift.
    weight
        The original's weight, (outputs, inputs).
    start
        Where its elements begin in the vector of all members: those of the step matrices, then the bias shift.
    """

    def __init__(self, factors: Factors, weight: Single, start: int = 0) -> None:
        self.factors, self.weight = factors, weight
        # Both directions give the same outputs.
        self._factorization = min(
            (dataclasses.replace(factors.factorization, direction=way) for way in ("rl", "lr")), key=lambda f: f.macs()
        )
        outputs, inputs = weight.shape
        self._matrices = self.chain(np.zeros((1, inputs), np.float32)).matrices
        size = sum(matrix.size for matrix in self._matrices) + outputs
        self.place = slice(start, start + size)
        """Its elements in the vector of all members."""

    def chain(self, rows: Single) -> Chain:
        """Return the train applied to rows of what the layer reads."""
        return Chain(self._factorization, self.factors.cores, rows, len(self.weight))

    def gradients(self, rows: Single, pulls: Single) -> Single:
        """Return derivatives by the elements of a loss of each sample, (samples, elements).

        Parameters
        ----------
        rows
            What the layer reads, (samples, rows, inputs).
        pulls
            Derivatives of the losses by the outputs, (samples, rows, outputs).
        """
        count = len(rows)
        chain = self.chain(rows.reshape(-1, rows.shape[-1]))
        parts = [*chain.adjoints(pulls.reshape(-1, pulls.shape[-1]), count), pulls.sum(axis=1)]
        return np.concatenate([part.reshape(count, -1) for part in parts], axis=1)

    def moved(self, change: Single) -> Factors:
        """Return the factors with changed elements."""
        *matrices, shift = self.apart(change)
        cores = cores_of(self._factorization, [m + c for m, c in zip(self._matrices, matrices, strict=True)])
        return dataclasses.replace(self.factors, cores=cores, bias_shift=_shift(self.factors) + shift)

    def apart(self, vector: Single) -> list[Single]:
        """Return the member's part of a vector as changes of the step matrices and of the bias shift."""
        found, start = [], 0
        for matrix in self._matrices:
            found.append(vector[start : start + matrix.size].reshape(matrix.shape))
            start += matrix.size
        return [*found, vector[start:]]

    def damping(self, variance: float) -> Single:
        """Return the damping of each element, as `refined` has it."""
        size = sum(float(np.vdot(matrix, matrix)) for matrix in self._matrices) or 1.0
        cores = sum(matrix.size for matrix in self._matrices)
        return np.repeat(np.array([DAMPING / size, DAMPING / variance], np.float32), [cores, len(self.weight)])

    def sizes(self, cores: float, shift: float) -> Single:
        """Return the size of a change of each element.

        Parameters
        ----------
        cores
            That of elements of cores, relative to their root mean square.
        shift
            That of elements of the bias shift.
        """
        count = sum(matrix.size for matrix in self._matrices)
        own = math.sqrt(sum(float(np.vdot(matrix, matrix)) for matrix in self._matrices) / count)
        return np.repeat(np.array([cores * own, shift], np.float32), [count, len(self.weight)])


def members_of(current: Mapping[str, Factors], weights: Mapping[str, Single]) -> dict[str, Member]:
    """Return layers as parts of one vector, one after another.

    Parameters
    ----------
    current
        Layer name to factors, of these layers at least.
    weights
        Layer name to the original's weight, (outputs, inputs), in the order of the parts.
    """
    found: dict[str, Member] = {}
    start = 0
    for name, weight in weights.items():
        found[name] = Member(current[name], weight, start)
        start = found[name].place.stop
    return found


class Anchor:
    """What `ANCHOR` times half a member's relative output error is, with derivatives, on rows that are only summed up.

    Parameters
    ----------
    member
        The member.
    """

    def __init__(self, member: Member) -> None:
        outputs, inputs = member.weight.shape
        self._member, self._rows = member, 0
        # Behind the inputs stands a 1, for the bias.
        self._second = np.zeros((inputs + 1, inputs + 1))
        self._cross = np.zeros((outputs, inputs + 1))
        self._targets, self._squares = np.zeros(outputs), np.zeros(outputs)

    def add(self, rows: Single, original: Single) -> None:
        """Add what the layer reads, and what the original reads in its place, both (samples, rows, inputs)."""
        wide = np.concatenate([rows, np.ones((*rows.shape[:2], 1), np.float32)], axis=2)
        targets = original.reshape(-1, original.shape[2]) @ self._member.weight.T
        targets = targets.reshape(*original.shape[:2], -1)
        self._rows += wide.shape[0] * wide.shape[1]
        self._second += _summed(wide, wide)
        self._cross += _summed(targets, wide)
        self._targets += targets.sum(axis=(0, 1), dtype=np.float64)
        self._squares += np.square(targets, dtype=np.float64).sum(axis=(0, 1))

    @property
    def variance(self) -> float:
        """Variance of the original's outputs, summed over them; 1 where they do not vary."""
        return float((self._squares / self._rows - (self._targets / self._rows) ** 2).sum()) or 1.0

    def value(self, factors: Factors) -> float:
        """Return the anchor's part of the loss with other factors on the same rows."""
        wide = self._wide(factors)
        error = np.vdot(wide @ self._second, wide) - 2 * np.vdot(wide, self._cross) + self._squares.sum()
        return 0.5 * ANCHOR * float(error) / (self._rows * self.variance)

    def gradient(self) -> Single:
        """Return its derivatives by the member's elements."""
        scale = ANCHOR / (self._rows * self.variance)
        pulls = (scale * (self._wide(self._member.factors) @ self._second - self._cross)).astype(np.float32)
        # A row for each input, and 1 in it, gives the derivatives by the weight that the cores stand for.
        units = np.eye(len(self._second) - 1, dtype=np.float32)
        found: Single = self._member.gradients(units[None], np.ascontiguousarray(pulls[:, :-1].T)[None])[0]
        found[-len(pulls) :] = pulls[:, -1]
        return found

    def curvature(self) -> AnchorCurvature:
        """Return its second derivatives by the member's elements, without those of products of two cores.

        They are those of `NEARNESS` times half the relative change of the outputs, too.
        """
        values, vectors = np.linalg.eigh(self._second / self._rows)
        # Rows whose second moment is that of all rows stand for them.
        rows = (np.sqrt(np.maximum(values, 0))[:, None] * vectors.T).astype(np.float32)
        return AnchorCurvature(self._member, rows, (ANCHOR + NEARNESS) / self.variance)

    def _wide(self, factors: Factors) -> Array:
        from lrfdse.factorize.chain import weight_of

        outputs, inputs = self._member.weight.shape
        weight = weight_of(factors.factorization, factors.cores)[:outputs, :inputs]
        return np.concatenate([weight, _shift(factors)[:, None]], axis=1)


class AnchorCurvature:
    """Second derivatives of an anchor, applied to changes of its member's elements.

    Parameters
    ----------
    member
        The member.
    rows
        Rows with the second moment of what the layer reads, a 1 behind them, (rows, inputs + 1).
    weight
        What the mean squared change of the outputs is multiplied by.
    """

    def __init__(self, member: Member, rows: Single, weight: float) -> None:
        self._member, self._weight = member, np.float32(weight)
        self._chain, self._ones = member.chain(np.ascontiguousarray(rows[:, :-1])), rows[:, -1:]

    def __call__(self, changes: Single) -> Single:
        """Return the curvature times changes of the member's elements."""
        *matrices, shift = self._member.apart(changes)
        moved = self._weight * (self._chain.tangent(matrices) + self._ones * shift)
        return flat([*self._chain.adjoint(moved), (self._ones * moved).sum(axis=0)])


def flat(parts: Sequence[Single]) -> Single:
    """Return arrays as one vector, one after another."""
    return np.concatenate([part.reshape(-1) for part in parts])


def _shift(factors: Factors) -> Array:
    assert factors.bias_shift is not None
    return factors.bias_shift


def _summed(left: Single, right: Single) -> Single:
    """Return the products of columns, summed over samples and rows; both have (samples, rows, columns)."""
    if left.shape[1] < right.shape[2]:
        return np.asarray(left.reshape(-1, left.shape[2]).T @ right.reshape(-1, right.shape[2]))
    # Products sample by sample take far less time than one of a few columns and all rows.
    return np.asarray(np.matmul(left.swapaxes(1, 2), right).sum(axis=0))
