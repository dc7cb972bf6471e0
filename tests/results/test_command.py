"""The command in a report, read back by the shell's rules and by the command line itself."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

import pytest
import typer

from lrfdse.cli.app import app
from lrfdse.explore.inputs import settings_for
from lrfdse.results.command import command_of
from lrfdse.results.settings import Data, Limits

NEUTRAL = {
    *("--study", "--study-name", "--artifacts", "--workers", "--cache", "--json", "--log-format", "--help"),
    *("--runner", "--config", "--dry-run"),
}
"""Options of `explore` with no effect on what is explored."""


@pytest.fixture
def settings(tmp_path):
    made = settings_for(
        tmp_path / "my models" / "-net's $HOME.onnx",
        "riscv64",
        data=Data(tmp_path / "calib.npz", tmp_path / "eval.npz", tmp_path / "test.npz"),
        output=tmp_path / "out put",
        shape={"x": (1, 3, 48, 320)},
        value={"sr": "16000", "gain": "-1e-3"},
        seed=7,
        study="postgresql://me:secret@host/db",
    )
    chosen = {
        "limits": Limits(0.005, 60_000, 200.0, 0.02, 131_072, max_model_latency_us=3e3),
        "metric": "cosine",
        "eval_samples": 100,
        "minutes": 2.5,
    }
    chosen |= {"heal": True, "heal_data": tmp_path / "train.npz", "heal_minutes": 4.0, "heal_teacher": "labels"}
    chosen |= {
        "accept_unverified": True,
        "judge": ("digit", "digit", "parity"),
        "format": ("onnx", "tflite"),
        "runtime": "litert",
    }
    return dataclasses.replace(made, **chosen)


def command_line():
    return typer.main.get_command(app).commands["explore"]


def test_it_survives_the_shell_and_the_command_line(settings, tmp_path):
    words = shlex.split(command_of(settings))
    assert words[:2] == ["lrfdse", "explore"]
    read = command_line().make_context("explore", words[2:]).params
    folder = settings.output
    assert (folder / read["model"]).resolve() == settings.model.resolve()
    assert (folder / read["calib"]).resolve() == tmp_path / "calib.npz"
    assert Path(read["output"]) == Path(".")
    assert read["shape"] == ["x=1x3x48x320"] and read["value"] == ["sr=16000", "gain=-1e-3"]
    assert (read["seed"], read["budget"], read["keep"]) == (7, settings.budget, settings.keep)
    assert (read["max_drop"], read["max_params"], read["max_latency"]) == ("0.5%", "60000", "200us")
    assert (read["metric"], read["eval_samples"], read["minutes"]) == ("cosine", 100, 2.5)
    assert (read["judge"], read["max_other_drop"]) == (["digit", "digit", "parity"], "2%")
    assert (folder / read["heal_data"]).resolve() == tmp_path / "train.npz"
    assert (read["heal"], read["heal_minutes"], read["heal_teacher"]) == (True, 4.0, "labels")
    assert read["accept_unverified"] is True and (read["format_"], read["runtime"]) == ("onnx,tflite", "litert")
    assert (read["max_size"], read["max_model_latency"], read["int8"]) == ("131072", "3000us", True)
    assert str(tmp_path) not in command_of(settings)


def test_it_holds_no_password(settings):
    assert "secret" not in command_of(settings)


def test_it_has_every_option_that_matters(settings):
    options = {name for p in command_line().params for name in p.opts if name.startswith("--")}
    assert options - NEUTRAL == {word for word in shlex.split(command_of(settings)) if word.startswith("--")}
