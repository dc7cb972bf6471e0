"""What a change of a model's outputs costs, all outputs that count together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lrfdse.quality.divergence import (
    Loss,
    divergences,
    output_information,
    scored_output,
    scores_of,
    scores_pulled,
    softmax,
)

if TYPE_CHECKING:
    from lrfdse.ir.factorization import Array


@dataclass(frozen=True, slots=True)
class OutputLoss:
    """What a change of one output costs."""

    output: str
    """Name of the output."""
    loss: Loss
    """How two versions of it are compared."""
    scale: float = 1.0
    """What its divergence is multiplied by before those of all outputs are added."""
    chances: bool | None = None
    """Whether it holds probabilities of classes; None for whoever looks at the numbers."""

    def scores(self, outputs: Mapping[str, NDArray[Any]]) -> Array:
        """Return its scores, (samples, positions, classes), of outputs by name, samples first."""
        return scores_of(outputs[self.output], self.loss, self.chances)


Single: TypeAlias = NDArray[np.float32]

Objective: TypeAlias = tuple[OutputLoss, ...]
"""The outputs that count, the judged one first."""


def objective_for(model: ir.Model, loss: Loss | Objective, output: str | None = None) -> Objective:
    """Return an objective as it is, or that of one output: the first of floating point where none is named.

    Raises
    ------
    InputError
        The model has no output of floating point.
    """
    if not isinstance(loss, str):
        return loss
    return (OutputLoss(output or scored_output(model), loss),)


def objective_facts(loss: Loss | Objective) -> str | list[dict[str, Any]]:
    """Return a loss as it stands in keys of results."""
    return loss if isinstance(loss, str) else [asdict(part) for part in loss]


def scaled(objective: Objective, outputs: Mapping[str, NDArray[Any]], weights: Mapping[str, float]) -> Objective:
    """Return the objective whose parts weigh alike: what outputs that never change would lose is the same in each.

    Parameters
    ----------
    objective
        The outputs that count, the judged one first, whose scale becomes its weight.
    outputs
        What the original model gives, samples first.
    weights
        Output name to weight, 1 where none is given.

    Returns
    -------
    Objective
        Without the outputs beside the judged one that are the same for every sample.
    """
    found: list[OutputLoss] = []
    unit = 1.0
    for part in objective:
        told = output_information(part.scores(outputs), part.loss, otherwise=0.0)
        weight = weights.get(part.output, 1.0)
        if not found:
            unit = told or 1.0
            found.append(replace(part, scale=weight))
        elif told > 0 and np.isfinite(told):
            found.append(replace(part, scale=weight * unit / told))
    return tuple(found)


class SideBySide:
    """The scores of all outputs that count, one after another in one row a sample.

    Parameters
    ----------
    objective
        The outputs.
    shapes
        Output name to the shape of one sample's scores, (positions, classes).
    """

    def __init__(self, objective: Objective, shapes: Mapping[str, tuple[int, int]]) -> None:
        self.objective = objective
        self._blocks: list[tuple[OutputLoss, slice, tuple[int, int]]] = []
        start = 0
        for part in objective:
            positions, classes = shapes[part.output]
            self._blocks.append((part, slice(start, start + positions * classes), (positions, classes)))
            start += positions * classes
        self.size = start
        """Scores of one sample."""

    @classmethod
    def of(cls, objective: Objective, outputs: Mapping[str, NDArray[Any]]) -> SideBySide:
        """Return the layout of outputs like these, samples first."""
        shapes = {}
        for part in objective:
            _, positions, classes = part.scores(outputs).shape
            shapes[part.output] = positions, classes
        return cls(objective, shapes)

    @property
    def only(self) -> tuple[OutputLoss, tuple[int, int]] | None:
        """The output with its (positions, classes) where one alone counts, else None."""
        return (self._blocks[0][0], self._blocks[0][2]) if len(self._blocks) == 1 else None

    def scores(self, outputs: Mapping[str, NDArray[Any]]) -> Array:
        """Return scores of shape (samples, size)."""
        parts = [part.scores(outputs) for part in self.objective]
        return np.concatenate([scores.reshape(len(scores), -1) for scores in parts], axis=1)

    def pulled(self, weights: Array, outputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Return the derivatives of each sample's weighted sum of scores by the outputs, in their order.

        Parameters
        ----------
        weights
            A weight for each score, (samples, size).
        outputs
            Outputs by name, samples first.
        """
        return [
            scores_pulled(weights[:, place], outputs[part.output], part.loss, part.chances)
            for part, place, _ in self._blocks
        ]

    def divergences(self, scores: Array, reference: Array) -> Array:
        """Return what each sample's scores cost against the reference, shape (samples,)."""
        found: Array = np.zeros(len(scores))
        for part, place, _ in self._blocks:
            one, other = self._block(scores, place), self._block(reference, place)
            found = found + part.scale * divergences(one, other, part.loss)
        return found

    def information(self, scores: Array) -> float:
        """Return what outputs that never change would cost a sample; 1 where these do not change."""
        parts = [
            part.scale * output_information(self._block(scores, place), part.loss, otherwise=0.0)
            for part, place, _ in self._blocks
        ]
        return sum(parts) or 1.0

    def chances(self, scores: Array) -> Array:
        """Return class probabilities in the place of scores of classes, shape (samples, size)."""
        found = np.array(scores, dtype=np.float64)
        for part, place, _ in self._blocks:
            if part.loss == "softmax":
                found[:, place] = softmax(self._block(scores, place)).reshape(len(scores), -1)
        return found

    def pulls(self, scores: Array, reference: Array) -> Array:
        """Return the derivatives of `divergences` by the scores, shape (samples, size)."""
        found = self.chances(scores) - self.chances(reference)
        for part, place, _ in self._blocks:
            found[:, place] *= part.scale
        return found

    def curved(self, chances: Single, moved: Single) -> Single:
        """Return the curvature of `divergences` applied to changes of the scores.

        Parameters
        ----------
        chances
            What `chances` gives, (samples, size).
        moved
            Changes of the scores, (samples, size).
        """
        found = moved.copy()
        for part, place, sizes in self._blocks:
            if part.loss == "softmax":
                p, v = (array[:, place].reshape(len(array), *sizes) for array in (chances, moved))
                found[:, place] = (p * (v - (p * v).sum(axis=-1, keepdims=True))).reshape(len(moved), -1)
            if part.scale != 1.0:
                found[:, place] *= moved.dtype.type(part.scale)
        return found

    def drawn(self, chances: Array, rng: np.random.Generator) -> Array:
        """Return random derivatives by the scores whose second moment is the curvature of `divergences`.

        Parameters
        ----------
        chances
            What `chances` gives, (samples, size).
        rng
            Draws a sign for every score.
        """
        found = rng.choice([-1.0, 1.0], chances.shape)
        for part, place, sizes in self._blocks:
            if part.loss == "softmax":
                p, signs = (array[:, place].reshape(len(array), *sizes) for array in (chances, found))
                moved = np.sqrt(p) * signs
                found[:, place] = (moved - p * moved.sum(axis=-1, keepdims=True)).reshape(found[:, place].shape)
            found[:, place] *= math.sqrt(part.scale)
        return found

    def pulled_back(self, slope: NDArray[np.float32], scores: Array) -> Array:
        """Return ``J^T F J`` summed over samples, F the curvature at scores and J their slopes.

        Parameters
        ----------
        slope
            Derivatives of the scores, (samples, size, units).
        scores
            The scores, (samples, size).
        """
        units = slope.shape[-1]
        total: Array = np.zeros((units, units))
        chances = self.chances(scores)
        for part, place, (_, classes) in self._blocks:
            rows = slope[:, place].reshape(-1, classes, units).astype(np.float64)
            if part.loss == "squared":
                flat = rows.reshape(-1, units)
                total = total + part.scale * (flat.T @ flat)
                continue
            p = chances[:, place].reshape(-1, classes)
            flat = (np.sqrt(p)[:, :, None] * rows).reshape(-1, units)
            mean = np.einsum("rk,rku->ru", p, rows)
            total = total + part.scale * (flat.T @ flat - mean.T @ mean)
        return total

    def curvature_sum(self, scores: Array) -> Array:
        """Return F of the one output summed over samples and positions, shape (classes, classes)."""
        (part, place, (_, classes)) = self._blocks[0]
        count = len(scores) * self._blocks[0][2][0]
        if part.loss == "squared":
            return part.scale * count * np.eye(classes)
        chances = self.chances(scores)[:, place].reshape(-1, classes)
        return part.scale * (np.diag(chances.sum(axis=0)) - chances.T @ chances)

    def _block(self, scores: Array, place: slice) -> Array:
        sizes = next(sizes for _, own, sizes in self._blocks if own == place)
        return scores[:, place].reshape(len(scores), *sizes)


def names_of(objective: Sequence[OutputLoss]) -> list[str]:
    """Return the names of the outputs that count."""
    return [part.output for part in objective]
