"""Numbers about predictions and measurements of the same kernels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.meter.cases import Case
from benchmarks.meter.native import Native
from benchmarks.meter.predict import Prediction
from benchmarks.numbers import spearman


@dataclass(frozen=True, slots=True)
class Row:
    """One case, predicted and measured."""

    case: Case
    native: Native
    prediction: Prediction


@dataclass(frozen=True, slots=True)
class Errors:
    """Distribution of predicted over measured."""

    scale: float
    """What all predictions are multiplied by so that half of the ratios are below 1."""
    median: float
    """Median of the absolute relative error after scaling."""
    ninth: float
    """Its 90 % quantile."""
    unscaled: float
    """Median of the absolute relative error as predicted."""
    low: float
    high: float
    """5 % and 95 % quantiles of the ratio as predicted."""


def errors(predicted: Sequence[float], measured: Sequence[float]) -> Errors:
    """Compare predicted cycles with measured ones."""
    ratio = np.array(predicted) / np.array(measured)
    scale = 1 / float(np.median(ratio))
    wrong = np.abs(scale * ratio - 1)
    low, high = np.quantile(ratio, [0.05, 0.95])
    unscaled = float(np.median(np.abs(ratio - 1)))
    return Errors(scale, float(np.median(wrong)), float(np.quantile(wrong, 0.9)), unscaled, float(low), float(high))


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Return Spearman's rank correlation; 0 where one side is constant, as it then orders nothing."""
    found = spearman(one, other)
    return 0.0 if math.isnan(found) else found


def regret(predicted: Sequence[float], measured: Sequence[float]) -> float:
    """Return how much slower the kernel that is predicted to be fastest is than the one that is."""
    return measured[int(np.argmin(predicted))] / min(measured) - 1


def by_layer(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Group rows by layer, in order."""
    grouped: dict[str, list[Row]] = {}
    for row in rows:
        grouped.setdefault(row.case.layer, []).append(row)
    return grouped
