"""SIGKILL at any moment: nothing finished is done again, the file stays whole, and the result is the same."""

from __future__ import annotations

import collections
import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time

import optuna
import pytest
from optuna.trial import TrialState

from lrfdse.search.study.storage import open_storage
from tests.kills import kill_explorations, kill_workers, undisturbed

KILLS = 20
"""Kills of one study; ``python -m tests.kills`` makes 50 of the whole tool."""

DRIVER = """
import os, sys, time, types

from lrfdse.base.events import silent
from lrfdse.explore.plans import job as evaluation
from lrfdse.explore.plans import trials
from lrfdse.explore.plans.job import Job
from lrfdse.explore.plans.trials import SearchRequest, Trials
from lrfdse.ir.choice import Choice as Chosen
from lrfdse.ir.latency import Latency
from lrfdse.ir.plan import Design, Plan
from lrfdse.quality.scores import Scores
from lrfdse.results.settings import Limits
from lrfdse.search.plans.tables import Choice, LayerTable
from lrfdse.search.samplers.builtin import open_sampler
from lrfdse.search.samplers.protocol import Space
from lrfdse.search.study.opening import join_study, open_study

LAYERS = ("fc1", "fc2", "fc3")
TEXTS = ("dense", *(f"svd:r={rank}" for rank in range(8, 1, -1)))
CHOICES = tuple(Choice(text, 200 - 20 * k, 50.0 - 5 * k, 0.01 * k) for k, text in enumerate(TEXTS))
SPACE = Space(tuple(LayerTable(name, CHOICES) for name in LAYERS))


def plan_of(texts, layers):
    return Plan(tuple((name, Chosen.parse(texts[name], 10, 10)) for name in LAYERS))


def ranks(plan):
    return [10 if each.is_original else each.factorization.ranks[0] for _, each in plan.choices]


def assemble(plan, layers, target, scores, origin):
    us, name, score = float(sum(ranks(plan))), "|".join(map(str, ranks(plan))), scores.eval_accuracy
    costs = (20 * int(us), 80 * int(us), 40, Latency(us, us, us))
    return Design(name, plan, *costs, "warm", score, None, score, 0.0, origin)


class Cheap:
    def __init__(self, pause):
        self.pause = pause

    def scores(self, plan):
        time.sleep(self.pause)
        loss = sum((0.01 * (10 - rank)) ** (1 + k / 2) for k, rank in enumerate(ranks(plan)))
        return Scores(1 - loss, None, 1 - loss, 0.0)


def main(url, role, pause, count):
    job = Job((), None, Limits(), "accuracy", Cheap(float(pause)))
    for module in (evaluation, trials):
        module.plan_of, module.assemble = plan_of, assemble
    if role == "worker":
        while (queue := join_study(url, "demo")) is None:
            time.sleep(0.05)
        print("ready", flush=True)
        while not queue.is_over:
            if (proposal := queue.take()) is None:
                time.sleep(0.02)
            else:
                evaluation.evaluate(queue, proposal, job, 1.0)
        return
    study = open_study(url, "demo", SPACE.choices, identity={}, sole=role == "sole")
    helpers = types.SimpleNamespace(start_if_worth=lambda seconds: None)
    found = Trials(study, job, SPACE, SearchRequest(budget=200), helpers, silent)
    study.open_queue()
    print("ready", flush=True)
    open(url.removeprefix("sqlite:///") + ".ready", "w").close() if role == "sole" else None
    found.baseline()
    found.run([dict.fromkeys(LAYERS, text) for text in TEXTS[1:]], "uniform-svd")
    found.sample(open_sampler("nsga2"), int(count))
    study.close_queue()
    for design in found.designs():
        print(design.id, design.latency.us, design.eval_accuracy, design.origin)
    study.close()


if sys.argv[1:]:
    main(*sys.argv[1:])
# Without arguments: a process for every line of input, so that none has to load anything before it can be killed.
for line in sys.stdin if not sys.argv[1:] else ():
    import optuna, sqlalchemy
    if (child := os.fork()) == 0:
        sys.stdout = open(os.devnull, "w")
        main(*line.split("\\t"))
        os._exit(0)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "driver.py"
    path.write_text(DRIVER)
    return path


@pytest.fixture
def driver(script):
    def start(url, role, pause=0.01, count=24):
        command = [sys.executable, str(script), url, role, str(pause), str(count)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


def finished(process, timeout=600):
    out, error = process.communicate(timeout=timeout)
    assert process.returncode == 0, error
    return [line for line in out.splitlines() if line != "ready"]


def trials(url):
    return optuna.load_study(study_name="demo", storage=open_storage(url)).trials


def complete(url):
    """Return the finished plans with their values; fails where one was counted twice."""
    done = [trial for trial in trials(url) if trial.state == TrialState.COMPLETE]
    plans = collections.Counter(tuple(sorted(trial.params.items())) for trial in done)
    assert set(plans.values()) <= {1}
    return {tuple(sorted(trial.params.items())): trial.values for trial in done}


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_like_one_that_was_not(driver, script, tmp_path):
    whole, count, draw = f"sqlite:///{tmp_path}/whole.db", 72, random.Random(5)
    begun = time.monotonic()
    expected = finished(driver(whole, "sole", 0, count))
    # A busy machine gets no further in half a second than an idle one in a moment.
    longest = max(0.5, (time.monotonic() - begun) / 4)
    assert len(expected) == 80
    kills, lives, progress = 0, 0, set()
    with subprocess.Popen([sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as zygote:
        while kills < KILLS:
            path, before, status = tmp_path / f"study{lives}.db", {}, None
            ready = path.with_name(path.name + ".ready")
            while status != 0:
                zygote.stdin.write(f"sqlite:///{path}\tsole\t0.01\t{count}\n")
                zygote.stdin.flush()
                process = int(zygote.stdout.readline())
                if kills < KILLS:
                    early = draw.random() < 0.3
                    while not early and not ready.exists():
                        time.sleep(0.005)
                    time.sleep(draw.uniform(0, longest))
                    # One that came to its end first is none of them.
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)
                    ready.unlink(missing_ok=True)
                status = int(zygote.stdout.readline())
                kills += status == signal.SIGKILL
                before = checked(path, before)
                progress.add(len(before))
            assert finished(driver(f"sqlite:///{path}", "sole", 0, count)) == expected
            assert complete(f"sqlite:///{path}") == complete(whole)
            lives += 1
        zygote.stdin.close()
    # How far each got depends on the machine; had all died at the same point, little would be shown.
    assert len(progress) >= 4


def checked(path, before):
    """Return the plans finished so far; fails where the file is not whole, or one that was finished is gone."""
    if not path.exists() or path.stat().st_size == 0:
        return before
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
        if not database.execute("select 1 from sqlite_master where name = 'alembic_version'").fetchone():
            return before
    url = f"sqlite:///{path}"
    now = complete(url) if "demo" in optuna.get_all_study_names(open_storage(url)) else {}
    assert before.items() <= now.items()
    return now


@pytest.mark.slow
def test_four_workers_on_postgresql_two_of_them_killed(driver, postgres, tmp_path):
    url = postgres.database()
    expected = finished(driver(f"sqlite:///{tmp_path}/whole.db", "sole"))
    leader = driver(url, "leader", 0.2)
    assert leader.stdout.readline() == "ready\n"
    others = [driver(url, "worker", 0.2) for _ in range(4)]
    for worker in others:
        assert worker.stdout.readline() == "ready\n"
    for worker, count in ((others[0], 8), (others[1], 14)):
        deadline = time.monotonic() + 600
        while len(complete(url)) < count and time.monotonic() < deadline:
            time.sleep(0.05)
        worker.send_signal(signal.SIGKILL)
        worker.communicate()
    assert finished(leader) == expected
    for worker in others[2:]:
        assert worker.communicate(timeout=600)[1] == ""
        assert worker.returncode == 0
    assert complete(url) == complete(f"sqlite:///{tmp_path}/whole.db")
    assert not [trial for trial in trials(url) if not trial.state.is_finished()]
    assert len({trial.user_attrs["worker"] for trial in trials(url) if trial.state == TrialState.COMPLETE}) >= 4


@pytest.mark.slow
def test_the_leader_is_killed_and_comes_back_while_workers_go_on(driver, postgres, tmp_path):
    url = postgres.database()
    expected = finished(driver(f"sqlite:///{tmp_path}/whole.db", "sole"))
    leader = driver(url, "leader", 0.1)
    assert leader.stdout.readline() == "ready\n"
    worker = driver(url, "worker", 0.1)
    assert worker.stdout.readline() == "ready\n"
    time.sleep(0.5)
    leader.send_signal(signal.SIGKILL)
    leader.communicate()
    assert finished(driver(url, "leader", 0.05)) == expected
    assert worker.communicate(timeout=600)[1] == ""
    assert complete(url) == complete(f"sqlite:///{tmp_path}/whole.db")


@pytest.fixture(scope="module")
def undisturbed_run(deep_folder, small_space, tmp_path_factory):
    """A folder, an exploration in it that was left alone, and its options."""
    root, more = tmp_path_factory.mktemp("kills"), ("--space", small_space, "--budget", 24, "--keep", 1, "--no-int8")
    return root, undisturbed(root / "whole", deep_folder, more), more


@pytest.mark.slow
@pytest.mark.parametrize(("campaign", "kills"), [(kill_explorations, 6), (kill_workers, 3)])
def test_kills_change_no_byte_and_leave_nothing_behind(campaign, kills, deep_folder, undisturbed_run):
    """A few of what ``python -m tests.kills`` does to README's example."""
    root, whole, more = undisturbed_run
    outcome = campaign(whole, root / campaign.__name__, deep_folder, more, kills, 0)
    assert outcome.kills
    assert outcome.differing == outcome.left == ()
