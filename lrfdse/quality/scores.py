"""What a score is worth: values sample by sample, their confidence interval, and the error of a difference."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]
"""Ends of a 95 % confidence interval."""

_Z = 1.959963984540054
"""Two-sided 95 % quantile of the normal distribution."""


@dataclass(frozen=True, slots=True, eq=False)
class Grade:
    """A metric's verdict on one model and one data set."""

    value: float
    """Higher is better."""
    samples: NDArray[np.float64] | None = None
    """One value a sample, whose mean is `value` before it is bounded; None where the metric gives only the whole."""
    decisions: int | None = None
    """How many right-or-wrong decisions the values are shares of; None where they are other numbers."""
    without_each: NDArray[np.float64] | None = None
    """The value of all samples but one, for each in turn, where the values share something that the samples decide,
    such as a variance; None where each stands for itself."""

    @property
    def spread(self) -> NDArray[np.float64] | None:
        """One number a sample whose spread is that of the value; None where samples are not known.

        Where all but one say what the value would be, it is Tukey's pseudo-value of the jackknife, ``n v - (n - 1)
        v_i`` (Efron, "The Jackknife, the Bootstrap and Other Resampling Plans", 1982).
        """
        if self.samples is None or self.without_each is None or len(self.samples) < 2:
            return self.samples
        count = len(self.without_each)
        return np.asarray(count * self.value - (count - 1) * self.without_each, np.float64)

    @property
    def interval(self) -> Interval | None:
        """95 % interval of the value: Wilson's for shares, the normal one for other numbers, None for a single one.

        Decisions within a sample depend on each other. Wilson's interval takes the number of independent ones that
        the spread between samples shows, never fewer than samples (Korn and Graubard, 1998, for the Wilson interval).
        """
        values = self.samples
        if values is None or len(values) < 1:
            return None
        if self.decisions is None:
            apart = self.spread
            return None if len(values) == 1 or apart is None else self._normal(values, apart)
        share, spread = float(values.mean()), float(values.var())
        count = float(len(values))
        if spread > 0:
            count = min(max(count, count * share * (1 - share) / spread), float(self.decisions))
        return wilson(share, count)

    def _normal(self, values: NDArray[np.float64], spread: NDArray[np.float64]) -> Interval:
        half = _Z * float(spread.std(ddof=1)) / math.sqrt(len(spread))
        # A bounded value may lie outside.
        return min(self.value, float(values.mean()) - half), max(self.value, float(values.mean()) + half)


def wilson(share: float, count: float) -> Interval:
    """Return Wilson's 95 % interval of a share seen in `count` independent trials.

    Wilson, "Probable inference, the law of succession, and statistical inference" (1927): it stays within [0, 1] and
    has a width even where every trial succeeded.

    >>> [round(end, 4) for end in wilson(1.0, 100)]
    [0.963, 1.0]
    """
    shrunk = 1 + _Z**2 / count
    centre = (share + _Z**2 / (2 * count)) / shrunk
    half = _Z / shrunk * math.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2))
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))


def paired_error(grade: Grade, reference: Grade) -> float:
    """Return the standard error of the difference of two grades on the same samples; 0 where samples are not known."""
    ours, theirs = grade.spread, reference.spread
    if ours is None or theirs is None:
        return 0.0
    change = ours - theirs
    return float(change.std() / math.sqrt(len(change)))


@dataclass(frozen=True, slots=True)
class Scores:
    """How well a plan's model does; higher is better, and 1 is the best that any built-in metric gives."""

    eval_accuracy: float | None
    """Score by the exploration's metric on the data that choose; None where that metric is fidelity."""
    accuracy: float | None
    """Score by the metric on the test data, which choose nothing; None where there are none."""
    fidelity: float
    """Agreement with the original model on the data that choose."""
    standard_error: float
    """Standard error of the loss against the original model on the data that choose (a fraction)."""
    eval_interval: Interval | None = None
    """95 % interval of the score on the data that choose: of fidelity where that is the metric."""
    accuracy_interval: Interval | None = None
    """95 % interval of `accuracy`."""
    accuracy_error: float | None = None
    """Standard error of the loss on the test data."""
    output_error: float | None = None
    """Relative error of the judged output on the data that choose; None where that is no finite number."""
    others: Mapping[str, float] = field(default_factory=dict)
    """How far the other outputs that count agree with the original model's on the data that choose, by name."""

    def facts(self) -> dict[str, Any]:
        """Return the scores as JSON values."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Scores:
        """Read back what `facts` gave; other keys are passed over."""

        def ends(value: Any) -> Interval | None:
            return None if value is None else (float(value[0]), float(value[1]))

        return cls(
            facts["eval_accuracy"],
            facts["accuracy"],
            facts["fidelity"],
            facts["standard_error"],
            ends(facts.get("eval_interval")),
            ends(facts.get("accuracy_interval")),
            facts.get("accuracy_error"),
            facts.get("output_error"),
            {str(name): float(value) for name, value in (facts.get("others") or {}).items()},
        )
