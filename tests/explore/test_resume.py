"""An exploration that was cut short anywhere goes on to the result that it would have had."""

from __future__ import annotations

import json

import pytest

from lrfdse.cli import run
from lrfdse.explore.plans.evaluator import Evaluator

pytestmark = pytest.mark.slow

BUDGET = 30
FEW = ("--no-library", "--no-int8")
"""No test here looks at what these make."""


@pytest.fixture(scope="module")
def explore(deep_folder, small_space, shared_cache):
    def start(output, *more):
        options = ["--target", "riscv64", "-o", output, "--space", small_space, "--cache", shared_cache]
        # On a slow machine helper processes would evaluate some of the plans that the tests count.
        arguments = ["explore", deep_folder, *options, "--budget", BUDGET, "--keep", 1, "--workers", 1, *FEW, *more]
        return run([str(argument) for argument in arguments])

    return start


def front(output):
    document = json.loads((output / "front.json").read_text())
    return {key: value for key, value in document.items() if key not in ("model", "data", "space")}


@pytest.fixture(scope="module")
def uninterrupted(explore, tmp_path_factory):
    output = tmp_path_factory.mktemp("whole")
    assert explore(output) == 0
    return front(output)


def test_the_budget_bounds_what_is_evaluated(uninterrupted):
    assert 10 <= uninterrupted["evaluated"] <= BUDGET
    assert {"dense", "uniform-svd", "knapsack"} <= {design["origin"] for design in uninterrupted["designs"]}


@pytest.mark.parametrize("cut", [1, 4, 9, 16, 22, 27])
def test_a_run_that_was_cut_resumes_to_the_same_result(cut, explore, uninterrupted, tmp_path, monkeypatch):
    really, seen = Evaluator.scores, []

    def scores(self, plan):
        seen.append(plan)
        if len(seen) == cut:
            raise KeyboardInterrupt
        return really(self, plan)

    monkeypatch.setattr(Evaluator, "scores", scores)
    assert explore(tmp_path) == 130
    assert not (tmp_path / "front.json").exists()
    assert explore(tmp_path) == 0
    assert front(tmp_path) == uninterrupted
    assert len(seen) <= uninterrupted["evaluated"] + 2


@pytest.mark.parametrize("budget", [1, 2, 5, 12])
def test_small_budgets_are_kept(budget, explore, tmp_path):
    assert explore(tmp_path, "--budget", budget) == 0
    assert front(tmp_path)["evaluated"] <= budget


def test_other_test_data_are_evaluated_anew(deep_folder, small_space, shared_cache, tmp_path):
    import numpy as np

    options = ["--target", "riscv64", "-o", tmp_path / "out", "--space", small_space, "--cache", shared_cache]
    command = [deep_folder, *options, "--budget", 4, "--keep", 0, *FEW]
    assert run([str(a) for a in ["explore", *command]]) == 0
    before = front(tmp_path / "out")["original"]["test_score"]["value"]
    with np.load(deep_folder / "test.npz") as data:
        np.savez(tmp_path / "wrong.npz", x=data["x"], labels=(data["labels"] + 1) % 12)
    assert run([str(a) for a in ["explore", *command, "--test", tmp_path / "wrong.npz"]]) == 0
    assert before == 1.0
    assert front(tmp_path / "out")["original"]["test_score"]["value"] == 0.0
