"""Plans evaluated by others: by helpers, by workers that join from elsewhere, and by two explorations at once."""

from __future__ import annotations

import collections
import contextlib
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys

import optuna
import pytest

from lrfdse.cli import run
from lrfdse.errors import InputError
from lrfdse.explore.allowed import require_allowed
from lrfdse.explore.identity import code_identity
from lrfdse.explore.inputs import settings_for
from lrfdse.explore.plans import worker as workers
from lrfdse.explore.plans.evaluator import Evaluator
from lrfdse.explore.run import explore
from lrfdse.factorize.methods import METHODS
from lrfdse.report.write import write_reports
from lrfdse.search.study.storage import open_storage

pytestmark = pytest.mark.slow
"""Each of these runs an exploration of its own, or waits for one that the module shares."""

BUDGET = 24
MAIN = "from lrfdse.cli import main\nif __name__ == '__main__': main()"


@pytest.fixture(scope="module")
def arguments(deep_folder, small_space, shared_cache):
    def build(output, *more):
        options = ["--target", "riscv64", "-o", output, "--space", small_space, "--cache", shared_cache]
        options += ["--budget", BUDGET, "--keep", 1, "--no-library", "--no-int8"]
        return [str(each) for each in ["explore", deep_folder, *options, *more]]

    return build


def front(output):
    document = json.loads((output / "front.json").read_text())
    return {key: value for key, value in document.items() if key not in ("model", "data", "space", "command")}


@pytest.fixture(scope="module")
def alone(arguments, tmp_path_factory):
    output = tmp_path_factory.mktemp("alone")
    assert run(arguments(output, "--workers", 1)) == 0
    return front(output)


@contextlib.contextmanager
def cut_after(count):
    """Interrupt this process when it is about to evaluate one more than so many plans."""
    really, seen = Evaluator.scores, []

    def scores(self, *rest):
        seen.append(rest)
        if len(seen) > count:
            raise KeyboardInterrupt
        return really(self, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Evaluator, "scores", scores)
        yield seen


def shared(arguments, root):
    """Return the study, the store, and the command of an exploration in a folder."""
    study, store = root / "shared" / "study.journal", root / "store"
    return study, store, arguments(root / "out", "--study", study, "--study-name", "demo", "--artifacts", store)


@pytest.fixture(scope="module")
def interrupted(arguments, tmp_path_factory):
    """A folder of an exploration that was interrupted while plans were waiting."""
    root = tmp_path_factory.mktemp("interrupted")
    study, _, command = shared(arguments, root)
    with cut_after(3):
        assert run(command) == 130
    assert len(trials(study, "WAITING")) >= 2
    return root


@pytest.fixture
def cut(interrupted, arguments, tmp_path):
    """The same exploration in a folder of the test's own: its study, its store, and its command."""
    shutil.copytree(interrupted, tmp_path, dirs_exist_ok=True)
    return shared(arguments, tmp_path)


def trials(study, state):
    read = optuna.load_study(study_name="demo", storage=open_storage(str(study)))
    return [trial for trial in read.trials if trial.state.name == state]


def start(study, *more, cwd, preexec_fn=None, **environment):
    command = [sys.executable, "-c", MAIN, "worker", "--study", study, "--study-name", "demo", *more]
    return subprocess.Popen(
        [str(each) for each in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        preexec_fn=preexec_fn,
        env={**os.environ, "CI": "1", **environment},
    )


def work(study, *more, cwd, **environment):
    process = start(study, *more, cwd=cwd, **environment)
    out, error = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, out, error)


@pytest.mark.slow
def test_a_worker_needs_the_study_and_the_store_alone(cut, alone, tmp_path):
    study, store, command = cut
    waiting, elsewhere = len(trials(study, "WAITING")), tmp_path / "else where"
    elsewhere.mkdir()
    hidden = study.rename(study.with_name("later.journal"))
    process = start(study, "--artifacts", store, "--cache", elsewhere / "cache", "--idle", 0, cwd=elsewhere)
    # It waits for its study, however short the time for which it would wait for work.
    assert any("waiting until study demo is there" in line for line in process.stderr)
    hidden.rename(study)
    out, error = process.communicate()
    assert process.returncode == 0, error
    assert f"{waiting} plans evaluated: nothing to do for 0 minutes" in out
    assert trials(study, "WAITING") == []
    with cut_after(10_000) as seen:
        assert run(command) == 0
    assert len(seen) <= alone["evaluated"] - 3 - waiting + 1
    assert front(tmp_path / "out") == alone
    again = work(study, "--artifacts", store, "--cache", elsewhere / "cache", cwd=elsewhere)
    assert (again.returncode, again.stdout) == (0, "0 plans evaluated: the study is finished\n")


def test_what_is_shared_tells_no_path_of_the_machine(interrupted, arguments, deep_folder, shared_cache):
    study, store, _ = shared(arguments, interrupted)
    assert {path.name for path in store.iterdir()} <= {
        note["artifact"]
        for note in optuna.load_study(study_name="demo", storage=open_storage(str(study))).user_attrs["shared"].values()
    }
    for content in [study.read_bytes(), *(path.read_bytes() for path in store.iterdir())]:
        for path in (deep_folder, interrupted, shared_cache):
            assert str(path).encode() not in content


def test_an_artifact_with_another_hash_is_refused(cut, tmp_path, capsys):
    study, store, _ = cut
    read = optuna.load_study(study_name="demo", storage=open_storage(str(study)))
    model = store / read.user_attrs["shared"]["model"]["artifact"]

    def said(*more):
        words = ["worker", "--study", study, "--study-name", "demo", "--cache", tmp_path / "c", "--idle", 0, *more]
        assert run([str(word) for word in words]) == 2
        return capsys.readouterr().err.splitlines()[-1]

    model.write_bytes(model.read_bytes()[:-1] + b"\0")
    assert said("--artifacts", store).endswith("model.onnx is not what the study shares (its SHA-256 differs): refused")
    model.unlink()
    for stranger in (lambda: os.mkfifo(model), lambda: model.symlink_to("/dev/zero"), model.mkdir, lambda: None):
        stranger()
        assert "holds no model.onnx of this study" in said("--artifacts", store)
        if model.is_dir():
            model.rmdir()
        else:
            model.unlink(missing_ok=True)
    assert f"--artifacts {study.parent / 'artifacts'}: holds no" in said()


def test_a_worker_without_memory_is_one_line_and_no_plans_fault(cut, tmp_path):
    study, store, _ = cut
    before, ends = len(trials(study, "WAITING")), set()
    for limit in (300, 500, 700):
        process = start(
            *(study, "--artifacts", store, "--cache", tmp_path / "c", "--idle", 0),
            cwd=tmp_path,
            preexec_fn=lambda bytes=limit << 20: resource.setrlimit(resource.RLIMIT_AS, (bytes, bytes)),
        )
        _, error = process.communicate()
        ends.add(process.returncode)
        assert "Traceback" not in error
        if process.returncode:
            assert process.returncode in (2, 4), error
            assert len([line for line in error.splitlines() if line.startswith("lrfdse: ")]) == 1, error
            assert len(trials(study, "WAITING")) + len(trials(study, "RUNNING")) >= before
    assert ends & {2, 4}


def test_a_job_that_no_exploration_writes_is_one_line(cut, tmp_path):
    study, store, _ = cut
    read = optuna.load_study(study_name="demo", storage=open_storage(str(study)))
    known = read.user_attrs["shared"]
    job = json.loads((store / known["job"]["artifact"]).read_text())

    def refused(content):
        (store / "other").write_bytes(content)
        note = {"artifact": "other", "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        read.set_user_attr("shared", {**known, "job": note})
        with pytest.raises(InputError, match="not the job of a study") as caught:
            workers.work(str(study), "demo", store, tmp_path / "c", 0.0)
        assert str(caught.value).isprintable()
        return str(caught.value)

    assert "a seed is below 0" in refused(json.dumps({**job, "data": {**job["data"], "seed": -1}}).encode())
    assert "a seed is below 0" in refused(json.dumps({**job, "fit": {**job["fit"], "seed": -1}}).encode())
    layers = [{**layer, "options": []} for layer in job["layers"]]
    assert "has no dense option" in refused(json.dumps({**job, "layers": layers}).encode())
    layers = [{**layer, "layer": {**layer["layer"], "outputs": 2**20}} for layer in job["layers"]]
    assert "not the job of a study (" in refused(json.dumps({**job, "layers": layers}).encode())
    for content in (b"", b"5", b"null", b"[]", b"[" * 100_000, b"\xff\xfe", b'{"data": 1}'):
        refused(content)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("lrfdse", "9.9.9", r"is explored with lrfdse 9\.9\.9, but this machine has \d"),
        ("code", "0123456789abcdef", r"with other code or libraries than this machine has \(all parts\)"),
        (
            "code",
            {**code_identity()["code"], "lrfdse.repair.moments": "0", "onnxruntime": "0.1"},
            r"than this machine has \(lrfdse\.repair\.moments, onnxruntime\)",
        ),
        ("score", "mine:score 0123", "its code on this machine is not that of whoever explores"),
    ],
)
def test_a_worker_of_another_version_is_refused(key, value, said, cut, tmp_path):
    study, store, _ = cut
    optuna.load_study(study_name="demo", storage=open_storage(str(study))).set_user_attr(key, value)
    with pytest.raises(Exception, match=said) as caught:
        workers.work(str(study), "demo", store, tmp_path / "c", 0.0)
    assert caught.value.exit_code == 2


def test_a_metric_of_the_users_own_runs_where_it_is_allowed_only():
    with pytest.raises(InputError, match="--metric mine:score"):
        require_allowed("mine:score", None, "the study")
    require_allowed("mine:score", "mine:score", "the study")
    for metric in (None, "top5"):
        require_allowed(metric, None, "the study")


def test_a_plug_ins_method_must_be_that_of_whoever_explores():
    with METHODS.register("mine", METHODS.get("svd")):
        workers.require_same_method("mine", METHODS.identity("mine"))
        with pytest.raises(InputError, match=r"is mine@mine-plugin 1\.0:abc, but this machine has mine@registered"):
            workers.require_same_method("mine", "mine@mine-plugin 1.0:abc")
    with pytest.raises(InputError, match="unknown fitting method 'mine'"):
        workers.require_same_method("mine", "mine@mine-plugin 1.0:abc")


def test_no_study_is_one_line(tmp_path, capsys):
    options = ["--study", str(tmp_path / "x.journal"), "--study-name", "demo", "--wait", "0"]
    assert run(["worker", *options]) == 2
    assert "--study-name demo: no such study in this storage after 0 minutes" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["sqlite", "journal"])
def test_helpers_change_nothing_but_the_time(
    storage, alone, deep_folder, small_space, shared_cache, tmp_path, monkeypatch
):
    slow = Evaluator.scores
    monkeypatch.setattr(Evaluator, "scores", lambda self, *rest: __import__("time").sleep(0.3) or slow(self, *rest))
    study = None if storage == "sqlite" else str(tmp_path / "study.journal")
    asked = {"budget": BUDGET, "keep": 1, "workers": 3, "helped_after": 0.0, "study": study, "cache": shared_cache}
    asked |= {"library": False, "int8": False}
    settings = settings_for(deep_folder, "riscv64", str(small_space), output=tmp_path / "out", **asked)
    explore(settings, finish=write_reports)
    assert front(tmp_path / "out") == alone
    url = study or str(tmp_path / "out" / "study.db")
    names = optuna.get_all_study_names(open_storage(url))
    done = optuna.load_study(study_name=names[0], storage=open_storage(url)).trials
    assert len({trial.user_attrs["worker"] for trial in done}) >= 2


@pytest.mark.slow
def test_two_explorations_share_a_study(arguments, alone, tmp_path):
    study = tmp_path / "study.db"
    outputs = [tmp_path / name for name in ("one", "two")]
    started = []
    for output in outputs:
        command = [
            sys.executable,
            "-c",
            MAIN,
            *arguments(output, "--study", f"sqlite:///{study}", "--study-name", "demo"),
        ]
        started.append(subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True))
    for process in started:
        _, error = process.communicate(timeout=600)
        assert process.returncode == 0, error
    assert [front(output) for output in outputs] == [alone, alone]
    counts = collections.Counter(tuple(sorted(t.params.items())) for t in trials(study, "COMPLETE"))
    assert set(counts.values()) == {1}
    assert len(counts) == alone["evaluated"]


def test_two_explorations_into_one_folder_do_not_mix(arguments, tmp_path, capsys):
    from lrfdse.base.files import sole_writer

    with sole_writer(tmp_path):
        assert run(arguments(tmp_path)) == 2
    assert "another exploration is writing here" in capsys.readouterr().err


@pytest.mark.slow
def test_time_that_is_over_leaves_the_original_and_a_note(arguments, alone, tmp_path):
    assert run(arguments(tmp_path, "--time", "0")) == 0
    document = front(tmp_path)
    assert document["evaluated"] == 1
    assert any("stopped after --time 0 minutes: 1 of 24 plans" in note for note in document["notes"])
    assert run(arguments(tmp_path, "--time", "60")) == 0
    found = front(tmp_path)
    assert found["settings"].pop("minutes") == 60
    assert found == {**alone, "settings": {k: v for k, v in alone["settings"].items() if k != "minutes"}}


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_other_samplers_fill_the_budget(sampler, arguments, alone, tmp_path):
    assert run(arguments(tmp_path, "--sampler", sampler)) == 0
    origins = {design["origin"] for design in front(tmp_path)["designs"]}
    assert sampler in origins
    assert "nsga2" not in origins
    assert front(tmp_path)["evaluated"] == alone["evaluated"]


@pytest.mark.slow
def test_the_whole_space_is_tried_where_the_budget_allows(small_folder, shared_cache, tmp_path, capsys):
    (tmp_path / "tiny.toml").write_text("max_cores = 2\nmax_compiled = 2\nmin_size = 8\n")
    options = ["--target", "riscv64", "-o", tmp_path / "o", "--space", tmp_path / "tiny.toml", "--cache", shared_cache]
    command = ["explore", small_folder, *options, "--sampler", "exhaustive", "--keep", 0, "--budget"]
    assert run([str(each) for each in (*command, 3)]) == 2
    error = capsys.readouterr().err
    size = int(error.partition("the space has ")[2].partition(" plans")[0].replace(",", ""))
    assert "more than --budget 3" in error
    assert run([str(each) for each in (*command, size)]) == 0
    document = json.loads((tmp_path / "o" / "front.json").read_text())
    assert document["evaluated"] == size
    options = [len(layer["options"]) for layer in document["layers"]]
    assert size == options[0] * options[1]


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--sampler", "nsga9"], 2, "unknown sampler 'nsga9': choose from nsga2"),
        (["--study", "nonsense"], 2, "not a storage (like sqlite:///"),
        (["--study", "postgresql://me:hunter2@127.0.0.1:1/x"], 4, "cannot open the study's storage"),
        (["--study", "grpc://me:hunter2@/x"], 2, "grpc://HOST:PORT"),
    ],
)
def test_what_cannot_be_used_is_said_before_anything_begins(options, code, said, arguments, tmp_path, capsys):
    assert run(arguments(tmp_path / "out", *options)) == code
    error = capsys.readouterr().err
    assert said in error
    assert "hunter2" not in error
    assert "kernels" not in error


def test_the_study_of_another_target_is_refused(arguments, cut, tmp_path, capsys):
    study, _, _ = cut
    command = arguments(tmp_path / "new", "--study", study, "--study-name", "demo", "--target", "aarch64")
    assert run(command) == 2
    assert "of target 'riscv64', but this run has target 'aarch64'" in capsys.readouterr().err
