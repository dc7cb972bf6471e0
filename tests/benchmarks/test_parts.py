"""What all benchmarks share, against oracles: NumPy, files read back, a process that is asked."""

from __future__ import annotations

import json
import math

import numpy as np
import onnxruntime
import pytest

from benchmarks.machine import installed, machine
from benchmarks.mlp import write_mlp
from benchmarks.numbers import spearman
from benchmarks.program import apart, parser
from benchmarks.records import Records
from benchmarks.results import RESULTS, page, table, write
from lrfdse.model.graph import load_model


def test_records_survive_a_torn_line(tmp_path):
    path = tmp_path / "new" / "rows.jsonl"
    records = Records(path)
    records.put({"key": "a", "value": 1})
    records.put({"key": "b", "value": 2})
    path.write_bytes(path.read_bytes()[:-5])
    records = Records(path)
    assert records.ask("a") and not records.ask("b")
    records.put({"key": "b", "value": 3})
    records = Records(path)
    assert records.ask("b") and records.asked() == [{"key": "b", "value": 3}]
    assert records.get("a") == {"key": "a", "value": 1} and records.get("c") is None


def test_of_two_records_with_one_key_the_later_counts(tmp_path):
    records = Records(tmp_path / "rows.jsonl")
    records.put({"key": "a", "value": 1})
    records.put({"key": "a", "value": 2})
    assert Records(tmp_path / "rows.jsonl").get("a") == records.get("a") == {"key": "a", "value": 2}


def test_lines_that_are_no_records_are_passed_over(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('[1]\n7\n{"value": 1}\n\n{"key": "a"}\n')
    assert Records(path).get("a") == {"key": "a"}


def test_a_table_has_as_many_cells_in_every_line_as_in_its_head():
    lines = table(["layer", "", "us"], [["fc1", "", 1.5], ["fc2", 0, ""]])
    assert lines == ["| layer | | us |", "|---|---|---|", "| fc1 | | 1.5 |", "| fc2 | 0 | |"]


def test_numbers_lie_beside_the_page_in_the_folder_that_git_ignores(tmp_path):
    write(tmp_path, "kernels", ["# Kernels", "", "text", "", ""], {"cases": [1]})
    page(tmp_path, "als", ["# Trains"])
    assert (tmp_path / "kernels.md").read_text() == "# Kernels\n\ntext\n"
    assert json.loads((tmp_path / "raw" / "kernels.json").read_text()) == {"cases": [1]}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["als.md", "kernels.md", "raw"]
    assert "/results/raw/" in (RESULTS.parent / ".gitignore").read_text().splitlines()


def test_rank_correlation_is_that_of_the_ranks():
    rng = np.random.default_rng(0)
    one, other = rng.permutation(20), rng.permutation(20)
    assert spearman(one.tolist(), (other**3).tolist()) == pytest.approx(np.corrcoef(one, other)[0, 1])
    assert math.isnan(spearman([1.0, math.nan], [1.0, 2.0])) and math.isnan(spearman([1.0, 2.0], [3.0, 3.0]))


def test_a_chain_of_layers_computes_what_numpy_does(tmp_path):
    rng = np.random.default_rng(0)
    sizes = ((5, 7), (4, 5), (3, 4))
    layers = [tuple(rng.normal(size=size).astype(np.float32) for size in ((m, n), m)) for m, n in sizes]
    path = write_mlp(tmp_path / "model.onnx", "net", "image", layers)
    x = rng.normal(size=(6, 7)).astype(np.float32)
    (found,) = onnxruntime.InferenceSession(str(path)).run(["scores"], {"image": x})
    expected = x
    for k, (weight, bias) in enumerate(layers):
        expected = expected @ weight.T + bias
        expected = np.maximum(expected, 0) if k < 2 else expected
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert [layer.name for layer in load_model(path).layers] == ["fc1", "fc2", "fc3"]


def test_a_part_runs_in_a_process_of_its_own():
    found = apart("space", "--case", "0")
    assert found["outputs"] == 300 and found["inputs"] == 784 and found["peak_mib"] > 0


def test_versions_of_packages_that_are_missing_are_said_to_be_missing():
    about = machine("no-such-package")
    assert about["no-such-package"] == "not installed" and installed("no-such-package") is None
    assert about["numpy"] == np.__version__


def test_results_go_to_the_checkout_unless_another_folder_is_given(tmp_path):
    assert parser("x", "text").parse_args([]).out == RESULTS
    assert parser("x", "text").parse_args(["--out", str(tmp_path)]).out == tmp_path
