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


_SURE = 0.99
"""One-sided confidence of the bound on what is left unexplained. Not 95 %: designs are looked at in numbers on the same
samples, and the cheapest of those within the limit is there by luck more often than any one of them. By simulation
(tests/quality/test_promises.py) a bound at 95 % breaks two to three times as many promises."""

_Z_ONE_SIDED = 1.6448536269514722
"""One-sided 95 % quantile of the normal distribution: the standard errors by which a loss is to be within its limit."""

_MOST_ERROR = 1.0
"""Standard error of a score that says nothing: the whole way between the right answer and the mean one."""

_LEAST_FREEDOM = 0.05
"""Least degrees of freedom of Student's distribution. Chosen: with so few its quantiles are beyond any use."""


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
    effective: float | None = None
    """How many samples of equal weight the value rests on, where they share what weighs them; None where each has the
    same weight."""

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
    """Return the standard error of the difference of two grades on the same samples; 0 where samples are not known.

    Where every right-or-wrong sample changes alike (none does, as a rule), the next one may not: the error is that of
    a pair of shares with half a sample added to each of its four outcomes (Agresti and Min, "Simple improved confidence
    intervals for comparing matched proportions", 2005), one in ``count + 2``. A grade has no difference from itself.
    """
    ours, theirs = grade.spread, reference.spread
    if ours is None or theirs is None or grade is reference:
        return 0.0
    change = ours - theirs
    error = float(change.std() / math.sqrt(len(change)))
    if error == 0.0 and grade.decisions is not None and reference.decisions is not None:
        return 1.0 / (len(change) + 2)
    return error


def choosing_error(grade: Grade, reference: Grade) -> float:
    """Return the standard error that designs are chosen by: that of `paired_error`, or more where few samples decide.

    The jackknife alone is too sure of itself where few samples hold most of what the value shares: errors are skewed,
    so a loss that is estimated too low has too small a standard error as well. Of the number returned 1.645 reach an
    upper bound of the loss: that of Student's distribution with as many degrees of freedom as there are samples that
    count, less one, on the logarithm of a loss that is a part of a whole (the delta method), else on the loss itself.
    """
    error, loss = paired_error(grade, reference), reference.value - grade.value
    if grade.effective is None or (error == 0.0 and loss == 0.0):
        return error
    return _cautious(loss, error, grade.effective, is_part=reference.value == 1.0)


def agreement_error(grade: Grade) -> float:
    """Return `choosing_error` of an agreement with the original model, which agrees with itself."""
    if grade.samples is None:
        return 0.0
    same = np.ones_like(grade.samples)
    return choosing_error(grade, Grade(1.0, same, grade.decisions, None if grade.without_each is None else same))


def _cautious(loss: float, error: float, effective: float, is_part: bool) -> float:
    """Return what `choosing_error` does.

    Parameters
    ----------
    loss, error
        The loss and its standard error by the jackknife.
    effective
        Samples of equal weight that it rests on.
    is_part
        Whether the loss is a part of a whole and cannot be below 0.
    """
    from scipy.special import stdtrit

    width = float(stdtrit(max(effective - 1.0, _LEAST_FREEDOM), _SURE)) * error
    if error == 0.0:
        # One sample, or some that agree to the last digit: nothing is known of others.
        return _MOST_ERROR if effective < 2.0 else 0.0
    if is_part and loss > 0.0:
        width = loss * math.expm1(min(width / loss, math.log1p(2 * _MOST_ERROR / loss)))
    return min(width / _Z_ONE_SIDED, _MOST_ERROR)


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
    """Standard error of the loss against the original model on the data that choose (a fraction), as `choosing_error`
    has it."""
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
    others_error: Mapping[str, float] = field(default_factory=dict)
    """Standard error of what each of them keeps, by name."""

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
            *(
                {str(name): float(value) for name, value in (facts.get(key) or {}).items()}
                for key in ("others", "others_error")
            ),
        )
