"""The parts of the kernels benchmark against oracles: onnxruntime, NumPy, enumeration, formulas."""

from __future__ import annotations

import itertools
import math

import numpy as np
import onnxruntime
import pytest

from benchmarks.kernels import (
    arrays,
    foreign,
    forms,
    host,
    layers,
    litert_model,
    loops,
    once,
    peaks,
    peers,
    rows,
    table,
)
from benchmarks.kernels.running import best_variants
from lrfdse.ir.factorization import Factorization
from lrfdse.kernels.build import compile_kernel
from lrfdse.kernels.data import example, pack
from lrfdse.kernels.schedules import schedules
from lrfdse.targets.catalog import load_target
from lrfdse.toolchain.programs import find_zig

SHAPES = (
    ("dense", 1),
    ("svd:r=3", 1),
    ("svd:r=3", 3),
    ("tt:m=5x6,n=4x7,r=3", 1),
    ("tt:m=5x6,n=4x7,r=3", 3),
    ("tt:m=3x2x5,n=2x7x2,r=5x4,lr", 1),
    ("tt:m=3x2x5,n=2x7x2,r=5x4,lr", 3),
)


@pytest.fixture(scope="module", params=SHAPES, ids=lambda shape: f"{shape[0]} {shape[1]}")
def case(request):
    text, rows = request.param
    kind = "dense" if text == "dense" else "tt2"
    return layers.Case(layers.Layer("small", 28, 30), kind, Factorization.parse(text, 30, 28), rows)


@pytest.fixture(scope="module")
def small():
    return layers.Case(layers.Layer("small", 28, 30), "svd", Factorization.svd(30, 28, 3), 2)


def dense_of(f, cores):
    made = cores[0]
    for core in cores[1:]:
        joined = np.einsum("amnb,bpqc->ampnqc", made, core)
        a, m, p, n, q, c = joined.shape
        made = joined.reshape(a, m * p, n * q, c)
    return made[0, ..., 0]


def test_the_designs_of_every_layer_are_what_they_claim():
    assert len(layers.LAYERS) == 18
    assert len(layers.named(layers.QUICK)) == 6
    for case in layers.cases(layers.named(layers.QUICK), 1):
        f, dense = case.factorization, case.layer.inputs * case.layer.outputs
        assert (f.outputs, f.inputs) == (case.layer.outputs, case.layer.inputs)
        if case.kind == "svd":
            larger = Factorization.svd(f.outputs, f.inputs, f.ranks[0] + 1)
            assert f.params * 4 <= dense < larger.params * 4
        if case.kind in ("tt2", "tt3"):
            assert len(f.out_modes) == int(case.kind[2])
            assert 8 <= dense / f.params <= layers.TT_LOOSEST
            assert min(*f.out_modes, *f.in_modes) >= 2
            assert len(set(f.ranks)) == 1 and f.ranks[0] >= 8


def test_the_tensor_train_is_the_cheapest_by_enumeration():
    outputs, inputs = 200, 240
    divisors = {size: [d for d in range(2, size) if size % d == 0] for size in (outputs, inputs)}
    found = []
    for m, n, r, direction in itertools.product(divisors[outputs], divisors[inputs], range(8, 40), ("rl", "lr")):
        f = Factorization((m, outputs // m), (n, inputs // n), (r,), direction)
        sizes = [a * b for a, b in zip(f.out_modes, f.in_modes, strict=True)]
        larger = Factorization(f.out_modes, f.in_modes, (r + 1,), direction)
        fitting = f.params * 8 <= outputs * inputs < larger.params * 8
        if fitting and f.params * layers.TT_LOOSEST >= outputs * inputs and r <= min(sizes):
            found.append(f.padded_macs(8))
    assert layers.cheapest_tensor_train(outputs, inputs, 2).padded_macs(8) == min(found)


def test_the_expected_output_is_that_of_the_dense_matrix(case):
    numbers = arrays.arrays(case)
    dense = dense_of(case.factorization, numbers.cores)
    np.testing.assert_allclose(numbers.expected, numbers.x @ dense.T, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
def test_all_peers_get_the_numbers_that_our_kernels_are_tuned_on(case):
    numbers, target = arrays.arrays(case), load_target("riscv64")
    artifact = compile_kernel(case.spec, schedules(case.spec, target, 1)[0], target, "kernel")
    given, expected = example(artifact, arrays.SEED)
    np.testing.assert_allclose(numbers.expected, expected, rtol=1e-12, atol=1e-12)
    ours = [numbers.x.astype(np.float32).ravel(), *pack(artifact, numbers.cores, None)]
    assert all(np.array_equal(a, b) for a, b in zip(ours, given, strict=True))


@pytest.mark.parametrize("form", ["einsum", "matmul", "broadcast"])
def test_every_onnx_form_computes_the_layer(case, form):
    numbers = arrays.arrays(case)
    model = forms.onnx_model(case, numbers, form)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": numbers.x.astype(np.float32)})
    np.testing.assert_allclose(y, numbers.expected, atol=1e-5 * np.abs(numbers.expected).max())


def test_the_broadcast_form_moves_no_data(case):
    model = forms.onnx_model(case, arrays.arrays(case), "broadcast")
    assert {node.op_type for node in model.graph.node} == {"MatMul", "Reshape"}


@pytest.mark.parametrize("form", ["matmul", "broadcast"])
def test_every_litert_form_computes_the_layer(case, form):
    interpreters = pytest.importorskip("ai_edge_litert.interpreter", reason="needs the tflite extra")
    numbers = arrays.arrays(case)
    interpreter = interpreters.Interpreter(model_content=litert_model.litert_model(case, numbers, form))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], numbers.x.astype(np.float32))
    interpreter.invoke()
    y = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(y, numbers.expected, atol=1e-5 * np.abs(numbers.expected).max())


@pytest.mark.slow
@pytest.mark.parametrize("write", ["paper", "plain"])
def test_the_loops_compute_the_layer(case, write):
    if find_zig() is None:
        pytest.skip("ziglang is not installed")
    numbers, target = arrays.arrays(case), load_target("host")
    source = getattr(loops, write)(case, numbers)
    code = foreign.joined([foreign.compile_c(source.text, target, ("-O1",))], target)
    built = foreign.foreign(case, target, code, numbers.x, source.weights, source.work)
    y = once.output_of(built, target, 60)
    np.testing.assert_allclose(y, numbers.expected.ravel(), atol=1e-5 * np.abs(numbers.expected).max())


def test_a_runtime_is_timed_and_checked_and_a_broken_one_is_a_row(small, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(host, "SAMPLE_NS", 1000)
    numbers = arrays.arrays(small)
    wrong = arrays.Arrays(numbers.x, tuple(2 * core for core in numbers.cores), numbers.expected)
    model = peers.numpy_model
    taking_part = {
        "right": foreign.Runtime("numpy", model(small, numbers)),
        "wrong": foreign.Runtime("numpy", model(small, wrong)),
        "broken": foreign.Runtime("onnxruntime", b"no model"),
    }
    found = host.measure(taking_part, numbers, 60, rounds=3)
    assert set(found) == {"right", "wrong", "broken"}
    assert found["right"].us > 0 and found["right"].max_error < 1e-5
    assert found["right"].least_us <= found["right"].low_us <= found["right"].us <= found["right"].high_us
    assert found["wrong"].us is None and "wrong output" in found["wrong"].note
    assert found["broken"].us is None and found["broken"].note


def test_the_bound_is_the_larger_of_arithmetic_and_memory(small):
    target = load_target("riscv64")
    assert peaks.bound(small, target, None).us == small.macs / target.fma_per_cycle / target.clock_mhz
    large = layers.Case(layers.Layer("l", 1024, 1024), "dense", Factorization.dense(1024, 1024), 1)
    bound = peaks.bound(large, target, None)
    assert bound.by == "memory" and peaks.place(large, target, None) == "outside"
    beyond = 4 * 1024**2 - target.last_level.bytes
    by_dram, by_cache = beyond / target.dram_bytes_per_cycle, 4 * 1024**2 / target.last_level_bytes_per_cycle
    # The X60 is in order: it stops for what it reads from its last level.
    assert bound.us == pytest.approx((by_dram + by_cache) / target.clock_mhz)
    known = peaks.Peaks(100.0, ((1 << 20, 100.0), (1 << 24, 4.0)), 1 << 25)
    measured = peaks.bound(large, load_target("host"), known)
    assert measured.by == "memory"
    assert measured.us == pytest.approx(4 * 1024**2 / 52.0 / 1e3)
    beyond = peaks.Peaks(100.0, known.read_bytes_per_ns, 1 << 21)
    assert peaks.place(large, load_target("host"), beyond) == "outside"
    assert peaks.bound(large, load_target("host"), beyond).us == pytest.approx(4 * 1024**2 / 4.0 / 1e3)
    slow = peaks.Peaks(1.0, known.read_bytes_per_ns, 1 << 25)
    assert peaks.bound(small, load_target("host"), slow) == peaks.Bound(small.macs / 1e3, "compute")


def test_weights_that_fill_the_cache_are_neither_inside_nor_outside(small):
    target = load_target("riscv64")
    edge = Factorization.parse("tt:m=2x512,n=512x2,r=64,lr", 1024, 1024)
    case = layers.Case(layers.Layer("e", 1024, 1024), "tt2", edge, 1)
    assert case.weight_bytes == 1024 * target.last_level.kib
    assert peaks.place(case, target, None) == "edge"
    assert peaks.place(small, target, None) == "inside"


def test_finished_rows_outlive_a_run_that_was_cut_off(tmp_path):
    path = tmp_path / "sub" / "rows.jsonl"
    row, other = rows.Row(us=1.5, instructions=7, note="out:8"), rows.too_slow("60 s")
    rows.RowCache(path).put("a", {"ours": row})
    path.write_text(path.read_text() + '\n{"key": "b", "rows": {"ours": {"us')
    cache = rows.RowCache(path)
    assert cache.get("a") == {"ours": row} and cache.get("b") is None
    cache.put("c", {"TVM": other})
    again = rows.RowCache(path)
    assert again.get("a") == {"ours": row} and again.get("c") == {"TVM": other}


def test_keys_differ_where_a_part_differs():
    keys = {rows.key_of(*parts) for parts in (("a", "b"), ("ab", ""), ("a",), ("b", "a"))}
    assert len(keys) == 4


def results(*times):
    """Return one result for each mapping of peer to microseconds."""
    made = []
    for layer, measured in zip(layers.LAYERS, times, strict=False):
        design = layers.design(layer.outputs, layer.inputs, "svd")
        case = layers.Case(layer, "svd", design, 1)
        listed = {name: rows.Row(us=us, note="" if us else "gone") for name, us in measured.items()}
        made.append(table.Result(case, "riscv64", peaks.Bound(0.5, "compute"), "inside", listed))
    return made


def test_a_column_counts_its_fastest_variant():
    measured = {"ours": 1.0, "IREE/matmul default": 3.0, "IREE/einsum O2": 2.0, "IREE runtime/x": 0.1, "TVM/a": None}
    (result,) = results(measured)
    assert result.ratio(table.IREE_DEFAULT) == 3.0
    assert result.ratio(table.IREE_BEST) == 2.0
    assert result.best("TVM")[1].note == "gone" and result.ratio("TVM") is None
    assert result.best("clang") is None


def test_goals_are_reached_only_with_every_layer():
    both = results({"ours": 1.0, "IREE/a": 4.0}, {"ours": 1.0, "IREE/a": 0.5})
    goal = table.Goal(table.IREE_BEST, 1.4)
    line = next(x for x in table._means(both, [], [table.IREE_BEST], [goal]) if x.startswith(f"| {table.IREE_BEST}"))
    assert f"| {math.sqrt(2):.2f} | 2 |" in line and "| reached |" in line
    strict = table.Goal(table.IREE_BEST, 1.4, 0.9)
    assert "| not reached |" in table._means(both, [], [table.IREE_BEST], [strict])[-1]
    low = table.Goal(table.IREE_BEST, 1.5)
    assert "| not reached |" in table._means(both, [], [table.IREE_BEST], [low])[-1]


def test_the_best_variants_are_those_of_the_least_mean():
    direct = {peer.name: 9.0 for peer in peers.DIRECT}
    times = [
        {"ours": 1.0, **direct, "IREE/einsum O2": 1.0, "IREE/broadcast O2": 2.0, "IREE/matmul O2": None},
        {"ours": 1.0, **direct, "IREE/einsum O2": 4.0, "IREE/broadcast O2": 1.0, "IREE/matmul O2": 1.0},
    ]
    chosen = best_variants(results(*times))
    assert [peer.variant for peer in chosen] == ["matmul default", "broadcast O2", "einsum O2"]


def test_every_table_row_has_as_many_cells_as_its_head():
    listed = results({"ours": 1.0, "IREE/matmul default": 3.0, "TVM/a": None, "clang": 2.0})
    lines = table.target_section("riscv64", "modelled", listed, table.GOALS["riscv64"])
    heads = 0
    for before, line in itertools.pairwise(lines):
        if line.startswith("|---"):
            heads = before.count("|")
        if line.startswith("| ") and heads:
            assert line.count("|") in (heads, line.count("|") if "layer" in line or "peer" in line else heads)
    assert any("3.00x" in line for line in lines) and any("| – |" in line for line in lines)
    assert table.reasons(listed) == ["- riscv64, TVM/a: gone (1)"]


def test_only_the_peers_that_are_named_take_part_beside_ours():
    target = load_target("riscv64")
    assert [peer.name for peer in peers.peers(target, groups=["clang", "plain C"])] == ["ours", "clang", "plain C"]
    assert [peer.name for peer in peers.peers(target, (peers.IREE_DEFAULT,), ["IREE"])] == [
        "ours",
        peers.IREE_DEFAULT.name,
    ]
    assert {peer.group for peer in peers.peers(load_target("host"))} == {"ours", *peers.GROUPS}
