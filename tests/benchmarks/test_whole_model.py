"""Whole models beside runtimes: what is built, timed, kept and printed, with models of a few numbers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest

import lrfdse
from benchmarks.kernels.__main__ import host_target
from benchmarks.records import Records
from benchmarks.results import TOP
from benchmarks.whole_model import architectures, doubled, exact
from benchmarks.whole_model.kinds import DENSE, kinds, slowest
from benchmarks.whole_model.models import MODELS, Model, NotAvailableError, Packaged, named
from benchmarks.whole_model.page import lines_of
from benchmarks.whole_model.rows import DEPTHWISE, Limits, Rows, latency_row, times_of
from benchmarks.whole_model.timing import Peer, error_of, in_turns, sampled, unordered_error
from lrfdse.targets.catalog import load_target

PARAMETERS = {
    # Published numbers of parameters, in thousands; batch normalizations are folded into biases here.
    "lenet5": 61.7,
    "mobilenet_v2": 3487,
    "mobilenet_v3": 5471,
    "resnet18": 11684,
}


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_architectures_have_the_published_sizes(name, tmp_path):
    model = named([name])[0]
    proto = onnx.load(model.write(tmp_path, None))
    large = [array for array in proto.graph.initializer if len(array.dims) > 0]
    count = sum(int(np.prod(array.dims)) for array in large) / 1e3
    assert count == pytest.approx(PARAMETERS[name], rel=2e-3)


@pytest.mark.parametrize("make", [architectures.keywords, architectures.lstm, architectures.gru, architectures.unet])
def test_architectures_keep_activations_of_order_one(make, tmp_path):
    graph, outputs = make()
    session = onnxruntime.InferenceSession(str(graph.save(tmp_path / "model.onnx", outputs)))
    (port,) = session.get_inputs()
    x = np.random.default_rng(0).standard_normal(port.shape).astype(np.float32)
    (found,) = session.run(None, {port.name: x})
    assert 0.01 < np.abs(found).max() < 30 and found.std() > 1e-3


def test_every_model_has_a_name_of_its_own_and_unknown_ones_are_refused():
    assert len({model.name for model in MODELS}) == len(MODELS) >= 10
    with pytest.raises(ValueError, match="no such model: vgg; choose from lenet5"):
        named(["vgg"])


def test_a_packaged_model_is_taken_from_the_folder_with_its_sizes_fixed(tmp_path):
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[n, 3] x) => (float[n, 3] y) { y = Relu(x) }'
    (tmp_path / "pack").mkdir()
    onnx.save(onnx.parser.parse_model(text), tmp_path / "pack" / "net.onnx")
    model = Model("net", Packaged("pack", "pack", "net.onnx"), {"x": (2, 3)})
    (size, _) = onnx.load(model.write(tmp_path, tmp_path)).graph.input[0].type.tensor_type.shape.dim
    assert size.dim_value == 2 and model.origin == "package pack"
    with pytest.raises(NotAvailableError, match=r"needs pack/net\.onnx of the package pack"):
        model.write(tmp_path, None)


def test_a_model_that_is_not_there_is_a_row_that_is_not_kept(tmp_path):
    records = Records(tmp_path / "rows.jsonl")
    rows = Rows(records, tmp_path / "models", None, Limits(60, 1))
    row = rows.row(Model("net", Packaged("pack", "no_such_module", "net.onnx")), host_target(), "none")
    assert row["failure"] == "not available: needs no_such_module/net.onnx of the package pack"
    assert not (tmp_path / "rows.jsonl").exists()
    assert "net | host" in "\n".join(lines_of({}, [], [row], [])).replace("host-avx512", "host")


def test_peers_take_turns_and_a_sample_is_of_one_run():
    order = []
    peers = [lambda place=place: order.append(place) or (1.0, 2.0) for place in range(3)]
    found = in_turns(peers, 0.0)
    assert [len(samples) for samples in found] == [7, 7, 7]
    assert order[:9] == [0, 1, 2, 1, 2, 0, 2, 0, 1]
    runs = []
    cpu, wall = sampled(lambda: runs.append(sum(range(2000))))()
    assert 1e3 < cpu < 1e7 and wall > 0 and len(runs) > 2


def test_errors_are_relative_to_the_largest_output():
    due = [np.array([1.0, -4.0]), np.array([1.0])]
    peer = Peer(lambda: None, lambda: [np.array([1.0, -4.4]), np.array([1.0])])
    assert error_of(peer, due) == pytest.approx(0.1)
    turned = Peer(lambda: None, lambda: [np.array([1.0]), np.array([1.0, -4.0])])
    assert unordered_error(turned, due) == 0


def test_times_are_medians_of_milliseconds():
    found = times_of([(1e6, 5e6), (3e6, 4e6), (2e6, 9e6)])
    assert found == {"cpu_ms": 2.0, "wall_ms": 5.0, "least_cpu_ms": 1.0, "least_wall_ms": 4.0}


def test_shares_and_bounds_are_of_the_operators_of_a_kind():
    arrays = [{"role": role, "bytes": size} for role, size in (("input", 64), ("weight", 64), ("output", 64))]
    target = load_target("riscv64")
    listed = (
        ("FullyConnected", 6.0, 25_600, "out:8:4x4:u4"),
        ("Convolution", 2.0, 6_400, "blocks:16x4"),
        ("Foreign TopK", 1.5, 0, ""),
        ("Foreign Cast", 0.5, 0, ""),
    )
    operators = [
        {"kind": kind, "nodes": ["n"], "macs": macs, "schedule": schedule, "arrays": arrays}
        | {"warm": {"us": 9 * us, "low_us": us}}
        for kind, us, macs, schedule in listed
    ]
    whole = {"warm": {"us": 11.0}, "cold": {"us": 20.0}, "meter": {"details": {}}, "operators": operators}
    row = latency_row(whole, target)
    assert [part["kind"] for part in row["parts"]] == ["FullyConnected", DEPTHWISE, "Foreign TopK", "Foreign Cast"]
    dense, depthwise, foreign = kinds(row, *DENSE), kinds(row, DEPTHWISE), kinds(row, "Foreign ")
    # 25,600 MACs at 8 a cycle and 1600 MHz are 2 us.
    assert (dense.share, dense.bound) == (0.6, pytest.approx(1 / 3))
    assert (depthwise.share, depthwise.bound) == (0.2, pytest.approx(0.25))
    assert (foreign.share, foreign.bound) == (0.2, 0.0) and kinds(row, "Pool").bound is None
    assert slowest(row, 1)[0]["us"] == 6.0


def test_a_page_says_of_which_commits_rows_are():
    parts = [{"kind": "FullyConnected", "nodes": ["n"], "us": 4.0, "least_us": 3.2, "macs": 1, "schedule": "s"}]
    shared = {"checked": True, "max_error": 1e-7, "tolerance": 1e-4, "code_bytes": 1, "build_seconds": 1.0}
    shared |= {"parts": parts, "warm_us": 4.0, "cold_us": 4.0, "instructions": 10, "meter_seconds": 1.0}
    rows = [
        {"model": name, "target": "riscv64", "commit": commit, **shared}
        for name, commit in (("a", "1111111"), ("b", "1111111"), ("c", "2222222"))
    ]
    text = "\n".join(lines_of({}, [], [], rows))
    assert "Rows are of commit 1111111 (riscv64), but for these:" in text and "- of 2222222: riscv64: c" in text
    assert "reach 75% of their bound in 3 of 3 models; 80% over all" in text


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [(1.4e-5, 1.9e-5, "rounding: from float64 ours is 1.4e-05, onnxruntime 1.9e-05"), (1.9e-5, 4e-6, "above the goal")],
)
def test_an_error_above_the_goal_is_rounding_where_onnxruntime_is_farther_from_float64(ours, theirs, said):
    row = {"model": "a", "target": "riscv64", "checked": True, "max_error": 1.2e-5, "tolerance": 1e-4, "code_bytes": 1}
    row |= {"build_seconds": 1.0, "from_float64": {"ours": ours, "onnxruntime": theirs}}
    text = "\n".join(lines_of({}, [], [], [row]))
    assert f"| 1.2e-05 ({said}" in text


def test_normalization_in_float64_takes_the_statistics_of_the_model(tmp_path):
    text = """<ir_version: 7, opset_import: ["" : 12]> g (float[1, 2, 3, 1] x) => (float[1, 2, 3, 1] y)
    <float[2] s = {1.5, 0.5}, float[2] b = {0.25, -1}, float[2] m = {3, -2}, float[2] v = {4, 0.25}>
    { y = BatchNormalization <epsilon = 0.001, momentum = 0.9> (x, s, b, m, v) }"""
    path = tmp_path / "model.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    x = np.random.default_rng(0).standard_normal((1, 2, 3, 1)).astype(np.float32)
    (found,) = exact.outputs(str(path), [x])
    (expected,) = onnxruntime.InferenceSession(path).run(None, {"x": x})
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("width", [6, 40_000])
def test_a_library_is_held_against_float64_on_its_own_test_vectors(width, tmp_path):
    # Vectors of 40,000 numbers lie in a file of their own.
    text = f"""<ir_version: 8, opset_import: ["" : 17]> g (float[1, {width}] x) => (float[1, {width}] y, float[1, 1] z)
    {{ y = Sigmoid(x) z = ReduceMean <axes = [1]> (x) }}"""
    path = tmp_path / "model.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    built = lrfdse.build(path, "host", tmp_path / "library", meter="none", cache=tmp_path)
    given, found = doubled.run(tmp_path / "library", load_target("host"))
    wide = [each.astype(np.float64) for each in given]
    assert given[0].shape == (1, width) and given[0].std() > 0.1
    np.testing.assert_allclose(found[0], 1 / (1 + np.exp(-wide[0])), rtol=1e-6)
    np.testing.assert_allclose(found[1], wide[0].mean(1, keepdims=True), atol=1e-6)
    assert built.facts.max_error < 1e-5
    distances = doubled.main(str(path), "host", str(tmp_path / "library"))
    assert 0 < distances["ours"] < 1e-6 and 0 < distances["onnxruntime"] < 1e-5


@pytest.mark.slow
def test_a_model_is_built_timed_checked_and_kept(tmp_path):
    if shutil.which("qemu-aarch64") is None:
        pytest.skip("needs qemu-aarch64")
    command = [sys.executable, "-m", "benchmarks.whole_model", "--model", "lenet5", "--seconds", "0.5"]
    command += ["--target", "host", "--target", "aarch64", "--cache", str(tmp_path), "--out", str(tmp_path)]
    pages = []
    for _ in range(2):
        subprocess.run(command, cwd=TOP, check=True, capture_output=True)
        pages.append(json.loads((tmp_path / "whole_model.json").read_text()))
    assert pages[0]["host"] == pages[1]["host"] and pages[0]["emulated"] == pages[1]["emulated"]
    ((host,), (emulated,)) = pages[0]["host"], pages[0]["emulated"]
    assert host["errors"]["ours"] < 1e-5 and emulated["max_error"] < 1e-5 and host["rounds"] >= 7
    assert 0 < host["times"]["ours"]["cpu_ms"] < 10 and 0 < host["times"]["onnxruntime"]["cpu_ms"] < 10
    assert host["macs"] == 6 * 28 * 28 * 25 + 16 * 10 * 10 * 150 + 400 * 120 + 120 * 84 + 84 * 10
    text = (tmp_path / "whole_model.md").read_text()
    assert "| lenet5 | written here | |" in text and "onnxruntime: at most its time on" in text
