"""Designs of a file of schema version 1, made again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from lrfdse.cli import run
from lrfdse.model.data import load_data
from lrfdse.model.graph import load_model
from lrfdse.targets.catalog import load_search_space, load_target, noun_digest

FILE = Path(__file__).parents[1] / "results" / "fixtures" / "1-board.json"


@pytest.fixture(scope="module")
def folder(chain_folder):
    """The output folder as it was: digests are those of today, which other libraries and targets may have changed."""
    document, space = json.loads(FILE.read_text()), chain_folder.parent / "space.toml"
    space.write_text("max_cores = 2\nmax_compiled = 5\nmin_size = 8\n")
    model = load_model(chain_folder / "model.onnx", {})
    document["model"]["sha256"] = model.sha256
    document["data_sha256"]["calib"] = load_data(chain_folder / "calib.npz", model.inputs).digest
    document["settings"]["target_digest"] = noun_digest(load_target("riscv64"))
    document["settings"]["space_digest"] = noun_digest(load_search_space(str(space)))
    output = chain_folder.parent / "out"
    output.mkdir()
    (output / "front.json").write_text(json.dumps(document))
    return output


@pytest.mark.slow
@pytest.mark.parametrize("part", ["designs", "dominated"])
def test_a_design_of_an_old_file_is_made_again(part, folder, chain_folder, shared_cache, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(shared_cache))
    entry = next(entry for entry in json.loads(FILE.read_text())[part] if not entry["refined"])
    assert run(["export", str(folder), entry["id"]]) == 0
    session = onnxruntime.InferenceSession(capsys.readouterr().out.strip())
    with np.load(chain_folder / "test.npz") as data:
        found = session.run(None, {"x": data["x"]})[0].argmax(axis=1) == data["labels"]
    assert float(found.mean()) == pytest.approx(entry["accuracy"], abs=0.02)


def test_a_metric_that_the_file_names_is_not_imported(folder, tmp_path, monkeypatch, capsys):
    """It would be looked for in the current directory first."""
    document = json.loads((folder / "front.json").read_text())
    document["settings"]["metric"] = "theirs:score"
    other = folder.with_name("theirs")
    other.mkdir()
    (other / "front.json").write_text(json.dumps(document))
    (tmp_path / "theirs.py").write_text("open('RAN', 'w')\n")
    monkeypatch.chdir(tmp_path)
    for command in (["export", other, document["designs"][0]["id"]], ["heal", other, "--data", folder / "none.npz"]):
        assert run([str(word) for word in command]) == 2
        assert "is scored by theirs:score, which is no part of lrfdse" in capsys.readouterr().err
    assert not (tmp_path / "RAN").exists()
