"""Real models explored: rows, what ends an exploration, data that no role shares, and the page of finished rows."""

from __future__ import annotations

import dataclasses
import shutil
import sys

import numpy as np
import onnx
import pytest

from benchmarks.coverage import inputs
from benchmarks.coverage.models import MODELS, Explored, chosen, packages
from benchmarks.coverage.page import lines_of
from benchmarks.coverage.rows import Rows, watched, write_data
from benchmarks.coverage.synthetic import brainwaves, pictures, stream, switches
from benchmarks.records import Records
from benchmarks.whole_model.models import Packaged

SHARES = {
    "layers": 3,
    "weight_bytes": {"part": 750.0, "whole": 1000.0},
    "macs": {"part": 200.0, "whole": 1000.0},
    "warm_us": {"part": 30.0, "whole": 100.0},
}


def _row(**more):
    row = {"version": "1.0", "code": "today", "outcome": "explored", "seconds": 12.4, "mib": 512.0, "minutes": 6.0}
    row |= {"shares": SHARES, "original_us": 2500.0, "original_bytes": 4096, "kind": "modelled", "classes_hit": 2}
    return row | more


def _design(us, size, kept, plan="svd:r=8", original=False):
    found = {"id": plan, "original": original, "plan": {"a": plan, "b": plan}, "params": 1234, "us": us}
    return found | {"bytes": size, "kept": kept}


@pytest.fixture
def page():
    """Return the text of a page of rows, for the first models."""

    def made(*rows):
        return "\n".join(lines_of({"date": "today"}, list(zip(MODELS, rows, strict=False)), ["p==1"], "today"))

    return made


def test_the_page_says_what_was_gained_and_kept(page):
    best = _design(1250.0, 2048, [["y", "agreement", 0.9922], ["state", "R2", 0.99123]])
    svd = _design(1500.0, 2048, [["y", "agreement", 0.9141]], "svd:r=5")
    text = page(_row(best=best, svd=svd))
    assert "- 1 of 1 models were explored end to end." in text and "12 to 12 processor seconds" in text
    shares = "| alexa | 3 | 1 | 75 % | 20 % | 30 % | | |"
    gained = (
        "| alexa | 12 | 512 | `2 x svd:r=8` | 4 → 2 | 2.00x | 2.5 → 1.25 | 2.00x | `y` 99.2%<br>`state` 0.9912 R2 |"
    )
    beside = "| alexa | 1,234 | `y` 99.2%<br>`state` 0.9912 R2 | `2 x svd:r=5` | 1,234 | 1.25 → 1.5 | `y` 91.4% |"
    assert all(line in text.splitlines() for line in (shares, gained, beside))
    assert "helps little" not in text and "†" not in text


def test_the_page_says_plainly_what_helps_little(page):
    weak = _design(2450.0, 2048, [["y", "agreement", 1.0]])
    refused = {"version": "2.0", "code": "older", "outcome": "refused", "seconds": 3.0, "mib": 1.0, "said": "no layer"}
    late = _row(outcome="not finished", said="fit 3/9", minutes=4.0)
    nothing = _row(outcome="nothing recommended", said="All lose too much.")
    text = page(
        _row(best=weak), refused, late, nothing, _row(best=_design(2500.0, 4096, [], original=True))
    ).splitlines()
    held = "what can be compressed holds 75 % of the bytes, 20 % of the MACs, 30 % of the time"
    assert f"- alexa: 2.00x smaller, 1.02x faster as a whole: {held}." in text
    assert "- weather: refused, so nothing is gained; below is why." in text
    assert "- timer: no design; 75 % of its bytes could have been compressed." in text
    assert "- hey_marvin: nothing is recommended: All lose too much." in text
    assert "- hey_jarvis: the original model is the recommended one." in text
    assert "- 3 of 5 models were explored end to end." in text
    assert "| weather | refused | 3 | no layer |" in text and "| timer | not finished in 4 min | 12 | |" in text
    assert any(line.startswith("| weather † |") for line in text) and any(line.startswith("†:") for line in text)


def test_every_model_has_a_name_of_its_own_and_unknown_ones_are_refused():
    assert len({model.name for model in MODELS}) == len(MODELS) >= 20
    assert all("==" in package for package in packages())
    with pytest.raises(ValueError, match="no such model: vgg; choose from alexa"):
        chosen(["vgg"])
    assert [model.name for model in chosen(["pitch", "alexa"])] == ["pitch", "alexa"]


@pytest.mark.parametrize(
    "make",
    [
        lambda first: stream(first, 4000),
        lambda first: pictures(first, 2, 40, 30),
        lambda first: switches(first, 2, 3, 50),
        lambda first: brainwaves(first, 2, 5),
    ],
)
def test_synthetic_samples_are_those_of_their_number(make):
    assert np.array_equal(make(3), make(3)) and not np.array_equal(make(3), make(4))
    assert make(3).dtype == np.float32 and np.isfinite(make(3)).all() and make(3).std() > 0.05


@pytest.mark.slow
def test_bytes_of_files_are_those_at_both_ends():
    row = inputs.file_bytes(None, 7, 2)["bytes"]
    assert row.shape == (2, 2048) and row.min() >= 0 and row.max() <= 256 and (row != 256).any(axis=1).all()
    assert not np.array_equal(row[0], inputs.file_bytes(None, 9, 1)["bytes"][0])


def test_roles_are_given_samples_of_their_own(tmp_path):
    model = dataclasses.replace(MODELS[0], make=lambda _, first, count: {"x": np.arange(first, first + count)})
    write_data(dataclasses.replace(model, samples=(5, 3, 2)), tmp_path, None)
    found = {role: np.load(tmp_path / f"{role}.npz")["x"].tolist() for role in ("calib", "eval", "test")}
    assert found == {"calib": [0, 1, 2, 3, 4], "eval": [5, 6, 7], "test": [8, 9]}


def test_what_takes_too_long_is_ended_and_what_fails_is_quoted(tmp_path):
    failing = [sys.executable, "-c", "import sys; print('first', file=sys.stderr); sys.exit('why')"]
    run = watched(failing, tmp_path / "failing", 60)
    assert (run.status, run.last) == (1, "why") and 0 < run.seconds < 60
    endless = [sys.executable, "-c", "while True: pass"]
    run = watched(endless, tmp_path / "endless", 0.05)
    assert run.status is None and run.seconds >= 0.05 and run.mib > 1


@pytest.fixture
def package(tmp_path, make):
    """Return a package that ships a small model, in a folder of its own."""
    rng = np.random.default_rng(0)
    arrays = {
        "w": (rng.normal(size=(40, 4)) @ rng.normal(size=(4, 40)) / 40).astype(np.float32),
        "v": rng.normal(size=(40, 4)).astype(np.float32),
    }
    text = (
        "g (float[n, 40] x) => (float[n, 4] y, float[n, 40] h) { a = MatMul (x, w)  h = Relu (a)  y = MatMul (h, v) }"
    )
    (tmp_path / "site" / "pack").mkdir(parents=True)
    shutil.copy(make(text, arrays), tmp_path / "site" / "pack" / "net.onnx")
    return Packaged("pack==1", "pack", "net.onnx")


def _noise(beside, first, count):
    return {"x": np.random.default_rng(first).standard_normal((count, 40), np.float32)}


@pytest.mark.slow
def test_a_model_is_explored_judged_on_test_data_and_kept(tmp_path, package):
    model = Explored("net", "a net", package, _noise, "noise", samples=(64, 200, 16))
    records = tmp_path / "rows.jsonl"
    looked = Rows(Records(records), tmp_path / "site", 6).looked(model)
    row = Rows(Records(records), tmp_path / "site", 6).row(model)
    # Four outputs are too few for factors. The rank of w is 4, so nearly nothing needs be lost on either output.
    assert row["outcome"] == "explored" and row["shares"]["layers"] == 1 and row["seconds"] > 1
    assert looked["outcome"] == "not explored" and looked["shares"]["macs"] == row["shares"]["macs"]
    kept = {name: value for name, _, value in row["best"]["kept"]}
    assert set(kept) == {"y", "h"} and min(kept.values()) > 0.95 and row["best"]["params"] < 40 * 44 / 2
    assert 0 < row["best"]["us"] < row["original_us"] and row["best"]["bytes"] < row["original_bytes"]
    assert Rows(Records(records), tmp_path / "site", 6).row(model) == row


@pytest.mark.slow
def test_a_model_without_layers_is_refused_with_its_sentence(tmp_path):
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[n, 40] x) => (float[n, 40] y) { y = Relu(x) }'
    (tmp_path / "pack").mkdir()
    onnx.save(onnx.parser.parse_model(text), tmp_path / "pack" / "net.onnx")
    model = Explored("net", "a net", Packaged("pack", "pack", "net.onnx"), _noise, "noise", samples=(4, 4, 4))
    row = Rows(Records(tmp_path / "rows.jsonl"), tmp_path, 6).row(model)
    assert row["outcome"] == "refused" and "no fully-connected layer" in row["said"]
