"""Sensitivity measured on the network, relaxation and level switches within an exploration."""

from __future__ import annotations

import json

import pytest

from lrfdse.cli import run


def explore(folder, space, cache, output, *more):
    options = ["--target", "host", "--space", str(space), "--cache", str(cache), "--output", str(output)]
    assert (
        run(
            [
                "explore",
                str(folder),
                *options,
                "--budget",
                "24",
                "--keep",
                "0",
                "--workers",
                "1",
                "--no-library",
                "--no-int8",
                *more,
            ]
        )
        == 0
    )
    return json.loads((output / "front.json").read_text())


@pytest.mark.slow
def test_where_every_plan_loses_too_much_one_is_relaxed(deep_folder, small_space, shared_cache, tmp_path):
    document = explore(deep_folder, small_space, shared_cache, tmp_path / "out", "--max-drop", "0.1%")
    (note,) = (note for note in document["notes"] if "was relaxed" in note)
    assert note.startswith("every compressed design lost over 0.1 points, so ")
    assert "-> dense: loss" in note
    base = document["original"]["eval_score"]["value"]
    recommended = next(d for d in [*document["designs"], document["original"]] if d["id"] == document["recommended"])
    assert base - recommended["eval_score"]["value"] <= 0.001 + 1e-9


@pytest.mark.slow
def test_a_limit_that_plans_meet_needs_no_relaxation(deep_folder, small_space, shared_cache, tmp_path):
    document = explore(deep_folder, small_space, shared_cache, tmp_path / "out", "--max-drop", "90%")
    assert not [note for note in document["notes"] if "was relaxed" in note]


@pytest.mark.slow
def test_measured_sensitivity_and_level_switches(deep_folder, small_space, tmp_path, shared_cache):
    known = set((shared_cache / "sensitivity").rglob("*.json"))
    first = explore(
        deep_folder, small_space, shared_cache, tmp_path / "one", "--proxy", "score", "--sampler", "evolution"
    )
    assert any(design["origin"] == "evolution" for design in first["designs"])
    kept = set((shared_cache / "sensitivity").rglob("*.json")) - known
    # The original and at most four options of each of three layers.
    assert 4 <= len(kept) <= 13
    again = explore(deep_folder, small_space, shared_cache, tmp_path / "two", "--proxy", "fidelity", "--max-drop", "5%")
    assert set((shared_cache / "sensitivity").rglob("*.json")) == kept | known
    assert again["original"]["id"] == first["original"]["id"]


def test_no_such_proxy(deep_folder, small_space, tmp_path, capsys):
    options = ["--target", "host", "--space", str(small_space), "--output", str(tmp_path / "out")]
    assert run(["explore", str(deep_folder), *options, "--proxy", "rank"]) == 2
    assert "--proxy takes loss, output, weight, fidelity, score, but got 'rank'" in capsys.readouterr().err
