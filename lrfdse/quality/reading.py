"""What an output of a model holds, as far as its numbers, its name and the operator behind it tell."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lrfdse.quality.divergence import are_chances
from lrfdse.quality.makers import maker_of, no_scores_from, positions_last
from lrfdse.quality.outputs import Values, agreements, cosines, explained, is_scores, shares

if TYPE_CHECKING:
    from lrfdse.quality.divergence import Loss

Kind = Literal["classes", "threshold", "numbers", "direction", "whole"]
"""What an output holds: scores of classes, one score to compare with a threshold, numbers, vectors of length 1, or
whole numbers."""

_NUMBERS = re.compile(
    r"b?boxe?s?|landmarks?|offsets?|coord\w*|points?|keypoints?|pose|regression|embed\w*|features?|hidden\w*|states?"
    r"|last_hidden_state|pooler_output|mask|depth|reconstruction",
    re.IGNORECASE,
)
"""Words in names of outputs that hold no scores of classes."""

_CLASSES = re.compile(r"logits?|prob\w*|scores?|class\w*|labels?|softmax|cls", re.IGNORECASE)
"""Words in names of outputs that hold scores of classes."""

_MAKES_NUMBERS = ("Clip", "GRU", "LSTM", "RNN")
"""Operators whose results are no scores of classes: states of recurrent layers, and numbers between bounds."""

_FEW = 8
"""Samples from which one class throughout says that the output is none of classes. Chosen: two classes of equal share
fall on one side of 8 samples once in 128 times."""

_UNIT = 1e-3
"""Largest deviation of the length of vectors from 1 that rounding of float16 makes. Chosen."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How an output is read."""

    name: str
    """Name of the output."""
    kind: Kind
    reason: str
    """Why, as a clause about the output."""
    threshold: float = 0.0
    """Score above which the second of two classes is decided, for the kind "threshold"."""
    chances: bool = False
    """Whether scores of classes are probabilities."""
    assumed: bool = False
    """Whether it is taken for scores of classes because nothing speaks against."""

    @property
    def loss(self) -> Loss:
        """What two versions of the output are compared by where layers are fitted."""
        return "softmax" if self.kind == "classes" else "squared"

    @property
    def measure(self) -> Literal["agreement", "R2", "cosine"]:
        """What agreement with the original is given as: a share of equal decisions, R² or a cosine."""
        if self.kind == "numbers":
            return "R2"
        return "cosine" if self.kind == "direction" else "agreement"

    def agreements(self, outputs: Mapping[str, NDArray[Any]], reference: Mapping[str, NDArray[Any]]) -> Values:
        """Return how far outputs agree with the original model's on each sample, at most 1, shape (samples,).

        Raises
        ------
        InputError
            The two have different shapes, or the reference holds NaN.
        """
        if self.kind == "numbers":
            return explained(outputs, reference[self.name], self.name)
        if self.kind == "direction":
            return cosines(outputs, reference[self.name], self.name)
        if self.kind == "threshold":
            same = self.decided(outputs[self.name]) == self.decided(reference[self.name])
            return shares(np.asarray(same & ~np.isnan(outputs[self.name].astype(np.float64))))
        return agreements(outputs, reference, self.name)

    def two_classes(self, scores: NDArray[Any]) -> NDArray[np.float64]:
        """Return scores as those of two classes along a new last axis, the second where they are above the threshold.

        >>> Reading("p", "threshold", "", 0.5).two_classes(np.array([[0.25], [1.0]])).tolist()
        [[0.0, -0.25], [0.0, 0.5]]
        """
        above = scores.astype(np.float64) - self.threshold
        above = above[..., 0] if above.ndim > 1 and above.shape[-1] == 1 else above
        # A score that is NaN makes both so: it decides nothing.
        return np.stack([above - above, above], axis=-1)

    def decided(self, scores: NDArray[Any]) -> NDArray[np.bool_]:
        """Return on which side of the threshold scores are."""
        return np.asarray(scores.astype(np.float64) > self.threshold)


def read_output(model: ir.Model, name: str, array: NDArray[Any], trusted: bool = True) -> Reading:
    """Return how an output is read, by what the original model gives on data, samples first.

    Parameters
    ----------
    model
        The model.
    name
        Name of the output.
    array
        What it holds.
    trusted
        Whether that one class is decided throughout says something: noise often falls into one.
    """
    if array.dtype.kind in "biu":
        return Reading(name, "whole", "it holds whole numbers")
    maker = maker_of(model, name)
    finite = bool(np.isfinite(array.astype(np.float64)).all())
    if not is_scores(array):
        return _single(name, array, maker, finite and trusted)
    words = re.split(r"[^A-Za-z_]+|(?<=[a-z])(?=[A-Z])", name)
    parts = [part for word in words for part in (word, *word.split("_"))]
    chances = finite and are_chances(array)
    if not chances and maker == "Sigmoid":
        return Reading(name, "threshold", "a sigmoid makes each of its scores", 0.5)
    if not chances and (positions := positions_last(model, name)) is not None:
        return Reading(name, "numbers", positions)
    decided = np.argmax(array, axis=-1)
    if finite and trusted and decided.size >= _FEW and (decided == decided.flat[0]).all():
        return Reading(name, "numbers", f"its largest number is number {decided.flat[0]} on all {len(array)} samples")
    if chances:
        return Reading(name, "classes", "it holds probabilities that add up to 1", chances=True)
    if finite and (array <= 0).all() and are_chances(np.exp(array.astype(np.float64))):
        return Reading(name, "classes", "it holds logarithms of probabilities that add up to 1")
    if any(_CLASSES.fullmatch(part) for part in parts):
        return Reading(name, "classes", "its name is one of class scores")
    if maker in _MAKES_NUMBERS:
        return Reading(name, "numbers", f"{maker} makes it, which makes no class scores")
    if finite and _are_units(array):
        return Reading(name, "direction", "it holds vectors of length 1")
    if any(_NUMBERS.fullmatch(part) for part in parts):
        return Reading(name, "numbers", "its name is one of other numbers than class scores")
    if (other := no_scores_from(model, name)) is not None:
        return Reading(name, "numbers", f"{other} makes it, and class scores come of a linear layer or a Softmax")
    why = f"it holds {array.shape[-1]} numbers, of which each is the largest at times"
    return Reading(name, "classes", why, assumed=True)


def thresholded(reading: Reading, array: NDArray[Any]) -> Reading:
    """Return a reading of one score a sample as a decision between two classes, as labels of two kinds ask for."""
    chance = reading.kind == "threshold" or bool(((array >= 0) & (array <= 1)).all())
    return Reading(reading.name, "threshold", "it holds one score, and labels are of two kinds", 0.5 if chance else 0.0)


def _single(name: str, array: NDArray[Any], maker: str | None, trusted: bool) -> Reading:
    if maker == "Sigmoid":
        above = array.astype(np.float64) > 0.5
        if trusted and above.size >= _FEW and (above.all() or not above.any()):
            where = "above" if above.all() else "at most"
            return Reading(name, "numbers", f"it is {where} 0.5 on all {len(array)} samples")
        return Reading(name, "threshold", "a sigmoid makes it", 0.5)
    return Reading(name, "numbers", "it holds one number a position")


def _are_units(array: NDArray[Any]) -> bool:
    lengths = np.linalg.norm(array.astype(np.float64), axis=-1)
    return bool((np.abs(lengths - 1) < _UNIT).all())
