"""The study, read back with plain Optuna."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from lrfdse.errors import InputError, ToolError
from lrfdse.search.opening import open_study
from lrfdse.search.storage import open_storage, sqlite_url
from lrfdse.search.study import Proposal, Study

CHOICES = {"fc1": ("dense", "svd:r=8", "svd:r=4", "tt:m=2x5,n=5x2,r=3"), "fc2": ("dense", "svd:r=2", "svd:r=1")}
IDENTITY = {"model_sha256": "ab12", "target": "riscv64", "meter": "model"}
DENSE = {"fc1": "dense", "fc2": "dense"}


@pytest.fixture
def url(tmp_path: Path) -> str:
    return sqlite_url(tmp_path / "my results" / "study {1}.db")


def opened(url: str, seed: int = 0, **options: object) -> Study:
    return open_study(url, "demo", CHOICES, identity=IDENTITY, seed=seed, **options)  # type: ignore[arg-type]


def evaluate(texts: Mapping[str, str]) -> tuple[float, int, float]:
    places = [CHOICES[layer].index(text) for layer, text in texts.items()]
    return 100.0 - 10 * sum(places), 1000 - 100 * places[0] - places[1], 0.9 - 0.01 * sum(p * p for p in places)


def run(study: Study, count: int) -> Iterator[Proposal]:
    for _ in range(count):
        proposal = study.next_plan()
        if proposal is None:
            return
        study.tell(proposal, *evaluate(proposal.texts), {"flops": 7})
        yield proposal


def storage(url: str) -> str:
    return url.replace("{", "{{").replace("}", "}}")


def plain(url: str, name: str = "demo") -> optuna.Study:
    return optuna.load_study(study_name=name, storage=storage(url))


def test_plain_optuna_reads_the_study(url: str) -> None:
    study = opened(url)
    assert study.enqueue(DENSE, "dense")
    assert study.enqueue({"fc1": "svd:r=4"}, "knapsack")
    list(run(study, 3))
    read = plain(url)
    assert [d.name for d in read.directions] == ["MINIMIZE", "MINIMIZE", "MAXIMIZE"]
    assert read.metric_names == ["latency_us", "params", "score"]
    assert {k: read.user_attrs[k] for k in IDENTITY} == IDENTITY
    first, second, third = read.trials
    assert first.params == DENSE
    assert first.values == [100.0, 1000.0, 0.9]
    assert (first.user_attrs["origin"], first.user_attrs["flops"]) == ("dense", 7)
    assert second.params == {"fc1": "svd:r=4", "fc2": "dense"}
    assert second.user_attrs["origin"] == "knapsack"
    assert third.user_attrs["origin"] == "nsga2"
    assert all(t.state == TrialState.COMPLETE for t in read.trials)
    assert len(read.best_trials) >= 1


def test_queue_comes_first_and_takes_a_plan_once(url: str) -> None:
    study = opened(url)
    plans = [{"fc1": a, "fc2": "dense"} for a in CHOICES["fc1"]]
    assert [study.enqueue(p, "knapsack") for p in (*plans, plans[0])] == [True] * 4 + [False]
    assert [p.texts for p in run(study, 4)] == plans
    assert not study.enqueue(plans[2], "knapsack")
    assert set(study.finished()) == {(p["fc1"], p["fc2"]) for p in plans}
    done = study.finished()["svd:r=8", "dense"]
    assert (done.latency_us, done.params, done.origin, done.attrs) == (90.0, 900, "knapsack", {"flops": 7})


def test_whole_space_is_proposed_once_each(url: str) -> None:
    study = opened(url)
    plans = [study.key(p.texts) for p in run(study, 1000)]
    assert sorted(plans) == sorted(itertools.product(*CHOICES.values()))
    trials = len(plain(url).trials)
    assert study.next_plan() is None
    assert len(plain(url).trials) == trials
    by_plan = {}
    for trial in plain(url).trials:
        assert by_plan.setdefault(tuple(trial.params.values()), trial.values) == trial.values


def test_same_seed_gives_same_plans(tmp_path: Path) -> None:
    def plans(name: str, seed: int) -> list[tuple[str, ...]]:
        study = opened(sqlite_url(tmp_path / name), seed)
        study.enqueue(DENSE, "dense")
        return [study.key(p.texts) for p in run(study, 9)]

    first = plans("a.db", 1)
    assert plans("b.db", 1) == first
    assert any(plans(f"c{seed}.db", seed) != first for seed in (2, 3, 4))


_KILLED = """
import os, sys
sys.path.insert(0, sys.argv[2])
from test_study import *
study = opened(sys.argv[1])
study.enqueue(DENSE, "dense")
study.enqueue({"fc1": "svd:r=4"}, "knapsack")
list(run(study, int(sys.argv[3])))
study.next_plan()
os._exit(9)
"""


@pytest.mark.parametrize("done", [0, 1, 4])
def test_killed_run_resumes_as_if_it_had_not_been(tmp_path: Path, done: int) -> None:
    url, other = sqlite_url(tmp_path / "killed.db"), sqlite_url(tmp_path / "whole.db")
    command = [sys.executable, "-c", _KILLED, url, str(Path(__file__).parent), str(done)]
    assert subprocess.run(command, check=False).returncode == 9
    (running,) = (t for t in plain(url).trials if t.state == TrialState.RUNNING)
    whole = opened(other)
    for study in (resumed := opened(url), whole):
        study.enqueue(DENSE, "dense")
        study.enqueue({"fc1": "svd:r=4"}, "knapsack")
    assert len(resumed.finished()) == done
    list(run(resumed, 9 - done))
    list(run(whole, 9))
    cut_short = plain(url).trials[running.number]
    assert (cut_short.state, cut_short.user_attrs["interrupted"]) == (TrialState.FAIL, True)
    assert {k: (f.latency_us, f.origin) for k, f in resumed.finished().items()} == {
        k: (f.latency_us, f.origin) for k, f in whole.finished().items()
    }


def _hold(url: str, ready: object, go: object) -> None:
    study = opened(url)
    proposal = study.next_plan()
    assert proposal is not None
    ready.set()  # type: ignore[attr-defined]
    go.wait(60)  # type: ignore[attr-defined]
    study.tell(proposal, *evaluate(proposal.texts))


def test_living_worker_keeps_its_trial(url: str) -> None:
    fork = multiprocessing.get_context("fork")
    ready, go = fork.Event(), fork.Event()
    opened(url).enqueue(DENSE, "dense")
    worker = fork.Process(target=_hold, args=(url, ready, go))
    worker.start()
    assert ready.wait(60)
    study = opened(url)
    assert [t.state for t in plain(url).trials] == [TrialState.RUNNING]
    assert not study.enqueue(DENSE, "dense")
    go.set()
    worker.join(60)
    assert worker.exitcode == 0
    assert list(study.finished()) == [("dense", "dense")]


def test_sole_user_takes_every_running_trial(url: str) -> None:
    fork = multiprocessing.get_context("fork")
    ready, go = fork.Event(), fork.Event()
    opened(url).enqueue(DENSE, "dense")
    worker = fork.Process(target=_hold, args=(url, ready, go))
    worker.start()
    try:
        assert ready.wait(60)
        study = opened(url, sole=True)
        assert [t.state for t in plain(url).trials] == [TrialState.FAIL, TrialState.WAITING]
        mine = study.next_plan()
        assert mine is not None
        assert study.reclaim(0.0, sole=True) == 0
        study.tell(mine, *evaluate(DENSE))
    finally:
        go.set()
        worker.join(60)
    assert list(study.finished()) == [("dense", "dense")]


def test_trial_taken_over_by_another_is_left_alone(url: str) -> None:
    slow = opened(url)
    slow.enqueue(DENSE, "dense")
    held = slow.next_plan()
    assert held is not None
    quick = opened(url)  # the same process id: counts as a run before this one
    again = quick.next_plan()
    assert again is not None
    assert again.texts == held.texts == DENSE
    quick.tell(again, 1.0, 2, 0.5)
    slow.tell(held, 9.0, 9, 0.9)
    assert [(f.latency_us, f.params) for f in slow.finished().values()] == [(1.0, 2)]


def test_failed_plan_is_kept_with_its_reason_and_not_proposed_again(url: str) -> None:
    study = opened(url)
    study.enqueue(DENSE, "dense")
    proposal = study.next_plan()
    assert proposal is not None
    study.fail(proposal, "kernel fc1 timed out")
    assert study.failed() == {("dense", "dense"): "kernel fc1 timed out"}
    assert not study.enqueue(DENSE, "dense")
    assert ("dense", "dense") not in {study.key(p.texts) for p in run(study, 100)}
    assert len(study.finished()) == 11
    read = plain(url).trials[0]
    assert (read.state, read.user_attrs["reason"]) == (TrialState.FAIL, "kernel fc1 timed out")


def test_duplicate_does_not_stand_for_the_plan_that_was_evaluated(url: str) -> None:
    study = opened(url)
    study.enqueue(DENSE, "dense")
    (first,) = run(study, 1)
    again = plain(url)
    again.enqueue_trial(DENSE, user_attrs={"duplicate_of": first.number})
    again.tell(again.ask(study._distributions).number, [100.0, 1000.0, 0.9])
    assert [(f.number, f.attrs) for f in study.finished().values()] == [(first.number, {"flops": 7})]
    alone = open_study(url, "other", CHOICES, identity=IDENTITY)
    lonely = plain(url, "other")
    lonely.enqueue_trial(DENSE, user_attrs={"duplicate_of": 5})
    lonely.tell(lonely.ask(alone._distributions).number, [100.0, 1000.0, 0.9])
    assert alone.finished() == {}


def test_other_model_under_the_same_name_is_refused(url: str) -> None:
    opened(url)
    with pytest.raises(InputError, match="of target 'riscv64', but this run has target 'aarch64'"):
        open_study(url, "demo", CHOICES, identity={**IDENTITY, "target": "aarch64"})
    with pytest.raises(InputError, match="model_sha256 'ab12'"):
        open_study(url, "demo", {"fc9": ("dense",)}, identity={**IDENTITY, "model_sha256": "ff"})


def test_other_choices_get_their_own_study(url: str) -> None:
    first = opened(url)
    list(run(first, 2))
    more = {**CHOICES, "fc2": (*CHOICES["fc2"], "svd:r=3")}
    second = open_study(url, "demo", more, identity=IDENTITY)
    assert sum(summary.study_name.startswith("demo-") for summary in optuna.get_all_study_summaries(storage(url))) == 1
    assert second.finished() == {}
    list(run(second, 1))
    assert len(open_study(url, "demo", more, identity=IDENTITY).finished()) == 1
    assert len(opened(url).finished()) == 2


def test_foreign_study_is_refused(url: str) -> None:
    open_storage(url)
    optuna.create_study(study_name="demo", storage=storage(url))
    with pytest.raises(InputError, match="not made by lrfdse"):
        opened(url)


def test_bad_plans_and_values_are_refused(url: str) -> None:
    study = opened(url)
    with pytest.raises(InputError, match="no layer 'fc7'"):
        study.enqueue({"fc7": "dense"}, "dense")
    with pytest.raises(InputError, match="no choice 'svd:r=99'"):
        study.enqueue({"fc1": "svd:r=99"}, "dense")
    proposal = study.next_plan()
    assert proposal is not None
    with pytest.raises(InputError, match="finite objectives"):
        study.tell(proposal, float("nan"), 1, 0.5)
    with pytest.raises(InputError, match="`dense` among them"):
        open_study(url, "x", {"fc1": ("svd:r=1",)}, identity=IDENTITY)


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("nonsense", InputError),
        ("nosuchdb://me:hunter2@host/x", ToolError | InputError),
        ("postgresql+nodriver://me:hunter2@127.0.0.1:1/x?password=hunter2", ToolError | InputError),
        ("mysql://me:hunter2@127.0.0.1:1/x", ToolError),
        ("sqlite:////proc/nowhere/study.db", InputError),
    ],
)
def test_unusable_storage_is_one_line_without_credentials(url: str, error: type[Exception]) -> None:
    with pytest.raises((InputError, ToolError)) as caught:
        open_storage(url)
    assert isinstance(caught.value, error)
    text = str(caught.value)
    assert "hunter2" not in text
    assert "me:" not in text
    assert "\n" not in text
    assert caught.value.__cause__ is None or "hunter2" not in str(caught.value.__cause__)


def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "study.db").write_bytes(os.urandom(4096))
    with pytest.raises(InputError, match="cannot open the study's storage"):
        open_storage(sqlite_url(tmp_path / "study.db"))


def test_nothing_is_pickled(url: str) -> None:
    study = opened(url)
    list(run(study, 2))
    study.close()
    with sqlite3.connect(url.removeprefix("sqlite:///")) as database:
        tables = [row[0] for row in database.execute("select name from sqlite_master where type = 'table'")]
        cells = [cell for t in tables for row in database.execute(f"select * from {t}") for cell in row]
    assert cells
    assert not any(isinstance(cell, bytes) for cell in cells)


def test_trial_of_another_machine_is_left_until_it_is_stale(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    study = opened(url)
    study.enqueue(DENSE, "dense")
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("platform.node", lambda: "another-board")
        study.next_plan()
    opened(url)
    assert [t.state for t in plain(url).trials] == [TrialState.RUNNING]
    opened(url, stale_after=0.0)
    assert [t.state for t in plain(url).trials] == [TrialState.FAIL, TrialState.WAITING]
