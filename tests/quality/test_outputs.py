"""Metrics sample by sample against plain loops over samples and positions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrfdse.errors import InputError
from lrfdse.quality.outputs import (
    FLOOR,
    agreements,
    classes_hit,
    cosines,
    decision_count,
    decisions,
    exact_matches,
    explained,
    explained_without_each,
    fits_targets,
    hits,
    output_error,
    shares,
)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.booleans())
def test_top5_is_a_stable_sort_of_the_scores(seed, samples, positions):
    rng = np.random.default_rng(seed)
    shape = (samples, 3, 8) if positions else (samples, 8)
    # Few distinct values, so that ties are common.
    scores = rng.integers(0, 4, shape).astype(np.float32)
    labels = rng.integers(0, 8, shape[:-1])
    found = hits({"y": scores}, labels, best=5)
    for place in np.ndindex(labels.shape):
        order = sorted(range(8), key=lambda c: (-scores[place][c], c))
        assert found[place] == (labels[place] in order[:5])
        assert hits({"y": scores}, labels)[place] == (labels[place] == order[0])


def test_top5_with_nan_axes_of_one_and_too_few_classes():
    scores = np.tile(np.arange(7.0), (2, 1, 1))
    assert hits({"y": scores}, np.array([2, 1]), best=5).tolist() == [True, False]
    scores[0, 0, 6] = np.nan
    assert hits({"y": scores}, np.array([5, 5]), best=5).tolist() == [False, True]
    with pytest.raises(InputError, match="top-5 needs more than 5 classes, but output 'y' has 5"):
        hits({"y": np.zeros((2, 5))}, np.array([0, 1]), best=5)
    with pytest.raises(InputError, match="top-5 needs them"):
        hits({"y": np.array([1, 2])}, np.array([0, 1]), best=5)
    with pytest.raises(InputError, match="decides"):
        hits({"y": np.zeros((2, 3, 7))}, np.array([0, 1]), best=5)


def test_shares_and_exact_matches_of_positions():
    right = np.array([[True, True, False], [True, True, True]])
    assert shares(right).tolist() == pytest.approx([2 / 3, 1])
    assert exact_matches(right).tolist() == [0, 1]
    assert exact_matches(np.array([True, False])).tolist() == [1, 0]


def test_decisions_are_what_hits_compares_with():
    scores = np.random.default_rng(0).standard_normal((5, 3, 7))
    assert hits({"y": scores}, decisions({"y": scores})).all()
    assert decisions({"y": np.array([[3], [1]])}).tolist() == [[3], [1]]
    with pytest.raises(InputError, match="holds no class scores"):
        decisions({"y": np.ones((4, 1))})
    assert decision_count({"y": scores}) == 15
    assert decision_count({"y": np.ones((4, 2), np.int64)}) == 8
    assert decision_count({"y": np.ones((4, 1))}) is None


def test_explained_variance_is_one_minus_mse_over_variance():
    rng = np.random.default_rng(1)
    targets = rng.standard_normal((50, 3)) * [1, 5, 0.2] + [3, 0, -7]
    outputs = targets + rng.standard_normal((50, 3)) / 3
    mse = sum((outputs[i, j] - targets[i, j]) ** 2 for i in range(50) for j in range(3)) / 150
    variance = sum(targets[:, j].var() for j in range(3)) / 3
    assert explained({"y": outputs}, targets).mean() == pytest.approx(1 - mse / variance)
    assert explained({"y": np.tile(targets.mean(axis=0), (50, 1))}, targets).mean() == pytest.approx(0)
    # An axis of one element makes no other target; a sample without a number is as bad as it gets.
    outputs[7, 1] = np.inf
    values = explained({"y": outputs[:, :, None]}, targets)
    assert values[7] == -1
    assert (values[:7] > 0.5).all()


def test_explained_variance_without_each_sample_is_that_of_the_others():
    rng = np.random.default_rng(2)
    targets = rng.standard_normal((12, 3)) + np.array([3, 0, -7])
    outputs = targets + rng.standard_normal((12, 3)) / 3
    found = explained_without_each({"y": outputs}, targets)
    for i in range(12):
        rest = np.delete(targets, i, axis=0)
        assert found[i] == pytest.approx(explained({"y": np.delete(outputs, i, axis=0)}, rest).mean())
    # As bad as it gets is the same with all samples and without another one.
    outputs[4] = np.nan
    assert explained_without_each({"y": outputs}, targets)[4] == pytest.approx(found[4])
    assert (explained_without_each({"y": outputs}, targets)[:4] < found[:4]).all()
    assert explained_without_each({"y": np.array([1.0, 2.0, 1.0])}, np.ones(3)).tolist() == [0.5, 1, 0.5]
    assert explained_without_each({"y": np.ones(1)}, np.ones(1)).tolist() == [0]


def test_explained_variance_of_constant_targets():
    assert explained({"y": np.ones(3)}, np.ones(3)).tolist() == [1, 1, 1]
    assert explained({"y": np.array([1.0, 2.0])}, np.ones(2)).tolist() == [1, 0]


def test_cosines():
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((6, 2, 4)), rng.standard_normal((6, 2, 4))
    expected = [
        math.fsum((a[i] * b[i]).ravel()) / math.sqrt(math.fsum((a[i] ** 2).ravel()) * math.fsum((b[i] ** 2).ravel()))
        for i in range(6)
    ]
    np.testing.assert_allclose(cosines({"y": a}, b), expected, rtol=1e-12)
    np.testing.assert_allclose(cosines({"y": a * 1e200}, a * 1e-200), np.ones(6))
    odd = np.array([[0.0, 0.0], [0.0, 0.0], [np.nan, 1.0], [1.0, 0.0]])
    assert cosines({"y": odd}, np.array([[0.0, 0], [1, 0], [1, 1], [-2, 0]])).tolist() == [1, 0, -1, -1]


def test_targets_must_fit_and_be_finite():
    outputs = {"y": np.ones((4, 1, 3))}
    assert fits_targets(outputs, np.ones((4, 3)))
    assert not fits_targets(outputs, np.ones(4))
    assert fits_targets({"y": np.ones((4, 1))}, np.ones(4))
    for metric in (explained, cosines):
        with pytest.raises(InputError, match=r"shape \(4, 1, 3\), but the targets are \(4,\)"):
            metric(outputs, np.ones(4))
        with pytest.raises(InputError, match="hold NaN or Inf"):
            metric(outputs, np.full((4, 3), np.nan))


def test_agreements_are_one_a_sample():
    rng = np.random.default_rng(3)
    scores = {"y": rng.standard_normal((5, 4, 6))}
    other = {"y": scores["y"] + rng.standard_normal((5, 4, 6))}
    expected = [np.mean([other["y"][i, p].argmax() == scores["y"][i, p].argmax() for p in range(4)]) for i in range(5)]
    assert agreements(other, scores).tolist() == pytest.approx(expected)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.booleans())
def test_output_errors_and_classes_against_loops(seed, samples, positions):
    rng = np.random.default_rng(seed)
    shape = (samples, 3, 4) if positions else (samples, 4)
    before, after = rng.standard_normal((2, *shape)).astype(np.float32)
    pairs = [(float(a), float(b)) for a, b in zip(before.ravel(), after.ravel(), strict=True)]
    wanted = math.sqrt(sum((b - a) ** 2 for a, b in pairs) / sum(a**2 for a, _ in pairs))
    assert output_error({"y": after}, {"y": before}) == pytest.approx(wanted, rel=1e-12)
    assert output_error({"y": before}, {"y": before}) == 0
    rows = before.reshape(-1, 4).tolist()
    assert classes_hit({"y": before}) == (len({row.index(max(row)) for row in rows}), 4)


def test_outputs_that_have_no_relative_error():
    whole = {"y": np.array([[1, 2]])}
    assert output_error(whole, whole) is None
    assert classes_hit(whole) is None
    numbers = {"y": np.ones((2, 3), np.float32)}
    assert output_error({"y": np.full((2, 3), np.nan, np.float32)}, numbers) is None
    assert output_error({"y": np.full((2, 3), np.inf, np.float32)}, numbers) is None
    assert output_error(numbers, {"y": np.zeros((2, 3), np.float32)}) is None
    with pytest.raises(InputError, match="has shape"):
        output_error({"y": np.ones((2, 4))}, numbers)


def test_a_sample_of_nan_falls_into_no_class():
    assert classes_hit({"y": np.array([[0.0, 1.0], [np.nan, 1.0], [0.5, 2.0]])}) == (1, 2)


def test_hits_of_scores_of_classes_and_of_positions():
    scores = np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]])
    assert hits({"y": scores}, np.array([1, 1, 1])).tolist() == [True, False, True]
    assert hits({"z": scores[:, ::-1], "y": scores}, np.array([1, 0, 1]), "y").all()
    assert hits({"y": np.array([1, 0, 1])}, np.array([1, 1, 1])).tolist() == [True, False, True]
    positions = np.stack([scores, scores])
    right = [[True, True, True], [False, True, True]]
    assert hits({"y": positions}, np.array([[1, 0, 1], [0, 0, 1]])).tolist() == right
    unknown = np.where(scores == 0.9, np.nan, scores)
    assert hits({"y": unknown}, np.array([1, 0, 1])).tolist() == [False, True, True]
    assert hits({"y": scores[:, None, :]}, np.array([1, 0, 0])).tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("array", "labels", "message"),
    [
        (np.zeros((3, 2)), [0, 1, 2], "labels go from 0 to 1"),
        (np.zeros((3, 1)), [0, 0, 0], "holds no class scores"),
        (np.zeros((3, 4, 2)), [0, 1, 1], "decides"),
    ],
)
def test_labels_that_do_not_fit_the_output(array, labels, message):
    with pytest.raises(InputError, match=message):
        hits({"y": array}, np.array(labels))
    with pytest.raises(InputError, match="no output 'q'"):
        hits({"y": array}, np.array(labels), "q")


def test_agreement_of_scores():
    reference = {"y": np.array([[[0.1, 0.9], [0.8, 0.2]], [[0.3, 0.7], [0.6, 0.4]]])}
    assert agreements(reference, reference).tolist() == [1, 1]
    other = {"y": reference["y"].copy()}
    other["y"][1, 1] = [0.1, 0.2]
    assert agreements(other, reference).tolist() == [1, 0.5]
    other["y"][0, 0, 1] = np.nan
    assert agreements(other, reference).tolist() == [0.5, 0.5]
    masked = {"y": np.where(reference["y"] < 0.3, -np.inf, reference["y"])}
    assert agreements(masked, masked).tolist() == [1, 1]


def test_agreement_of_numbers():
    reference = {"y": np.arange(10.0)}

    def mean(values):
        return agreements({"y": values}, reference).mean()

    assert mean(np.arange(10.0)) == 1
    assert mean(np.full(10, 4.5)) == pytest.approx(0)
    assert mean(np.arange(10.0) * -5) == pytest.approx(1 - 36 * 285 / 82.5)
    assert mean(np.arange(10.0) + np.array([0.5, -0.5] * 5)) == pytest.approx(1 - 2.5 / 82.5)
    assert mean(np.full(10, np.nan)) == FLOOR
    assert agreements({"y": np.zeros(3)}, {"y": np.ones(3)}).tolist() == [0, 0, 0]
    assert agreements({"y": np.array([1, 2, 3])}, {"y": np.array([1, 2, 4])}).tolist() == [1, 1, 0]


def test_agreement_with_nothing():
    with pytest.raises(InputError, match="has shape"):
        agreements({"y": np.ones((2, 3))}, {"y": np.ones((2, 4))})
    with pytest.raises(InputError, match="holds NaN"):
        agreements({"y": np.ones((2, 3))}, {"y": np.full((2, 3), np.nan)})
