"""What every storage must do for a study: one suite, read back with plain Optuna where that says more."""

from __future__ import annotations

import itertools
import secrets
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import optuna
import pytest
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from lrfdse.errors import InputError
from lrfdse.search.study.opening import check_study, join_study, open_study
from lrfdse.search.study.queue import Proposal, Queue
from lrfdse.search.study.storage import close_storage, open_storage
from lrfdse.search.study.study import OBJECTIVES, Study
from lrfdse.search.study.urls import sqlite_url

CHOICES = {"fc1": ("dense", "svd:r=8", "svd:r=4", "tt:m=2x5,n=5x2,r=3"), "fc2": ("dense", "svd:r=2", "svd:r=1")}
IDENTITY = {"model": "ab12", "target": "riscv64", "meter": "model"}
DENSE = {"fc1": "dense", "fc2": "dense"}


@dataclass(frozen=True)
class Place:
    url: str
    name: str


@pytest.fixture
def place(storage_url: str) -> Place:
    return Place(storage_url, f"demo-{secrets.token_hex(4)}")


@pytest.fixture
def file(tmp_path: Path) -> Place:
    return Place(sqlite_url(tmp_path / "study.db"), "demo")


def opened(place: Place, **options: object) -> Study:
    return open_study(place.url, place.name, CHOICES, identity=IDENTITY, **options)  # type: ignore[arg-type]


def joined(place: Place, **options: float) -> Queue:
    queue = join_study(place.url, place.name, **options)
    assert queue is not None
    return queue


def evaluate(texts: Mapping[str, str]) -> tuple[float, int, float]:
    places = [CHOICES[layer].index(text) for layer, text in texts.items()]
    return 100.0 - 10 * sum(places), 1000 - 100 * places[0] - places[1], 0.9 - 0.01 * sum(p * p for p in places)


def run(queue: Queue, count: int = 1000) -> Iterator[Proposal]:
    for _ in range(count):
        proposal = queue.take()
        if proposal is None:
            return
        queue.tell(proposal, *evaluate(proposal.texts), {"flops": 7})
        yield proposal


def plain(place: Place) -> optuna.Study:
    return optuna.load_study(study_name=place.name, storage=open_storage(place.url))


def test_plain_optuna_reads_the_study(place: Place) -> None:
    study = opened(place)
    study.enqueue(DENSE, "dense")
    study.enqueue({"fc1": "svd:r=4"}, "knapsack")
    for proposal in (study.take(), study.take()):
        assert proposal is not None
        broken = {"max_params": 0.5 if proposal.origin == "dense" else -0.1}
        study.tell(proposal, *evaluate(proposal.texts), {"flops": 7}, broken)
    read = plain(place)
    assert read.metric_names == list(OBJECTIVES)
    assert [d.name for d in read.directions] == ["MINIMIZE", "MINIMIZE", "MAXIMIZE"]
    first, second = read.trials
    assert first.params == DENSE
    assert first.values == [100.0, 1000.0, 0.9]
    assert (first.user_attrs["origin"], first.user_attrs["flops"]) == ("dense", 7)
    assert second.params == {"fc1": "svd:r=4", "fc2": "dense"}
    assert first.constraints == {"max_params": 0.5}
    assert [trial.number for trial in read.best_trials] == [1]
    study.close()


def test_queue_gives_every_plan_once_in_order(place: Place) -> None:
    study = opened(place)
    plans = [{"fc1": a, "fc2": "dense"} for a in CHOICES["fc1"]]
    assert [study.enqueue(p, "knapsack") for p in (*plans, plans[0])] == [True] * 4 + [False]
    assert [p.texts for p in run(study)] == plans
    assert study.take() is None
    assert len(plain(place).trials) == 4  # an empty queue makes no trial
    assert not study.enqueue(plans[2], "knapsack")
    assert list(study.finished()) == [(p["fc1"], p["fc2"]) for p in plans]
    done = study.finished()["svd:r=8", "dense"]
    assert (done.latency_us, done.params, done.origin, done.attrs) == (90.0, 900, "knapsack", {"flops": 7})
    study.close()


def test_only_wanted_plans_are_taken(place: Place) -> None:
    study = opened(place)
    study.enqueue(DENSE, "dense")
    study.enqueue({"fc1": "svd:r=4"}, "knapsack")
    proposal = study.take({("svd:r=4", "dense")})
    assert proposal is not None
    assert proposal.texts["fc1"] == "svd:r=4"
    assert study.take({("svd:r=4", "dense")}) is None
    known = study.snapshot()
    assert (known.waiting, known.running) == ({("dense", "dense")}, {("svd:r=4", "dense")})
    study.close()


def test_those_who_join_share_the_queue(place: Place) -> None:
    study, other = opened(place), joined(place)
    plans = list(itertools.product(*CHOICES.values()))
    for plan in plans:
        study.enqueue(dict(zip(CHOICES, plan, strict=True)), "knapsack")
    mine, theirs = study.take(), other.take()
    assert mine is not None
    assert theirs is not None
    assert mine.number != theirs.number
    study.tell(mine, *evaluate(mine.texts))
    other.tell(theirs, *evaluate(theirs.texts))
    numbers = [p.number for p in itertools.chain(run(other, 5), run(study))]
    assert sorted([mine.number, theirs.number, *numbers]) == list(range(len(plans)))
    assert set(study.finished()) == set(plans)
    study.close()
    other.close()


def test_many_at_once_take_every_plan_once(place: Place) -> None:
    study = opened(place)
    plans = list(itertools.product(*CHOICES.values()))
    for plan in plans:
        study.enqueue(dict(zip(CHOICES, plan, strict=True)), "knapsack")
    taken: list[int] = []

    def worker() -> None:
        queue = joined(place)
        taken.extend(proposal.number for proposal in run(queue))
        queue.close()

    threads = [threading.Thread(target=worker) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert sorted(taken) == list(range(len(plans)))
    assert len(study.finished()) == len(plans)
    study.close()


def test_a_plan_that_two_enqueue_at_once_is_evaluated_once(place: Place) -> None:
    one, two = opened(place), opened(place)
    before = two.snapshot()
    assert one.enqueue(DENSE, "dense")
    assert two.enqueue(DENSE, "dense", before)
    first = one.take()
    assert first is not None
    assert two.take() is None
    one.tell(first, *evaluate(DENSE))
    assert [t.state for t in plain(place).trials] == [TrialState.COMPLETE, TrialState.FAIL]
    assert list(one.finished()) == [("dense", "dense")]
    assert one.failed() == {}
    one.close()
    two.close()


_KILLED = """
import os, sys
from lrfdse.search.study.opening import join_study
queue = join_study(sys.argv[1], sys.argv[2])
queue.take()
print("taken", flush=True)
sys.stdin.read() if sys.argv[3] == "hold" else os._exit(9)
"""


def process(place: Place, ending: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _KILLED, place.url, place.name, ending]
    started = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    assert started.stdout.readline() == "taken\n"
    return started


def test_a_dead_process_gives_its_plan_back(place: Place) -> None:
    study = opened(place)
    study.enqueue(DENSE, "dense")
    process(place, "die").communicate(timeout=600)
    assert study.snapshot().running == {("dense", "dense")}
    assert study.reclaim() == [("dense", "dense")]
    assert ("dense", "dense") not in study.snapshot()
    assert study.enqueue(DENSE, "dense")
    assert [p.texts for p in run(study)] == [DENSE]
    assert list(study.finished()) == [("dense", "dense")]
    study.close()


@pytest.mark.slow
def test_a_living_process_keeps_its_plan_until_it_is_killed(place: Place) -> None:
    study = opened(place)
    study.enqueue(DENSE, "dense")
    with process(place, "hold") as other:
        try:
            assert study.reclaim() == []
            assert not study.enqueue(DENSE, "dense")
            assert opened(place).snapshot().running == {("dense", "dense")}
        finally:
            other.send_signal(signal.SIGKILL)
    assert study.reclaim() == [("dense", "dense")]
    study.close()


@pytest.mark.slow
def test_sole_user_takes_every_running_trial(file: Place) -> None:
    opened(file).enqueue(DENSE, "dense")
    with process(file, "hold") as other:
        study = opened(file, sole=True)
        assert ("dense", "dense") not in study.snapshot()
        study.enqueue(DENSE, "dense")
        mine = study.take()
        assert mine is not None
        assert study.reclaim(sole=True) == []
        study.tell(mine, *evaluate(DENSE))
        other.communicate("")
    assert list(study.finished()) == [("dense", "dense")]


def test_a_result_that_comes_after_the_plan_was_given_to_another_is_left_out(place: Place) -> None:
    slow = opened(place)
    slow.enqueue(DENSE, "dense")
    held = slow.take()
    assert held is not None
    quick = opened(place)  # the same process, but it did not take the trial: one that had this number before did
    quick.enqueue(DENSE, "dense")
    again = quick.take()
    assert again is not None
    assert again.texts == held.texts == DENSE
    quick.tell(again, 1.0, 2, 0.5)
    slow.tell(held, 9.0, 9, 0.9)
    assert [(f.latency_us, f.params) for f in slow.finished().values()] == [(1.0, 2)]
    slow.close()
    quick.close()


def test_closing_gives_back_what_is_under_way(place: Place) -> None:
    study, other = opened(place), joined(place)
    study.enqueue(DENSE, "dense")
    other.take()
    other.close()
    assert ("dense", "dense") not in study.snapshot()
    study.close()


def test_failed_plan_is_kept_with_its_reason_and_not_evaluated_again(place: Place) -> None:
    study = opened(place)
    study.enqueue(DENSE, "dense")
    proposal = study.take()
    assert proposal is not None
    study.fail(proposal, "kernel fc1 timed out")
    assert study.failed() == {("dense", "dense"): "kernel fc1 timed out"}
    assert not study.enqueue(DENSE, "dense")
    read = plain(place).trials[0]
    assert (read.state, read.user_attrs["reason"]) == (TrialState.FAIL, "kernel fc1 timed out")
    study.close()


def test_the_end_is_announced(place: Place) -> None:
    study, other = opened(place), joined(place)
    study.open_queue()
    assert not other.is_over
    study.close_queue()
    assert other.is_over
    study.open_queue()
    assert not other.is_over
    study.close()
    other.close()


def test_other_model_under_the_same_name_is_refused(place: Place) -> None:
    opened(place).close()
    elsewhere = {**IDENTITY, "target": "aarch64"}
    with pytest.raises(InputError, match="of target 'riscv64', but this run has target 'aarch64'"):
        open_study(place.url, place.name, CHOICES, identity=elsewhere)
    with pytest.raises(InputError, match="of target 'riscv64', but this run has target 'aarch64'"):
        check_study(place.url, place.name, elsewhere)
    with pytest.raises(InputError, match="model 'ab12'"):
        open_study(place.url, place.name, {"fc9": ("dense",)}, identity={**IDENTITY, "model": "ff"})
    check_study(place.url, place.name, IDENTITY)
    check_study(place.url, "another", elsewhere)
    assert join_study(place.url, "another") is None


def test_other_choices_get_their_own_study(place: Place) -> None:
    first = opened(place)
    first.enqueue(DENSE, "dense")
    list(run(first))
    more = {**CHOICES, "fc2": (*CHOICES["fc2"], "svd:r=3")}
    second = open_study(place.url, place.name, more, identity=IDENTITY)
    assert second.name.startswith(f"{place.name}-")
    assert second.finished() == {}
    second.enqueue({"fc2": "svd:r=1"}, "knapsack")
    list(run(second))
    assert len(open_study(place.url, place.name, more, identity=IDENTITY).finished()) == 1
    assert len(opened(place).finished()) == 1


def test_an_identity_keeps_off_the_names_of_the_study(file: Place) -> None:
    for name in ("layers", "choices"):
        with pytest.raises(ValueError, match=f"'{name}' is no part of an identity"):
            open_study(file.url, file.name, CHOICES, identity={**IDENTITY, name: "fc"})


def test_a_refusal_names_the_parts_that_differ(file: Place) -> None:
    code = {"lrfdse.repair.moments": "aa", "numpy": "2.1", "scipy": "1.16"}
    open_study(file.url, file.name, CHOICES, identity={**IDENTITY, "code": code}).close()
    check_study(file.url, file.name, {**IDENTITY, "code": dict(code)})
    with pytest.raises(InputError, match=r"of another code, which differs in lrfdse\.repair\.moments, scipy: choose"):
        check_study(file.url, file.name, {**IDENTITY, "code": {**code, "lrfdse.repair.moments": "ab", "scipy": "1.17"}})
    more = {f"part{k}": "" for k in range(9)}
    with pytest.raises(InputError, match="differs in part0, part1, part2, part3, part4, part5 and 3 more: choose"):
        check_study(file.url, file.name, {**IDENTITY, "code": {**code, **more}})
    with pytest.raises(InputError, match="of code 'aa', but this run has code 'bb'"):
        open_study(file.url, "plain", CHOICES, identity={**IDENTITY, "code": "aa"}).close()
        check_study(file.url, "plain", {**IDENTITY, "code": "bb"})
    with pytest.raises(InputError, match="another code, which differs in all parts"):
        check_study(file.url, "plain", {**IDENTITY, "code": code})


def test_foreign_studies_are_refused(place: Place) -> None:
    optuna.create_study(study_name=place.name, storage=open_storage(place.url))
    for use in (opened, joined):
        with pytest.raises(InputError, match="not made by lrfdse"):
            use(place)
    other = Place(place.url, place.name + "-full")
    foreign = optuna.create_study(
        study_name=other.name, storage=open_storage(place.url), directions=["minimize", "minimize", "maximize"]
    )
    foreign.add_trial(optuna.create_trial(values=[1, 2, 3]))
    with pytest.raises(InputError, match="not made by lrfdse"):
        opened(other)


def test_trials_that_others_add_to_the_study_are_left_alone(place: Place) -> None:
    study = opened(place)
    plain(place).enqueue_trial(DENSE)
    assert study.take() is None
    assert len(plain(place).trials) == 1
    assert study.enqueue(DENSE, "dense")
    assert len(list(run(study))) == 1
    study.close()


def test_bad_plans_and_values_are_refused(file: Place) -> None:
    study = opened(file)
    with pytest.raises(ValueError, match="no layer 'fc7'"):
        study.enqueue({"fc7": "dense"}, "dense")
    with pytest.raises(ValueError, match="no choice 'svd:r=99'"):
        study.enqueue({"fc1": "svd:r=99"}, "dense")
    study.enqueue(DENSE, "dense")
    proposal = study.take()
    assert proposal is not None
    with pytest.raises(ValueError, match="must be finite"):
        study.tell(proposal, float("nan"), 1, 0.5)
    with pytest.raises(ValueError, match="'dense' among them"):
        open_study(file.url, "x", {"fc1": ("svd:r=1",)}, identity=IDENTITY)


def test_several_studies_need_a_name(file: Place) -> None:
    opened(file)
    assert join_study(file.url, None) is not None
    open_study(file.url, "second", CHOICES, identity=IDENTITY)
    with pytest.raises(InputError, match="--study-name: demo, second"):
        join_study(file.url, None)


def test_nothing_is_pickled(file: Place) -> None:
    study = opened(file)
    study.enqueue(DENSE, "dense")
    list(run(study))
    study.close()
    with sqlite3.connect(file.url.removeprefix("sqlite:///")) as database:
        tables = [row[0] for row in database.execute("select name from sqlite_master where type = 'table'")]
        cells = [cell for t in tables for row in database.execute(f"select * from {t}") for cell in row]
    assert cells
    assert not any(isinstance(cell, bytes) for cell in cells)


def trial_id(storage: BaseStorage, place: Place, number: int) -> int:
    return storage.get_trial_id_from_study_id_trial_number(storage.get_study_id_from_name(place.name), number)


def sign(place: Place, number: int, worker: str) -> None:
    """Have a running trial signed by another process."""
    storage = open_storage(place.url)
    storage.set_trial_user_attr(trial_id(storage, place, number), "worker", worker)
    close_storage(storage)


@pytest.mark.slow
def test_signs_of_life_from_another_machine_are_judged_by_ones_own_clock(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The storage judges where it keeps heartbeats; a wall clock that jumps back changes nothing."""
    import time

    study = opened(place, grace=6.0)
    study.enqueue(DENSE, "dense")
    other = joined(place, grace=6.0)
    taken = other.take()
    assert taken is not None
    sign(place, taken.number, "elsewhere:1:feedbeef.1")
    monkeypatch.setattr("time.time", lambda: 0.0)
    deadline = time.monotonic() + 8
    while time.monotonic() < deadline:
        assert study.reclaim() == []
        time.sleep(0.2)
    other._beats.close()  # the machine is gone
    deadline = time.monotonic() + 600
    while not (gone := study.reclaim()) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert gone == [("dense", "dense")]
    assert ("dense", "dense") not in study.snapshot()
    study.close()
    other.close()


def test_a_trial_that_nobody_signed_is_given_time(file: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    study = opened(file)
    study.enqueue(DENSE, "dense")
    storage = open_storage(file.url)
    storage.set_trial_state_values(trial_id(storage, file, 0), TrialState.RUNNING)
    assert study.reclaim() == []
    later = __import__("time").monotonic() + 10
    monkeypatch.setattr("time.monotonic", lambda: later)
    assert study.reclaim() == [("dense", "dense")]


@pytest.mark.slow
def test_process_numbers_that_are_used_again_do_not_count_as_alive(file: Place) -> None:
    study = opened(file)
    study.enqueue(DENSE, "dense")
    queue = joined(file)
    queue.take()
    number = plain(file).trials[0]
    signed = number.user_attrs["worker"]
    host, _, rest = signed.partition(":")
    again = f"{host}:1:{rest.partition(':')[2]}"
    sign(file, number.number, again)
    assert study.reclaim() == [("dense", "dense")]
