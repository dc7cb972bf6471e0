"""Which outputs of the model count, and how each is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFacts:
    """An output of the model that counts."""

    name: str
    kind: Literal["classes", "threshold", "numbers", "direction", "whole"]
    """What the output is taken to hold: scores of classes, scores to compare with a threshold, numbers, vectors of
    length 1, or whole numbers."""
    reason: str
    """Why, as a clause about the output."""
    measure: Literal["agreement", "R2", "cosine"]
    """What agreement with the original is given as."""
    loss: Literal["softmax", "squared"] | None
    """What two versions of the output are compared by where layers are fitted; null for whole numbers."""
    scale: float | None
    """What a change of the output is multiplied by, beside those of the others; null for whole numbers."""
    chances: bool | None
    """Whether scores of classes are probabilities; null where they are none of classes."""
    threshold: float | None
    """Score above which the second of two classes is decided; null where there is none."""
