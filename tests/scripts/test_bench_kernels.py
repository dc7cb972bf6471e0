"""The parts of the kernels benchmark against oracles: onnxruntime, NumPy, enumeration, formulas."""

from __future__ import annotations

import doctest
import importlib
import itertools
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest

from lrfdse.design import Factorization
from lrfdse.kernels import compile_kernel, example, pack, schedules
from lrfdse.measure.toolchain import find_zig
from lrfdse.targets.catalog import load_target

BENCH = Path(__file__).resolve().parents[2] / "scripts" / "bench"
MODULES = (
    "arrays",
    "foreign",
    "forms",
    "host",
    "iree_schedule",
    "layers",
    "litert_model",
    "loops",
    "once",
    "peaks",
    "peers",
    "rows",
    "table",
)
SHAPES = (
    ("dense", 1),
    ("svd:r=3", 1),
    ("svd:r=3", 3),
    ("tt:m=5x6,n=4x7,r=3", 1),
    ("tt:m=5x6,n=4x7,r=3", 3),
    ("tt:m=3x2x5,n=2x7x2,r=5x4,lr", 1),
    ("tt:m=3x2x5,n=2x7x2,r=5x4,lr", 3),
)


@pytest.fixture(scope="module")
def bench():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCH)
        yield SimpleNamespace(**{name: importlib.import_module(f"kernelbench.{name}") for name in MODULES})


@pytest.fixture(scope="module")
def script(bench):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCH)
        yield importlib.import_module("kernels")


@pytest.fixture(scope="module", params=SHAPES, ids=lambda shape: f"{shape[0]} {shape[1]}")
def case(bench, request):
    text, rows = request.param
    kind = "dense" if text == "dense" else "tt2"
    return bench.layers.Case(bench.layers.Layer("small", 28, 30), kind, Factorization.parse(text, 30, 28), rows)


@pytest.fixture(scope="module")
def small(bench):
    return bench.layers.Case(bench.layers.Layer("small", 28, 30), "svd", Factorization.svd(30, 28, 3), 2)


def dense_of(f, cores):
    made = cores[0]
    for core in cores[1:]:
        joined = np.einsum("amnb,bpqc->ampnqc", made, core)
        a, m, p, n, q, c = joined.shape
        made = joined.reshape(a, m * p, n * q, c)
    return made[0, ..., 0]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_the_modules_hold(bench, name):
    assert doctest.testmod(getattr(bench, name)).failed == 0


def test_the_designs_of_every_layer_are_what_they_claim(bench):
    assert len(bench.layers.LAYERS) == 18
    assert len(bench.layers.named(bench.layers.QUICK)) == 6
    for case in bench.layers.cases(bench.layers.named(bench.layers.QUICK), 1):
        f, dense = case.factorization, case.layer.inputs * case.layer.outputs
        assert (f.outputs, f.inputs) == (case.layer.outputs, case.layer.inputs)
        if case.kind == "svd":
            larger = Factorization.svd(f.outputs, f.inputs, f.ranks[0] + 1)
            assert f.params * 4 <= dense < larger.params * 4
        if case.kind in ("tt2", "tt3"):
            assert len(f.out_modes) == int(case.kind[2])
            assert 8 <= dense / f.params <= bench.layers.TT_LOOSEST
            assert min(*f.out_modes, *f.in_modes) >= 2
            assert len(set(f.ranks)) == 1 and f.ranks[0] >= 8


def test_the_tensor_train_is_the_cheapest_by_enumeration(bench):
    outputs, inputs = 200, 240
    divisors = {size: [d for d in range(2, size) if size % d == 0] for size in (outputs, inputs)}
    found = []
    for m, n, r, direction in itertools.product(divisors[outputs], divisors[inputs], range(8, 40), ("rl", "lr")):
        f = Factorization((m, outputs // m), (n, inputs // n), (r,), direction)
        sizes = [a * b for a, b in zip(f.out_modes, f.in_modes, strict=True)]
        larger = Factorization(f.out_modes, f.in_modes, (r + 1,), direction)
        fitting = f.params * 8 <= outputs * inputs < larger.params * 8
        if fitting and f.params * bench.layers.TT_LOOSEST >= outputs * inputs and r <= min(sizes):
            found.append(f.padded_macs(8))
    assert bench.layers.cheapest_tensor_train(outputs, inputs, 2).padded_macs(8) == min(found)


def test_the_expected_output_is_that_of_the_dense_matrix(bench, case):
    numbers = bench.arrays.arrays(case)
    dense = dense_of(case.factorization, numbers.cores)
    np.testing.assert_allclose(numbers.expected, numbers.x @ dense.T, rtol=1e-12, atol=1e-12)


def test_all_peers_get_the_numbers_that_our_kernels_are_tuned_on(bench, case):
    numbers, target = bench.arrays.arrays(case), load_target("riscv64")
    artifact = compile_kernel(case.spec, schedules(case.spec, target, 1)[0], target, "kernel")
    given, expected = example(artifact, bench.arrays.SEED)
    np.testing.assert_allclose(numbers.expected, expected, rtol=1e-12, atol=1e-12)
    ours = [numbers.x.astype(np.float32).ravel(), *pack(artifact, numbers.cores, None)]
    assert all(np.array_equal(a, b) for a, b in zip(ours, given, strict=True))


@pytest.mark.parametrize("form", ["einsum", "matmul", "broadcast"])
def test_every_onnx_form_computes_the_layer(bench, case, form):
    numbers = bench.arrays.arrays(case)
    model = bench.forms.onnx_model(case, numbers, form)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": numbers.x.astype(np.float32)})
    np.testing.assert_allclose(y, numbers.expected, atol=1e-5 * np.abs(numbers.expected).max())


def test_the_broadcast_form_moves_no_data(bench, case):
    model = bench.forms.onnx_model(case, bench.arrays.arrays(case), "broadcast")
    assert {node.op_type for node in model.graph.node} == {"MatMul", "Reshape"}


@pytest.mark.parametrize("form", ["matmul", "broadcast"])
def test_every_litert_form_computes_the_layer(bench, case, form):
    interpreters = pytest.importorskip("ai_edge_litert.interpreter", reason="needs the tflite extra")
    numbers = bench.arrays.arrays(case)
    interpreter = interpreters.Interpreter(model_content=bench.litert_model.litert_model(case, numbers, form))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], numbers.x.astype(np.float32))
    interpreter.invoke()
    y = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(y, numbers.expected, atol=1e-5 * np.abs(numbers.expected).max())


@pytest.mark.slow
@pytest.mark.parametrize("write", ["paper", "plain"])
def test_the_loops_compute_the_layer(bench, case, write):
    if find_zig() is None:
        pytest.skip("ziglang is not installed")
    numbers, target = bench.arrays.arrays(case), load_target("host")
    source = getattr(bench.loops, write)(case, numbers)
    code = bench.foreign.joined([bench.foreign.compile_c(source.text, target, ("-O1",))], target)
    built = bench.foreign.foreign(case, target, code, numbers.x, source.weights, source.work)
    y = bench.once.output_of(built, target, 60)
    np.testing.assert_allclose(y, numbers.expected.ravel(), atol=1e-5 * np.abs(numbers.expected).max())


def test_a_runtime_is_timed_and_checked_and_a_broken_one_is_a_row(bench, small, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(bench.host, "SAMPLE_NS", 1000)
    numbers = bench.arrays.arrays(small)
    wrong = bench.arrays.Arrays(numbers.x, tuple(2 * core for core in numbers.cores), numbers.expected)
    model = bench.peers._numpy_model
    peers = {
        "right": bench.host.Runtime("numpy", model(small, numbers)),
        "wrong": bench.host.Runtime("numpy", model(small, wrong)),
        "broken": bench.host.Runtime("onnxruntime", b"no model"),
    }
    rows = bench.host.measure(peers, numbers, 60, rounds=3)
    assert set(rows) == {"right", "wrong", "broken"}
    assert rows["right"].us > 0 and rows["right"].max_error < 1e-5
    assert rows["right"].least_us <= rows["right"].low_us <= rows["right"].us <= rows["right"].high_us
    assert rows["wrong"].us is None and "wrong output" in rows["wrong"].note
    assert rows["broken"].us is None and rows["broken"].note


def test_the_bound_is_the_larger_of_arithmetic_and_memory(bench, small):
    target = load_target("riscv64")
    assert bench.peaks.bound(small, target, None).us == small.macs / target.fma_per_cycle / target.clock_mhz
    large = bench.layers.Case(bench.layers.Layer("l", 1024, 1024), "dense", Factorization.dense(1024, 1024), 1)
    bound = bench.peaks.bound(large, target, None)
    assert bound.by == "memory" and bench.peaks.place(large, target, None) == "outside"
    assert bound.us == pytest.approx(4 * 1024**2 / target.dram_bytes_per_cycle / target.clock_mhz)
    peaks = bench.peaks.Peaks(100.0, ((1 << 20, 100.0), (1 << 24, 4.0)), 1 << 25)
    measured = bench.peaks.bound(large, load_target("host"), peaks)
    assert measured.by == "memory"
    assert measured.us == pytest.approx(4 * 1024**2 / 52.0 / 1e3)
    beyond = bench.peaks.Peaks(100.0, peaks.read_bytes_per_ns, 1 << 21)
    assert bench.peaks.place(large, load_target("host"), beyond) == "outside"
    assert bench.peaks.bound(large, load_target("host"), beyond).us == pytest.approx(4 * 1024**2 / 4.0 / 1e3)
    slow = bench.peaks.Peaks(1.0, peaks.read_bytes_per_ns, 1 << 25)
    assert bench.peaks.bound(small, load_target("host"), slow) == bench.peaks.Bound(small.macs / 1e3, "compute")


def test_weights_that_fill_the_cache_are_neither_inside_nor_outside(bench, small):
    target = load_target("riscv64")
    edge = Factorization.parse("tt:m=2x512,n=512x2,r=64,lr", 1024, 1024)
    case = bench.layers.Case(bench.layers.Layer("e", 1024, 1024), "tt2", edge, 1)
    assert case.weight_bytes == 1024 * target.last_level.kib
    assert bench.peaks.place(case, target, None) == "edge"
    assert bench.peaks.place(small, target, None) == "inside"


def test_finished_rows_outlive_a_run_that_was_cut_off(bench, tmp_path):
    path = tmp_path / "sub" / "rows.jsonl"
    row, other = bench.rows.Row(us=1.5, instructions=7, note="out:8"), bench.rows.too_slow("60 s")
    bench.rows.RowCache(path).put("a", {"ours": row})
    path.write_text(path.read_text() + '\n{"key": "b", "rows": {"ours": {"us')
    cache = bench.rows.RowCache(path)
    assert cache.get("a") == {"ours": row} and cache.get("b") is None
    cache.put("c", {"TVM": other})
    again = bench.rows.RowCache(path)
    assert again.get("a") == {"ours": row} and again.get("c") == {"TVM": other}


def test_keys_differ_where_a_part_differs(bench):
    keys = {bench.rows.key_of(*parts) for parts in (("a", "b"), ("ab", ""), ("a",), ("b", "a"))}
    assert len(keys) == 4


def results(bench, *times):
    """Return one result for each mapping of peer to microseconds."""
    made = []
    for layer, rows in zip(bench.layers.LAYERS, times, strict=False):
        design = bench.layers.design(layer.outputs, layer.inputs, "svd")
        case = bench.layers.Case(layer, "svd", design, 1)
        listed = {name: bench.rows.Row(us=us, note="" if us else "gone") for name, us in rows.items()}
        made.append(bench.table.Result(case, "riscv64", bench.peaks.Bound(0.5, "compute"), "inside", listed))
    return made


def test_a_column_counts_its_fastest_variant(bench):
    rows = {"ours": 1.0, "IREE/matmul default": 3.0, "IREE/einsum O2": 2.0, "IREE runtime/x": 0.1, "TVM/a": None}
    (result,) = results(bench, rows)
    assert result.ratio(bench.table.IREE_DEFAULT) == 3.0
    assert result.ratio(bench.table.IREE_BEST) == 2.0
    assert result.best("TVM")[1].note == "gone" and result.ratio("TVM") is None
    assert result.best("clang") is None


def test_goals_are_reached_only_with_every_layer(bench):
    table = bench.table
    both = results(bench, {"ours": 1.0, "IREE/a": 4.0}, {"ours": 1.0, "IREE/a": 0.5})
    goal = table.Goal(table.IREE_BEST, 1.4)
    line = next(x for x in table._means(both, [], [table.IREE_BEST], [goal]) if x.startswith(f"| {table.IREE_BEST}"))
    assert f"| {math.sqrt(2):.2f} | 2 |" in line and "| reached |" in line
    strict = table.Goal(table.IREE_BEST, 1.4, 0.9)
    assert "| not reached |" in table._means(both, [], [table.IREE_BEST], [strict])[-1]
    low = table.Goal(table.IREE_BEST, 1.5)
    assert "| not reached |" in table._means(both, [], [table.IREE_BEST], [low])[-1]


def test_the_best_variants_are_those_of_the_least_mean(bench, script):
    direct = {peer.name: 9.0 for peer in bench.peers.DIRECT}
    times = [
        {"ours": 1.0, **direct, "IREE/einsum O2": 1.0, "IREE/broadcast O2": 2.0, "IREE/matmul O2": None},
        {"ours": 1.0, **direct, "IREE/einsum O2": 4.0, "IREE/broadcast O2": 1.0, "IREE/matmul O2": 1.0},
    ]
    chosen = script.best_variants(results(bench, *times))
    assert [peer.variant for peer in chosen] == ["matmul default", "broadcast O2", "einsum O2"]


def test_every_table_row_has_as_many_cells_as_its_head(bench):
    listed = results(bench, {"ours": 1.0, "IREE/matmul default": 3.0, "TVM/a": None, "clang": 2.0})
    lines = bench.table.target_section("riscv64", "modelled", listed, bench.table.GOALS["riscv64"])
    heads = 0
    for before, line in itertools.pairwise(lines):
        if line.startswith("|---"):
            heads = before.count("|")
        if line.startswith("| ") and heads:
            assert line.count("|") in (heads, line.count("|") if "layer" in line or "peer" in line else heads)
    assert any("3.00x" in line for line in lines) and any("| – |" in line for line in lines)
    assert bench.table.reasons(listed) == ["- riscv64, TVM/a: gone (1)"]
