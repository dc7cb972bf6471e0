"""What goes wrong while a plan is evaluated: a plan's own fault is kept as its result, a defect never."""

from __future__ import annotations

import json

import numpy as np
import optuna
import pytest

from lrfdse.cli import run
from lrfdse.errors import InputError
from lrfdse.factorize.methods import METHODS
from lrfdse.quality.metrics import METRICS, QualityMetric
from lrfdse.quality.scores import Grade
from lrfdse.search.study.storage import open_storage

pytestmark = pytest.mark.slow
"""Each of these runs an exploration of its own, or waits for one that the module shares."""


@pytest.fixture
def explore(deep_folder, small_space, shared_cache, tmp_path):
    def start(*more, space=small_space):
        options = ["--target", "riscv64", "-o", tmp_path / "out", "--space", space, "--cache", shared_cache]
        options += ["--budget", 8, "--keep", 0, "--workers", 1, "--proxy", "output", "--no-library", "--no-int8", *more]
        return run([str(each) for each in ["explore", deep_folder, *options]])

    return start


def trials(folder):
    storage = open_storage(str(folder / "study.db"))
    (name,) = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage).trials


def verdicts(folder):
    """Return what the study holds against plans."""
    return [trial.user_attrs["reason"] for trial in trials(folder) if "reason" in trial.user_attrs]


def graded(on_change):
    """Return a metric that counts samples with the original's class, and does something else to changed outputs."""

    def grade(outputs, data, reference):
        (array,), (expected,) = outputs.values(), reference.values()
        if not np.array_equal(array, expected):
            on_change()
        values = (array.argmax(axis=-1) == expected.argmax(axis=-1)).astype(float)
        return Grade(float(values.mean()), values, len(values))

    return QualityMetric(grade)


@pytest.mark.slow
def test_a_metric_with_a_bug_ends_the_run_and_nothing_is_kept_against_the_plan(explore, tmp_path):
    bugs = [None]

    def stumble():
        if bugs:
            raise IndexError("a bug of this metric")

    with METRICS.register("mine", graded(stumble)):
        with pytest.raises(IndexError, match="a bug of this metric"):
            explore("--metric", "mine")
        assert verdicts(tmp_path / "out") == []
        assert not (tmp_path / "out" / "front.json").exists()
        # Once the bug is gone, the same study goes on, with the plan that met it.
        bugs.clear()
        assert explore("--metric", "mine", "--max-drop", "90%") == 0
    document = json.loads((tmp_path / "out" / "front.json").read_text())
    assert document["evaluated"] >= 5
    assert verdicts(tmp_path / "out") == []


@pytest.mark.slow
def test_outputs_that_cannot_be_graded_are_the_plans_own_fault(explore, tmp_path, capsys):
    def refuse():
        raise InputError("output 'y' has another shape than in the reference")

    with METRICS.register("mine", graded(refuse)):
        assert explore("--metric", "mine") == 0
    kept = verdicts(tmp_path / "out")
    assert len(kept) >= 5
    assert set(kept) == {"output 'y' has another shape than in the reference"}
    assert "cannot be evaluated: output 'y' has another shape" in capsys.readouterr().err
    document = json.loads((tmp_path / "out" / "front.json").read_text())
    assert document["evaluated"] == 1


def test_the_original_that_cannot_be_graded_ends_the_run_with_code_2(explore, tmp_path, capsys):
    seen = []

    def grade(outputs, data, reference):
        seen.append(outputs is reference)
        if not seen[-1]:
            raise InputError("output 'y' holds no class scores")
        return Grade(1.0, np.ones(data.count), data.count)

    with METRICS.register("mine", QualityMetric(grade)):
        assert explore("--metric", "mine") == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("output 'y' holds no class scores")
    assert verdicts(tmp_path / "out") == []


class Broken:
    """The plain SVD, until it corrects a plan: then it breaks a contract."""

    source = "this test"
    needs_moments = True

    def fit(self, problem, factorization):
        if problem.moments is not None and problem.moments.cross is not None:
            raise InputError("`left < right` must hold, but got 3")
        return METHODS.get("svd").fit(problem, factorization)


def test_a_fitting_method_with_a_bug_ends_the_run_with_its_own_line(explore, tmp_path, capsys):
    space = tmp_path / "broken.toml"
    space.write_text('max_cores = 2\nmax_compiled = 4\nmin_size = 8\nmethod = "broken"\n')
    with METHODS.register("broken", Broken()):
        assert explore(space=space) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("`left < right` must hold, but got 3")
    assert verdicts(tmp_path / "out") == []
    assert not (tmp_path / "out" / "front.json").exists()
