"""A dry run: what an exploration would do, checked as it would be, and no file of it anywhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lrfdse.cli import run
from lrfdse.explore.forecast import LAYER_MINUTES, MEASURED_LAYERS, PLAN_MINUTES

EXAMPLE = str(Path(__file__).parents[2] / "examples" / "lenet300-fashion")


@pytest.fixture
def dry(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LRFDSE_CACHE", str(tmp_path / "cache"))

    def tell(*words):
        code = run(["explore", *words, "--dry-run"])
        assert list(tmp_path.iterdir()) == []
        told = capsys.readouterr()
        return code, told.out or told.err

    return tell


@pytest.mark.slow
def test_the_example_is_told_with_its_time(dry):
    code, told = dry(EXAMPLE, "--target", "riscv64", "--budget", "20", "--json")
    facts = json.loads(told)
    assert code == 0 and facts["plans"] == 20 and facts["meter"] == "model" and facts["unknown"] == []
    assert facts["samples"] == {"calib": 2048, "eval": 2000, "test": 2000}
    assert facts["cpu_minutes"] == pytest.approx(MEASURED_LAYERS * LAYER_MINUTES + 20 * PLAN_MINUTES)
    assert [layer["name"] for layer in facts["inspection"]["layers"]] == ["fc1", "fc2", "fc3"]
    assert len(facts["stages"]) == 11 and "running on the board" not in facts["stages"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--target", "host"], "the meter is host"),
        (["--target", "riscv64", "--space", "svd"], "the search space is svd"),
        (["--target", "riscv64", "--effort", "quick"], "the effort is quick"),
        (["--target", "riscv64", "--sampler", "tpe"], "sampler, proxy, metric and outputs"),
    ],
)
def test_no_number_is_stated_where_nothing_was_measured(dry, words, reason):
    code, told = dry(EXAMPLE, *words)
    line = " ".join(told.split()).partition("Time: ")[2]
    assert code == 0 and line.startswith("unknown, and no estimate is made") and reason in line
    assert f"At most {20 if 'quick' in words else 60} plans" in told


@pytest.mark.slow
def test_a_model_without_data_has_no_estimate(dry, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    (folder / "model.onnx").write_bytes((Path(EXAMPLE) / "model.onnx").read_bytes())
    code, told = dry(str(folder), "--target", "riscv64", "--json")
    facts = json.loads(told)
    assert code == 0 and facts["cpu_minutes"] is None and facts["samples"] == {}
    assert facts["unknown"] == ["calibration and evaluation data were there when it was measured"]


def test_wrong_input_is_refused_as_a_run_would_refuse_it(dry):
    assert dry(EXAMPLE, "--target", "riscv64", "--proxy", "luck")[0] == 2
    assert dry(EXAMPLE, "--target", "riscv64", "--meter", "luck")[0] == 2
    assert dry("nowhere.onnx", "--target", "riscv64")[0] == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sampler", "luck"], "unknown sampler 'luck'"),
        (["--study", "foo://host/x"], "--study foo://host/x: not a storage"),
        (["--study", "postgres:me:secret@host/x"], "not a storage"),
        (["--heal"], "--heal needs training data"),
        (["--heal-data", "train.npz"], "--heal-data is for --heal"),
    ],
)
def test_what_would_be_refused_after_the_model_was_read_is_refused_too(dry, words, said):
    code, told = dry(EXAMPLE, "--target", "riscv64", *words)
    assert code == 2 and said in told and "secret" not in told and told.count("\n") == 1
