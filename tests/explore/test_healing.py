"""A design of a finished exploration is trained, and stays the same design with other numbers."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

import lrfdse
from lrfdse.base.events import silent
from lrfdse.cli import run
from lrfdse.cli.heal_command import lines_of
from lrfdse.explore.healing import Healing
from lrfdse.explore.inputs import DataRequest, Files, open_inputs, settings_for
from lrfdse.explore.training_data import HealRequest, training_data
from lrfdse.healing.train import Trained
from lrfdse.results.document import Document
from lrfdse.results.settings import Data
from lrfdse.results.write import score_of

TOP = str(Path(lrfdse.__file__).parents[1])
ASKED = ["--max-drop", "60%", "--budget", "12", "--keep", "1", "--workers", "1", "--no-correct"]
TEACH = ["--heal-teacher", "labels"]


@pytest.fixture(scope="module")
def explored(chain_folder, tmp_path_factory, shared_cache):
    """The output folder of an exploration without corrections, so that there is something to heal, and more data."""
    folder = tmp_path_factory.mktemp("healing")
    source = shutil.copytree(chain_folder, folder / "model")
    space = folder / "space.toml"
    space.write_text("max_cores = 2\nmax_compiled = 4\nmin_size = 8\n")
    asked = [str(source), "--target", "riscv64", "--space", str(space), "--output", str(folder / "out"), *ASKED]
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(shared_cache)
    try:
        assert run(["explore", *asked]) == 0
        rng = np.random.default_rng(11)
        # Sums of two samples have the distribution of one, which is normal.
        with np.load(source / "calib.npz") as known:
            one, other = rng.integers(0, len(known["x"]), (2, 1500))
            x = ((known["x"][one] + known["x"][other]) / np.sqrt(2)).astype(np.float32)
        scores = onnxruntime.InferenceSession(source / "model.onnx").run(None, {"x": x})[0]
        np.savez(folder / "plain.npz", x=x)
        np.savez(folder / "labelled.npz", x=x, labels=scores.argmax(axis=1))
        yield folder
    finally:
        if before is None:
            del os.environ["XDG_CACHE_HOME"]
        else:
            os.environ["XDG_CACHE_HOME"] = before


@pytest.fixture
def out(explored, tmp_path):
    """A copy of the output folder, beside the same model and data."""
    for name in ("model", "space.toml", "plain.npz", "labelled.npz"):
        os.symlink(explored / name, tmp_path / name)
    return shutil.copytree(explored / "out", tmp_path / "out")


def contents(folder):
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def recommended(folder):
    return lrfdse.load(folder).recommended


def tensors(path):
    return {each.name: numpy_helper.to_array(each) for each in onnx.load(path).graph.initializer}


@pytest.mark.slow
def test_the_healed_design_is_the_same_design_with_better_numbers(out, capsys):
    before, was = recommended(out), contents(out)
    place = out / "designs" / before.id
    old = onnx.load(place / "model.onnx")
    numbers = tensors(place / "model.onnx")
    data = str(out.parent / "plain.npz")
    assert run(["heal", str(out), before.id[:5], "--data", data, "--epochs", "60", "--minutes", "5"]) == 0
    printed = capsys.readouterr().out
    after = lrfdse.load(out).design(before.id)
    assert after.eval_value > before.eval_value
    assert f"{100 * before.eval_value:.2f} % -> {100 * after.eval_value:.2f} %" in printed
    assert after.healed is not None
    assert (after.healed.eval_before, after.healed.test_before) == (before.eval_score, before.test_score)
    assert (after.healed.teacher, after.healed.samples + after.healed.held_out) == ("outputs", 1500)
    # Shapes, costs and kernels are as before.
    for name in ("plan", "params", "weight_bytes", "flops", "latency", "whole_model", "id"):
        assert getattr(after, name) == getattr(before, name)
    new = onnx.load(place / "model.onnx")
    assert [node.SerializeToString() for node in new.graph.node] == [n.SerializeToString() for n in old.graph.node]
    changed = {name for name, array in tensors(place / "model.onnx").items() if (array != numbers[name]).any()}
    compressed = tuple(f"lrfdse.{name}." for name in after.changed())
    assert changed and all(name.startswith(compressed) for name in changed)
    now = contents(out)
    for name in now:
        if "/library/" not in name and name.endswith((".o", ".h", "kernels.txt", "plan.json")):
            assert now[name] == was[name], name
    assert {name for name in now if "/.lrfdse" in name} == {name for name in was if "/.lrfdse" in name}
    # The score is that of the file, by an onnxruntime of the test's own.
    with np.load(out.parent / "model" / "test.npz") as test:
        found = onnxruntime.InferenceSession(place / "model.onnx").run(None, {"x": test["x"]})[0]
        assert after.test_score.value == pytest.approx((found.argmax(axis=1) == test["labels"]).mean(), abs=1e-9)
    # The C library holds the new numbers, too: its test vectors are what the new file gives.
    vectors = (place / "library" / "test_vectors.h").read_text()
    assert (
        vectors
        and now[f"designs/{before.id}/library/test_vectors.h"] != was[f"designs/{before.id}/library/test_vectors.h"]
    )
    # What reads the folder works as before; an export writes the same files.
    assert run(["check", str(out), "--design", before.id, "--max-drop", "60%"]) == 0
    assert run(["show", str(out)]) == 0
    told = capsys.readouterr().out.partition("Healed: ")[2]
    (row,) = [line.split() for line in told.partition("Int8: ")[0].splitlines() if line.startswith(before.id)]
    scores = (before.eval_value, after.eval_value, before.test_score.value, after.test_score.value)
    assert row[-4:] == [f"{100 * score:.2f}" for score in scores]
    page = (out / "report.html").read_text().partition("<h3>Healed</h3>")[2].partition("</table>")[0]
    assert all(f'<td class="n">{cell}</td>' in page for cell in row[-4:])
    assert run(["export", str(out), before.id]) == 0
    same = [name for name in now if name.startswith(f"designs/{before.id}/") and "library" not in name]
    again = contents(out)
    assert {name: again[name] for name in same} == {name: now[name] for name in same}
    # Once more from there, and what it was at first is still told.
    further = lrfdse.heal(out, data, epochs=1, minutes=1)
    assert further.design(before.id).eval_value >= after.eval_value
    assert further.design(before.id).healed.eval_before == before.eval_score


@pytest.mark.slow
def test_an_exploration_heals_what_it_writes_at_the_end(out, capsys):
    """The same command again, with ``--heal``: plans and kernels are known already, the designs written are trained."""
    was = lrfdse.load(out)
    fitted = (out / "designs" / was.recommended.id / "library" / "test_vectors.h").read_bytes()
    data = str(out.parent / "plain.npz")
    asked = [str(out.parent / "model"), "--target", "riscv64", "--space", str(out.parent / "space.toml"), *ASKED]
    more = ["--output", str(out), "--heal", "--heal-data", data, "--heal-minutes", "2"]
    assert run(["explore", *asked, *more]) == 0
    printed = capsys.readouterr().out
    now = lrfdse.load(out)
    compressed = [each for each in now.designs if each.model is not None and each.changed()]
    healed = [each for each in compressed if each.healed is not None]
    assert now.recommended.id == was.recommended.id and now.recommended.healed is not None
    for design in healed:
        before = was.design(design.id)
        assert (design.healed.eval_before, design.plan) == (before.eval_score, before.plan)
        assert design.eval_value >= before.eval_value and design.healed.loss < design.healed.loss_before
        assert f"{100 * before.eval_value:.2f}" in printed.partition("Healed: ")[2]
        content = (out / "designs" / design.id / "healed.npz").read_bytes()
        assert hashlib.sha256(content).hexdigest() == design.healed.factors_sha256
    for design in compressed:
        assert design in healed or any(f"design {design.id} " in note for note in now.document.notes)
    assert "--heal --heal-data " in now.document.command and "plain.npz --heal-minutes 2" in now.document.command
    assert "<h3>Healed</h3>" in (out / "report.html").read_text()
    # The C library holds the trained numbers: its test vectors are what the new file gives.
    vectors = (out / "designs" / now.recommended.id / "library" / "test_vectors.h").read_bytes()
    assert vectors != fitted


def test_calibration_data_train_and_are_told_apart_from_those_that_judge(chain_folder, tmp_path):
    parts = {name: chain_folder / f"{name}.npz" for name in ("calib", "eval")}
    inputs = open_inputs(Files(chain_folder / "model.onnx", Data(**parts), Path()), DataRequest())
    known = [np.load(path)["x"][:30] for path in parts.values()]
    new = np.random.default_rng(1).standard_normal(known[0].shape).astype(np.float32)
    np.savez(tmp_path / "train.npz", x=np.concatenate([*known, new]))
    found = training_data(HealRequest(tmp_path / "train.npz"), inputs, silent)
    # Evaluation data are left out.
    np.testing.assert_array_equal(found.data.inputs["x"], np.concatenate([known[0], new]))
    assert found.fitted.tolist() == [True] * 30 + [False] * 30


def test_training_data_beside_the_model_are_found(tmp_path):
    for name in ("model.onnx", "train.npz"):
        (tmp_path / name).write_bytes(b"")
    assert settings_for(tmp_path, "riscv64", heal=True).heal_data == tmp_path / "train.npz"
    named = settings_for(tmp_path, "riscv64", heal=True, heal_data=tmp_path / "other.npz")
    assert named.heal_data == tmp_path / "other.npz"
    assert settings_for(tmp_path, "riscv64").heal_data is None


@pytest.mark.slow
def test_what_an_exploration_cannot_heal_with_is_said_before_it_begins(explored, tmp_path, capsys):
    model, plain = explored / "model", str(explored / "plain.npz")
    with np.load(plain) as data:
        np.savez(tmp_path / "wide.npz", x=data["x"][:, :40])

    def said(*arguments, source=model):
        asked = [str(source), "--target", "riscv64", "--output", str(tmp_path / "out"), *arguments]
        assert run(["explore", *asked]) == 2
        (line,) = [each for each in capsys.readouterr().err.splitlines() if each.startswith("lrfdse: ")]
        return line

    assert "--heal needs training data" in said("--heal")
    assert "--heal-data is for --heal" in said("--heal-data", plain)
    assert "--heal-teacher labels needs an array `labels`" in said("--heal", "--heal-data", plain, *TEACH)
    assert "wide.npz" in said("--heal", "--heal-data", str(tmp_path / "wide.npz"))
    assert "--heal-minutes must be above 0" in said("--heal", "--heal-data", plain, "--heal-minutes", "0")
    assert "give --eval" in said("--heal", "--heal-data", plain, source=model / "model.onnx")
    assert not (tmp_path / "out" / "designs").exists()


@pytest.mark.slow
def test_labels_are_used_where_they_are_and_equal_seeds_give_equal_files(out, tmp_path, capsys):
    other = shutil.copytree(out, tmp_path / "other")
    identity, data = recommended(out).id, str(out.parent / "labelled.npz")
    for folder in (out, other):
        assert run(["heal", str(folder), identity, "--data", data, "--epochs", "10", "--seed", "3", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["healed"]["teacher"] == "both"
    one, two = contents(out / "designs" / identity), contents(other / "designs" / identity)
    assert one == two


@pytest.mark.slow
def test_what_cannot_be_healed_is_said_in_one_line_and_nothing_changes(out, tmp_path, capsys, monkeypatch):
    identity, was = recommended(out).id, contents(out)
    with np.load(out.parent / "plain.npz") as data:
        x = data["x"]
    with np.load(out.parent / "model" / "eval.npz") as data:
        seen = data["x"]
    broken = x.copy()
    broken[7, 7] = np.nan
    files = {
        "wide": {"x": x[:, :40]},
        "nan": {"x": broken},
        "few": {"x": x[:5]},
        "seen": {"x": seen},
        "classes": {"x": x, "labels": np.full(len(x), 77)},
        "short": {"x": x, "labels": np.zeros(9, int)},
    }
    for name, arrays in files.items():
        np.savez(tmp_path / f"{name}.npz", **arrays)
    plain = str(out.parent / "plain.npz")

    def said(code, *arguments):
        assert run(["heal", str(out), *arguments]) == code
        (line,) = [each for each in capsys.readouterr().err.splitlines() if each.startswith("lrfdse: ")]
        return line

    assert "no design 'zzz'" in said(2, "zzz", "--data", plain)
    assert "it has no factors to heal" in said(2, lrfdse.load(out).original.id, "--data", plain)
    assert "--minutes must be above 0" in said(2, identity, "--data", plain, "--minutes", "0")
    assert "--teacher takes outputs, labels, both" in said(2, identity, "--data", plain, "--teacher", "me")
    assert "--teacher labels needs an array `labels`" in said(2, identity, "--data", plain, "--teacher", "labels")
    assert "no such file" in said(2, identity, "--data", "nowhere.npz")
    assert "holds NaN" in said(2, identity, "--data", str(tmp_path / "nan.npz"))
    assert "5 samples to train on" in said(2, identity, "--data", str(tmp_path / "few.npz"))
    assert "0 samples to train on" in said(2, identity, "--data", str(tmp_path / "seen.npz"))
    assert "classes" in said(2, identity, "--data", str(tmp_path / "classes.npz"))
    for name in ("wide", "short"):
        assert f"{name}.npz" in said(2, identity, "--data", str(tmp_path / f"{name}.npz"))
    front = json.loads((out / "front.json").read_text())
    (out / "front.json").write_text(json.dumps(front | {"verified": False}))
    assert "nothing could judge" in said(2, identity, "--data", plain)
    (out / "front.json").write_text(json.dumps(front, indent=1) + "\n")
    assert contents(out) == was


@pytest.mark.slow
def test_an_interrupt_leaves_the_design_as_it_was(out):
    identity, was = recommended(out).id, contents(out)
    command = [sys.executable, "-c", "import sys; from lrfdse.cli import main; sys.exit(main())", "heal", str(out)]
    asked = ["--data", str(out.parent / "plain.npz"), "--epochs", "1000000", "--minutes", "30"]
    environment = os.environ | {"PYTHONPATH": TOP}
    with subprocess.Popen([*command, identity, *asked], stderr=subprocess.PIPE, text=True, env=environment) as ran:
        assert any("held-out loss" in line for line in ran.stderr)
        ran.send_signal(signal.SIGINT)
        rest = ran.stderr.read()
    assert ran.returncode in (130, -signal.SIGINT), rest
    assert contents(out) == was


def test_what_is_printed_says_whether_minutes_ended_training():
    original = SimpleNamespace(eval_value=0.9, reported_score=0.9)
    document = cast(Document, SimpleNamespace(metric="accuracy", original=original))
    before, after = score_of(0.80, (0.79, 0.81), 0.005), score_of(0.85, (0.84, 0.86), 0.005)
    for steps, told in (
        (200, "healed in 200 steps on"),
        (90, "healed in 90 of 200 steps, for which there were minutes,"),
    ):
        trained = Trained({}, 1.0, 0.5, steps, 200, 1000, 100)
        assert told in lines_of(Healing(document, "1234abcd", trained, before, after, True), Path("out"))[0]


@pytest.mark.slow
def test_without_tensorflow_one_line_says_what_to_install(out):
    hide = "import sys; sys.modules['tensorflow'] = None; from lrfdse.cli import main; sys.exit(main())"
    asked = ["heal", str(out), recommended(out).id, "--data", str(out.parent / "plain.npz")]
    ran = subprocess.run(
        [sys.executable, "-c", hide, *asked], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": TOP}
    )
    assert (ran.returncode, ran.stdout) != (0, "")
    assert ran.stderr.splitlines()[-1].endswith("run `pip install 'lrfdse[heal]'`")
