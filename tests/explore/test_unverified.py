"""A model without data: nothing is recommended, and everything that is printed or written says why."""

from __future__ import annotations

import csv
import json

import numpy as np
import onnxruntime
import pytest

from lrfdse.cli import run
from lrfdse.explore.inputs import settings_for
from lrfdse.explore.run import explore
from lrfdse.results.settings import Limits

pytestmark = pytest.mark.slow
"""Each of these runs an exploration of its own, or waits for one that the module shares."""


@pytest.fixture(scope="module")
def command(small_folder, small_space, shared_cache):
    """The arguments of a short exploration of the model alone."""

    def words(output, *more):
        options = {"--target": "riscv64", "--output": output, "--space": small_space, "--cache": shared_cache}
        given = [str(word) for pair in options.items() for word in pair]
        return ["explore", str(small_folder / "model.onnx"), *given, "--budget", "24", "--keep", "3", *more]

    return words


@pytest.fixture(scope="module")
def refused(command, tmp_path_factory):
    output = tmp_path_factory.mktemp("no data")
    assert run(command(output)) == 3
    return output


@pytest.fixture(scope="module")
def accepted(command, tmp_path_factory):
    output = tmp_path_factory.mktemp("accepted")
    assert run(command(output, "--accept-unverified", "--max-drop", "40%")) == 0
    return output


def document_of(folder):
    return json.loads((folder / "front.json").read_text())


def every(document):
    return {design["id"]: design for design in (*document["designs"], *document["dominated"], document["original"])}


@pytest.mark.slow
def test_the_output_says_that_nothing_was_measured_and_how_to_go_on(refused, command, capsys):
    assert run(command(refused)) == 3
    printed = capsys.readouterr()
    out = " ".join(printed.out.split())
    assert "not measured" in out and "output error" in out
    assert "Recommended" not in out and "fidelity" not in out
    assert f"{document_of(refused)['classes_hit']} of 6 classes" in out
    for identity in sorted(path.name for path in (refused / "designs").iterdir()):
        assert identity in out.partition("To go on:")[2]
    (line,) = (line for line in printed.err.splitlines() if line.startswith("lrfdse:"))
    assert "No design is recommended" in line and "--eval" in line and "--accept-unverified" in line


def test_front_json_recommends_nothing_and_says_that_nothing_is_verified(refused):
    document = document_of(refused)
    assert (document["verified"], document["recommended"], document["svd_at_equal_size"]) == (False, None, None)
    assert document["settings"]["accept_unverified"] is False
    assert not any("lost" in note for note in document["notes"])
    with open(refused / "front.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["fidelity"] for row in rows} == {""}
    assert [float(row["output_error"]) for row in rows] == [d["output_error"] for d in document["designs"]]


def test_the_trade_off_is_kept_and_its_output_errors_are_those_of_onnxruntime(refused, small_folder):
    document = document_of(refused)
    kept = [design for design in document["designs"] if design["model"]]
    assert len(kept) == 3 and all(design["on_front"] for design in kept)
    assert document["original"]["id"] not in {design["id"] for design in kept}
    x = np.random.default_rng(0).standard_normal((64, 48)).astype(np.float32)

    def outputs(path):
        return onnxruntime.InferenceSession(str(path)).run(None, {"x": x})[0].astype(np.float64)

    before = outputs(small_folder / "model.onnx")
    assert document["classes_hit"] == len(set(before.argmax(axis=1)))
    for design in kept:
        wanted = np.linalg.norm(outputs(refused / design["model"]) - before) / np.linalg.norm(before)
        assert design["output_error"] == pytest.approx(wanted, rel=1e-3, abs=1e-6)
    assert max(design["output_error"] for design in kept) > 0.05


def test_the_front_is_of_costs_and_output_errors(refused):
    designs = every(document_of(refused))
    keys = {i: (d["params"], d["latency"][d["cache_regime"]]["us"], d["output_error"]) for i, d in designs.items()}

    def is_beaten(key):
        return any(other != key and all(a <= b for a, b in zip(other, key, strict=True)) for other in keys.values())

    assert {keys[i] for i, d in designs.items() if d["on_front"]} == {k for k in keys.values() if not is_beaten(k)}


def test_any_design_can_be_exported(refused):
    document = document_of(refused)
    other = next(design["id"] for design in document["designs"] if not design["model"])
    assert run(["export", str(refused), other]) == 0
    assert (refused / "designs" / other / "model.onnx").is_file()


@pytest.mark.slow
def test_accepting_it_recommends_and_says_that_nothing_verifies_it(accepted, command, capsys):
    assert run(command(accepted, "--accept-unverified", "--max-drop", "40%")) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Recommended" in out and "Nobody verified it" in out and "not measured" in out
    document = document_of(accepted)
    assert document["verified"] is False and document["settings"]["accept_unverified"] is True
    chosen = every(document)[document["recommended"]]
    assert chosen["on_front"] and chosen["params"] < document["original"]["params"]
    page = (accepted / "report.html").read_text()
    assert "Nobody verified it" in page and "the loss was not measured" in page


def test_check_skips_the_loss_of_what_nobody_measured_and_strict_fails(accepted, refused, capsys):
    for folder, name in ((accepted, "loss"), (refused, "design")):
        assert run(["check", str(folder), "--max-drop", "1%", "--lava"]) == 0
        assert f"riscv64.{name} RESULT=skip" in capsys.readouterr().out
        assert run(["check", str(folder), "--max-drop", "1%", "--strict"]) == 1
    assert run(["check", str(accepted), "--max-params", "1M", "--strict"]) == 0


def test_the_library_does_the_same(small_folder, small_space, shared_cache, tmp_path):
    more = {"budget": 12, "keep": 0, "workers": 1, "limits": Limits(0.4), "cache": shared_cache}
    found = explore(settings_for(small_folder / "model.onnx", "riscv64", str(small_space), output=tmp_path, **more))
    assert (found.verified, found.recommended, found.kept) == (False, None, ())
    more["accept_unverified"] = True
    found = explore(settings_for(small_folder / "model.onnx", "riscv64", str(small_space), output=tmp_path, **more))
    assert not found.verified and found.recommended is not None


def test_real_inputs_without_labels_are_worth_a_recommendation(command, small_folder, tmp_path, capsys):
    with np.load(small_folder / "eval.npz") as data:
        np.savez(tmp_path / "inputs.npz", x=data["x"])
    output = tmp_path / "out"
    assert run(command(output, "--eval", str(tmp_path / "inputs.npz"), "--max-drop", "40%")) == 0
    document, out = document_of(output), " ".join(capsys.readouterr().out.split())
    assert document["verified"] is True
    low, high = every(document)[document["recommended"]]["eval_score"]["interval"]
    assert f"the 200 samples fall into {document['classes_hit']} of 6 classes" in out
    assert f"with a 95 % interval of {low:.2%} to {high:.2%}" in out
    assert run(["check", str(output), "--strict"]) == 0
