"""A metric: the share of labels among the two classes of highest score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrfdse.model.data import Dataset
from lrfdse.quality.metrics import QualityMetric
from lrfdse.quality.scores import Grade


def grade(outputs: Mapping[str, NDArray[Any]], data: Dataset, reference: Mapping[str, NDArray[Any]]) -> Grade:
    """Grade scores of shape (samples, classes); without labels, the original model's classes are right."""
    scores = next(iter(outputs.values()))
    labels = next(iter(reference.values())).argmax(axis=-1) if data.labels is None else data.labels
    best = np.argsort(-scores, axis=-1, kind="stable")[..., :2]
    right = (best == labels[..., None]).any(axis=-1)
    shares = right.reshape(len(right), -1).mean(axis=1)
    return Grade(float(shares.mean()), shares, right.size)


TOP2 = QualityMetric(grade, needs_classes=True)
