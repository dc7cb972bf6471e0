"""The file that repeats an exploration, read back by the command line: it says what the command says."""

from __future__ import annotations

import dataclasses
import shlex
import tomllib

import pytest
import typer

from lrfdse.cli.app import app
from lrfdse.explore.inputs import settings_for
from lrfdse.results.command import command_of
from lrfdse.results.config import CONFIG, config_of
from lrfdse.results.settings import Data, Limits


def parameters(*words):
    return typer.main.get_command(app).commands["explore"].make_context("explore", list(words)).params


@pytest.mark.parametrize("changed", [False, True])
def test_the_file_and_the_command_ask_for_the_same(changed, tmp_path, monkeypatch):
    settings = settings_for(
        tmp_path / 'my "models"' / "-net's \\ $HOME.onnx",
        "riscv64",
        data=Data(tmp_path / "calib.npz", tmp_path / "eval\x7f.npz", None),
        output=tmp_path / "out",
        shape={"x": (1, 3), "y": (1, 5)},
        value={"on": "true", "rate": "16000"},
        study="postgresql://me:secret@host/db",
    )
    if changed:
        limits = Limits(0.005, 60_000, 200.0)
        settings = dataclasses.replace(
            settings,
            limits=limits,
            minutes=2.5,
            correct=False,
            accept_unverified=True,
            seed=3,
            metric="top5",
            judge=("a", "b"),
            heal=True,
            heal_data=tmp_path / "train.npz",
        )
    settings.output.mkdir()
    file = settings.output / CONFIG
    file.write_text(config_of(settings), encoding="utf-8")
    assert "secret" not in file.read_text()
    monkeypatch.chdir(settings.output)
    asked, read = parameters(*shlex.split(command_of(settings))[2:]), parameters("--config", CONFIG)
    assert read.pop("config") is not None and asked.pop("config") is None
    paths = ("model", "calib", "eval_", "output", *(("heal_data",) if changed else ()))
    for name in paths:
        assert read.pop(name).resolve() == asked.pop(name).resolve()
    assert read == asked


def test_the_file_means_the_same_from_everywhere(tmp_path, monkeypatch):
    settings = settings_for(tmp_path / "net.onnx", "riscv64", output=tmp_path / "out")
    settings.output.mkdir()
    (settings.output / CONFIG).write_text(config_of(settings))
    monkeypatch.chdir("/")
    read = parameters("--config", str(settings.output / CONFIG))
    assert (read["model"], read["output"]) == (tmp_path / "net.onnx", tmp_path / "out")
    assert tomllib.loads((settings.output / CONFIG).read_text())["budget"] == settings.budget
