"""How often a recommended design keeps its promise on data that it was not chosen by: simulation, with losses known.

Targets are normal numbers times lognormal ones, which makes tails as heavy as asked; a design's squared error at a
target ``y`` is ``L y^2 c z^2`` with ``E[c z^2] = 1``, so that it leaves the part L of the variance unexplained on all
data there could be.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from lrfdse.ir.latency import Latency
from lrfdse.quality.metrics import explained_grade
from lrfdse.quality.scores import Grade, agreement_error, choosing_error, paired_error
from lrfdse.results.asked import Limits
from lrfdse.results.choice import MARGINS, Candidate, margin_of, recommended_of, shared_losses

LOSSES = np.geomspace(0.0005, 0.3, 20)
LIMIT, DRAWS = 0.01, 150


def draw(rng, samples, tail, spread):
    """Return targets and what each of the designs gives for them; half of what makes a sample hard is hard for all."""
    y = rng.standard_normal(samples) * np.exp(tail * rng.standard_normal(samples))
    shared = rng.standard_normal(samples)
    found = []
    for loss in LOSSES:
        hard = np.exp(spread * (shared + rng.standard_normal(samples)) / math.sqrt(2) - spread**2 / 2)
        error = loss * y**2 * hard * rng.standard_normal(samples) ** 2
        found.append(y + np.sqrt(error) * rng.choice([-1.0, 1.0], samples))
    return y, found


def candidates(graded, errors):
    """Return a candidate a design, the lossiest the smallest, beside the original."""
    latency = Latency(1.0, 1.0, 1.0)
    listed = [Candidate("original", 100, 1000, latency, 1.0, 0.0, 0.0, is_original=True)]
    for place, (grade, error) in enumerate(zip(graded, errors, strict=True)):
        listed.append(Candidate(str(place), 1, 900 - 40 * place, latency, grade.value, 1 - grade.value, error))
    return listed


def lost(front):
    """Return the true loss of what is recommended."""
    best = recommended_of(front, Limits(max_drop=LIMIT))
    return 0.0 if best.is_original else LOSSES[int(best.id)]


@pytest.mark.parametrize(
    ("samples", "tail", "spread"), [(64, 0.0, 0.5), (64, 0.7, 1.0), (64, 2.5, 1.0), (512, 1.5, 1.0)]
)
def test_designs_keep_what_they_promise_on_data_that_nobody_saw(samples, tail, spread):
    rng = np.random.default_rng(0)
    ours, by_jackknife = [], []
    for _ in range(DRAWS):
        y, outputs = draw(rng, samples, tail, spread)
        graded = [explained_grade({"y": each}, y) for each in outputs]
        perfect = explained_grade({"y": y}, y)
        ours.append(lost(candidates(graded, [choosing_error(each, perfect) for each in graded])))
        by_jackknife.append(lost(candidates(graded, [paired_error(each, perfect) for each in graded])))
    ours, by_jackknife = np.array(ours), np.array(by_jackknife)
    assert (ours <= LIMIT).mean() >= 0.88 and (ours > 2 * LIMIT).mean() <= 0.04
    assert (ours > LIMIT).mean() < 0.6 * (by_jackknife > LIMIT).mean()
    if tail < 1:
        # It is no use to promise nothing.
        assert (ours > 0).mean() > 0.9 and ours.mean() > 0.3 * LIMIT


def test_one_sample_that_holds_the_variance_says_nothing_of_others():
    """As with a wake word on sound without it: 64 samples, of which one is anything but the mean."""
    rng = np.random.default_rng(0)
    y = 1e-3 * rng.standard_normal(64)
    y[5] = 1.0
    grade = explained_grade({"y": y + 1e-3 * rng.standard_normal(64)}, y)
    assert grade.value > 0.999 and grade.effective < 1.1
    error = agreement_error(grade)
    assert error == 1.0
    alone = candidates([grade], [error])
    assert recommended_of(alone, Limits(max_drop=0.01)).is_original
    assert margin_of(alone[1:], 0.01) == (MARGINS[-1], [])


def test_a_single_sample_says_nothing_and_the_original_is_sure():
    y = np.array([[1.0, 2.0, 3.0]])
    assert agreement_error(explained_grade({"y": y + 0.01}, y)) == 1.0
    assert agreement_error(explained_grade({"y": y}, y)) == 0.0


def test_shares_have_the_usual_error():
    values = np.array([1.0, 1.0, 0.0, 1.0])
    assert agreement_error(Grade(0.75, values)) == pytest.approx(values.std() / 2)
    assert agreement_error(Grade(0.75)) == 0.0


def test_other_outputs_are_to_keep_their_limit_by_the_same_margin():
    latency = Latency(1.0, 1.0, 1.0)

    def design(name, size, error):
        others = shared_losses({"state": 0.985}, {"state": error}, 0.01, 0.02)
        return Candidate(name, 1, size, latency, 1.0, 0.0075, 0.0, others=others)

    front = [design("unsure", 10, 0.01), design("sure", 20, 0.001)]
    margin, sure = margin_of(front, 0.01)
    assert margin == MARGINS[0] and [each.id for each in sure] == ["sure"]
    assert recommended_of(front, Limits(max_drop=0.01, max_other_drop=0.02)).id == "sure"
    assert margin_of(front[:1], 0.01) == (0.0, front[:1])
    # Data that cannot tell a loss from twice the limit more say nothing.
    assert margin_of([design("blind", 10, 0.05)], 0.01) == (0.0, [])
