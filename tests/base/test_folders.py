"""One cache folder, whoever asks, in this process and in those that it starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lrfdse.base.folders import CACHE_VARIABLE, cache_folder, cache_folder_at, data_folder
from lrfdse.explore.inputs import settings_for

ASK = "from lrfdse.base.folders import cache_folder; print(cache_folder())"


@pytest.fixture(autouse=True)
def without_a_cache(monkeypatch, tmp_path):
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def in_a_child() -> Path:
    return Path(subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True).stdout.strip())


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "{home}/.cache/lrfdse"),
        ({"XDG_CACHE_HOME": ""}, "{home}/.cache/lrfdse"),
        ({"XDG_CACHE_HOME": "/somewhere"}, "/somewhere/lrfdse"),
        ({"XDG_CACHE_HOME": "relative"}, "{home}/.cache/lrfdse"),
        ({"XDG_CACHE_HOME": "/somewhere", CACHE_VARIABLE: "/elsewhere"}, "/elsewhere"),
        ({CACHE_VARIABLE: "here"}, "{here}/here"),
    ],
)
def test_where_it_is(variables, expected, monkeypatch, tmp_path):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    wanted = Path(expected.format(home=tmp_path, here=Path.cwd()))
    assert cache_folder() == wanted
    assert settings_for(tmp_path / "model.onnx", "riscv64").cache == wanted


def test_it_moves_for_a_while_and_for_children_too(tmp_path, monkeypatch):
    before = cache_folder()
    with cache_folder_at(tmp_path / "one"):
        assert cache_folder() == in_a_child() == tmp_path / "one"
        with cache_folder_at(None):
            assert cache_folder() == tmp_path / "one"
        with pytest.raises(RuntimeError), cache_folder_at(tmp_path / "two"):
            raise RuntimeError
        assert cache_folder() == tmp_path / "one"
    assert cache_folder() == before
    monkeypatch.chdir(tmp_path)
    with cache_folder_at(Path("three")):
        monkeypatch.chdir("/")
        assert cache_folder() == tmp_path / "three"


def test_data_that_ship_are_found():
    assert (data_folder("qemu") / "harness.c").is_file()
    assert (data_folder("targets") / "riscv64.toml").is_file()
