"""Metrics by name, intervals against SciPy and simulation, and functions of the user's own."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from lrfdse.errors import InputError
from lrfdse.model.data import Dataset
from lrfdse.quality.metrics import METRICS, open_scorer
from lrfdse.quality.scores import Grade, Scores, agreement_error, choosing_error, paired_error, wilson

RNG = np.random.default_rng(0)
SCORES = RNG.standard_normal((40, 8))
OTHER = {"y": SCORES + RNG.standard_normal((40, 8))}
REFERENCE = {"y": SCORES}
INPUTS = {"x": RNG.standard_normal((40, 2))}
LABELS = RNG.integers(0, 8, 40)


@pytest.mark.parametrize(("right", "count"), [(0, 7), (3, 10), (95, 100), (100, 100), (1789, 2000)])
def test_wilson_is_that_of_scipy(right, count):
    expected = binomtest(right, count).proportion_ci(0.95, method="wilson")
    assert wilson(right / count, count) == pytest.approx((expected.low, expected.high), abs=1e-12)
    values = np.r_[np.ones(right), np.zeros(count - right)]
    assert Grade(right / count, values, count).interval == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_the_interval_of_positions_that_go_together_is_that_of_samples():
    rng = np.random.default_rng(1)
    samples = rng.random(200) < 0.8
    together = Grade(samples.mean(), samples.astype(float), 200 * 30).interval
    assert together == pytest.approx(wilson(samples.mean(), 200))
    # Positions on their own say as much as so many samples; the estimate from the spread comes near.
    alone = (rng.random((200, 30)) < 0.8).mean(axis=1)
    low, high = Grade(alone.mean(), alone, 200 * 30).interval
    expected = wilson(alone.mean(), 6000)
    assert high - low == pytest.approx(expected[1] - expected[0], rel=0.15)
    assert Grade(1.0, np.ones(50), 50 * 30).interval == wilson(1.0, 50)


def test_intervals_cover_the_truth_nineteen_times_in_twenty():
    rng = np.random.default_rng(1)
    share = number = 0
    for _ in range(2000):
        right = (rng.random(60) < 0.9).astype(float)
        low, high = Grade(right.mean(), right, 60).interval
        share += low <= 0.9 <= high
        values = rng.normal(0.3, 0.2, 60)
        low, high = Grade(values.mean(), values).interval
        number += low <= 0.3 <= high
    assert 0.93 < share / 2000 < 0.98
    assert 0.93 < number / 2000 < 0.97


def test_the_normal_interval():
    rng = np.random.default_rng(1)
    values = rng.random(30)
    low, high = Grade(values.mean(), values).interval
    assert (low, high) == pytest.approx(norm.interval(0.95, values.mean(), values.std(ddof=1) / 30**0.5))
    assert Grade(0.5).interval is None
    assert Grade(0.5, np.array([0.5])).interval is None


def test_the_paired_error_is_that_of_the_difference():
    rng = np.random.default_rng(1)
    right, before = rng.random(100) < 0.8, rng.random(100) < 0.9
    change = [float(a) - float(b) for a, b in zip(right, before, strict=True)]
    assert paired_error(Grade(0, right.astype(float), 100), Grade(0, before.astype(float), 100)) == pytest.approx(
        np.std(change) / 10
    )
    assert paired_error(Grade(0.4), Grade(0.5)) == 0


def test_samples_that_all_stay_right_say_little_where_they_are_few():
    for count in (1, 8, 500):
        ours, theirs = (Grade(1.0, np.ones(count), count) for _ in range(2))
        # Agresti and Min's interval: half a sample more in each cell of the table of both models, right and wrong.
        cells = np.array([[count + 0.5, 0.5], [0.5, 0.5]])
        off, total = cells[0, 1] + cells[1, 0], cells.sum()
        wanted = np.sqrt(off - (cells[0, 1] - cells[1, 0]) ** 2 / total) / total
        assert paired_error(ours, theirs) == choosing_error(ours, theirs) == pytest.approx(wanted)
        assert agreement_error(ours) == pytest.approx(wanted)
        assert paired_error(theirs, theirs) == 0
    assert paired_error(Grade(0.5, np.full(3, 0.5)), Grade(0.5, np.full(3, 0.5))) == 0, "numbers that agree do agree"


def test_an_explained_variance_that_rests_on_one_sample_has_an_error_of_its_size():
    targets = np.random.default_rng(3).standard_normal((64, 1)) * 1e-4
    targets[17] = 0.2
    outputs = targets + np.random.default_rng(4).standard_normal((64, 1)) * 1e-3
    scorer = open_scorer("mse", False)
    original, found = (scorer.grade({"y": y}, Dataset(INPUTS, None), {"y": targets}) for y in (targets, outputs))
    # By the errors alone it is sure; but all samples but one say that nothing is explained.
    assert found.value > 0.99 and found.samples.std() / 8 < 0.01
    assert paired_error(found, original) > 1
    assert found.interval[0] < 0
    assert paired_error(original, original) == 0


def test_an_explained_variance_has_the_error_that_drawing_the_samples_again_shows():
    rng = np.random.default_rng(5)
    scorer, drawn, errors = open_scorer("mse", False), [], []
    for _ in range(400):
        targets = rng.standard_normal((100, 1))
        outputs = targets + rng.standard_normal((100, 1))
        pair = (scorer.grade({"y": y}, Dataset(INPUTS, None), {"y": targets}) for y in (outputs, targets))
        found, original = pair
        drawn.append(found.value)
        errors.append(paired_error(found, original))
    assert np.mean(errors) == pytest.approx(np.std(drawn), rel=0.15)


def test_scores_survive_json():
    import json

    scores = Scores(0.9, 0.8, 0.95, 0.01, (0.85, 0.93), None, 0.02)
    assert Scores.of({"id": "x", **json.loads(json.dumps(scores.facts()))}) == scores


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (None, np.mean(OTHER["y"].argmax(1) == LABELS)),
        ("top1", np.mean(OTHER["y"].argmax(1) == LABELS)),
        ("top5", np.mean([label in np.argsort(-row)[:5] for row, label in zip(OTHER["y"], LABELS, strict=True)])),
        ("exact", np.mean(OTHER["y"].argmax(1) == LABELS)),
    ],
)
def test_metrics_with_class_labels(metric, expected):
    scorer = open_scorer(metric, labelled=True)
    grade = scorer.grade(OTHER, Dataset(INPUTS, LABELS), REFERENCE)
    assert grade.value == pytest.approx(expected)
    assert grade.decisions == 40
    assert scorer.name == ("accuracy" if metric in (None, "top1") else metric)


@pytest.mark.parametrize("metric", [None, *METRICS.names()])
def test_without_labels_the_original_model_is_the_measure(metric):
    scorer = open_scorer(metric, labelled=False)
    data = Dataset(INPUTS, None)
    assert scorer.grade(REFERENCE, data, REFERENCE).value == pytest.approx(1)
    assert scorer.grade(OTHER, data, REFERENCE).value < 0.99
    assert scorer.name == ("fidelity" if metric in (None, "top1") else metric)


def test_numbers_are_compared_with_targets_of_their_shape_else_with_the_original():
    targets = SCORES + 1
    with_targets = open_scorer("mse", True).grade(OTHER, Dataset(INPUTS, targets), REFERENCE).value
    error, spread = np.mean((OTHER["y"] - targets) ** 2), np.mean(targets.var(axis=0))
    assert with_targets == pytest.approx(1 - error / spread)
    for metric in ("mse", "cosine"):
        scorer = open_scorer(metric, True)
        with_classes = scorer.grade(OTHER, Dataset(INPUTS, LABELS), REFERENCE).value
        assert with_classes == scorer.grade(OTHER, Dataset(INPUTS, None), REFERENCE).value
    assert open_scorer("mse", True).grade({"y": SCORES * 100}, Dataset(INPUTS, None), REFERENCE).value == -1


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Return a function that writes a module into the current directory and opens one of its functions."""
    import sys

    monkeypatch.chdir(tmp_path)
    made = []

    def opened(code, function="score"):
        name = f"own_metric_{tmp_path.name.replace('-', '_')}_{len(made)}"
        made.append(name)
        (tmp_path / f"{name}.py").write_text(code)
        return open_scorer(f"{name}:{function}", labelled=True)

    yield opened
    for name in made:
        sys.modules.pop(name, None)


def test_a_function_of_the_users_own(own):
    import sys

    path = list(sys.path)
    code = (
        "def score(outputs, batch):\n    return (outputs['y'].argmax(1) == batch['labels']).mean() - batch['x'].sum()\n"
    )
    scorer = own(code)
    grade = scorer.grade(OTHER, Dataset(INPUTS, LABELS), REFERENCE)
    assert grade.value == pytest.approx((OTHER["y"].argmax(1) == LABELS).mean() - INPUTS["x"].sum())
    assert grade.samples is None
    assert scorer.is_own
    assert sys.path == path


def test_values_a_sample_give_an_interval(own):
    right = own("def score(outputs, batch):\n    return outputs['y'].argmax(1) == batch['labels']\n")
    grade = right.grade(OTHER, Dataset(INPUTS, LABELS), REFERENCE)
    top1 = open_scorer("top1", True).grade(OTHER, Dataset(INPUTS, LABELS), REFERENCE)
    assert (grade.value, grade.interval) == (top1.value, top1.interval)
    numbers = own("def score(outputs, batch):\n    return outputs['y'][:, 0]\n")
    grade = numbers.grade(OTHER, Dataset(INPUTS, LABELS), REFERENCE)
    assert grade.value == pytest.approx(OTHER["y"][:, 0].mean())
    assert grade.decisions is None


def test_another_source_is_another_metric(own):
    one, other = own("def score(o, b):\n    return 1.0\n"), own("def score(o, b):\n    return 2.0\n")
    assert one.key.partition("@")[2] != other.key.partition("@")[2]
    assert one.key.startswith(one.name + "@")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def score(o, b):\n    return o['no such']\n", r"failed: KeyError: 'no such' \(own_metric_.*\.py, line 2\)"),
        ("def score(o, b):\n    b['x'] *= 2\n    return 1.0\n", "read-only"),
        ("def score(o, b):\n    raise SystemExit(3)\n", "failed: SystemExit: 3"),
        (
            "def score(o, b):\n    return float('nan')\n",
            "must return a finite number or one for each of 40 samples, but",
        ),
        ("def score(o, b):\n    return o['y']\n", r"but got an array of shape \(40, 8\)"),
        ("def score(o, b):\n    return None\n", "but got None"),
        ("def score(o, b):\n    return 'good'\n", "but got 'good'"),
    ],
)
def test_errors_of_the_users_function_are_one_line_that_names_it(own, code, message):
    scorer = own(code)
    with pytest.raises(InputError, match=message) as caught:
        scorer.grade(OTHER, Dataset(INPUTS, LABELS), REFERENCE)
    assert scorer.name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import no_such_module_at_all\n", "importing own_metric_.* failed: No module named 'no_such_module_at_all'"),
        ("1 / 0\n", r"importing own_metric_.* failed: ZeroDivisionError: division by zero \(own_metric_.*, line 1\)"),
        ("def score(:\n", "failed: SyntaxError"),
        ("score = 3\n", "has no function 'score'"),
        ("", "has no function 'score'"),
    ],
)
def test_modules_that_cannot_be_used(own, code, message):
    with pytest.raises(InputError, match=message) as caught:
        own(code)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("metric", ["top2", "a:b:c", "a b:c", ":f", "m:", "../evil:f", "os;x:f"])
def test_names_that_are_no_metric(metric):
    with pytest.raises(InputError, match="--metric takes top1, top5, mse, cosine, exact or MODULE:FUNCTION"):
        open_scorer(metric, labelled=True)


def test_a_module_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("surely_not_there", "surely_not_there.metrics"):
        with pytest.raises(InputError, match="no module 'surely_not_there' in the current directory"):
            open_scorer(f"{name}:score", labelled=True)
