"""The program that runs on a board: what it prints, and what it notices."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrfdse.base.folders import data_folder
from lrfdse.deploy.bench_program import MOST_BYTES, build_program
from lrfdse.errors import ToolError
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.kernel import KernelSpec
from lrfdse.kernels.data import reference
from lrfdse.targets.catalog import load_target
from lrfdse.targets.eviction import evicted_bytes

pytestmark = pytest.mark.slow

QUICK = ("--repeats", "3", "--min-time", "0")
HOSTILE = ('"},{"layer": "x', "a\\", "\n\r\t\0\x1f\x7f</script>%s%n", "\ud800é漢" + "long" * 3000)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["riscv64", "riscv64-u74", "aarch64", "armv7", "host"])
def test_every_kernel_is_checked_and_timed(name, make_kernels, run_program, board_target):
    target = board_target(name)
    kernels = make_kernels(target, HOSTILE)
    answer = run_program(build_program(kernels, target, "0123abcd"), target, *QUICK)
    document = answer.document
    assert answer.code == 0
    assert (document["target"], document["design"], document["repeats"]) == (name, "0123abcd", 3)
    assert [entry["layer"] for entry in document["kernels"]] == list(HOSTILE)
    for entry, kernel in zip(document["kernels"], kernels, strict=True):
        assert entry["factorization"] == str(kernel.artifact.spec.choice)
        assert entry["schedule"] == str(kernel.artifact.schedule)
        # float32 sums of so few terms: above rounding of a double, far below the tolerance.
        assert 1e-10 < entry["max_error"] < 1e-5
        assert entry["calls"] >= 1
    for median, low, high in [document["all_ns"], *(k[r] for k in document["kernels"] for r in ("warm_ns", "cold_ns"))]:
        assert 0 <= low <= median <= high < 1e9
    board = document["board"]
    assert board["uname"]["machine"] == {"armv7": "armv7l", "host": "x86_64"}.get(name, target.isa)
    assert board["vector_bits"] == (256 if name == "riscv64" else None)
    assert board["emulator"] == (Path(target.emulator[0]).name if target.emulator else None)
    # The emulator tells of this machine's cache, which must not be followed to any size.
    followed = 2 * max(1024 * target.last_level.kib, board["largest_cache_bytes"] or 0)
    assert board["evicted_bytes"] == min(followed, 16 * 1024 * target.last_level.kib)


def test_the_program_is_static_and_the_same_every_time(make_kernels):
    target = load_target("aarch64")
    kernels = make_kernels(target)
    program = build_program(kernels, target, "0123abcd")
    assert program[:4] == b"\x7fELF"
    assert b"ld-linux" not in program
    assert b"ld-musl" not in program
    assert program == build_program(kernels, target, "0123abcd")


def test_layers_may_be_called_as_the_program_itself_is(compile_c, run_program):
    """C symbols of kernels begin with lrf_, whatever the layer is called; nothing of the program does."""
    target = load_target("aarch64")
    program = compile_c("", target, symbol="lrf_main")
    assert run_program(program, target, *QUICK).code == 0
    sources = "".join(path.read_text() for path in data_folder("qemu").glob("bench*.[ch]"))
    assert "lrf_" not in sources


def test_a_program_without_kernels_describes_the_board(run_program):
    target = load_target("riscv64")
    answer = run_program(build_program((), target, ""), target)
    assert answer.code == 0
    assert answer.document["kernels"] == []
    assert "all_ns" not in answer.document
    assert answer.document["board"]["uname"]["sysname"] == "Linux"


@pytest.mark.parametrize(("deviation", "code"), [(0.8e-4, 0), (1.3e-4, 1), (np.nan, 1)])
def test_outputs_may_deviate_as_much_as_the_meters_allow(deviation, code, make_kernels, run_program):
    """Of the largest reference element; found in the last kernel, which is named."""
    target = load_target("aarch64")
    *others, last = make_kernels(target, ("a", "b", "c", "the last"))
    expected = last.expected.copy()
    expected[np.argmin(np.abs(expected))] += deviation * np.abs(expected).max()
    program = build_program([*others, dataclasses.replace(last, expected=expected)], target, "0123abcd")
    answer = run_program(program, target, *QUICK)
    assert answer.code == code
    if code:
        assert answer.document["error"].startswith("wrong output")
        assert answer.document["kernel"]["layer"] == "the last"
        assert "kernels" not in answer.document


def test_corrupt_weights_are_noticed(make_kernels, run_program):
    target = load_target("riscv64")
    kernels = make_kernels(target)
    program = build_program(kernels, target, "0123abcd")
    weight = kernels[1].arrays[1].tobytes()
    assert program.count(weight) == 1
    damaged = bytearray(program)
    damaged[program.index(weight) + 4 * 5 + 3] ^= 0x80
    answer = run_program(bytes(damaged), target, *QUICK)
    assert answer.code == 1
    assert answer.document["error"].startswith("wrong output")
    assert answer.document["kernel"]["layer"] == "fc1"


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("", None),
        ("y[8] = 1;", "wrote beyond an array"),
        ("w[3] = 0;", "changed its input or its weights"),
        ("x[0] += 1;", "changed its input or its weights"),
        ("y[2] = 0.0f / (w[0] - w[0]);", "not a number"),
        ("*(volatile int *)16 = 1;", "crashed"),
        ("__builtin_trap();", "illegal instruction"),
    ],
)
def test_what_a_kernel_does_wrong_is_said_with_its_layer(body, error, compile_c, run_program):
    target = load_target("riscv64-u74")
    answer = run_program(compile_c(body, target, 'a "layer"'), target, *QUICK)
    if error is None:
        assert answer.code == 0
        return
    assert answer.code == 1
    assert error in answer.document["error"]
    assert answer.document["kernel"]["layer"] == 'a "layer"'


@pytest.mark.parametrize("name", ["riscv64-u74", "armv7"])
def test_a_kernel_without_end_is_ended_by_the_limit_and_named(name, compile_c, run_program):
    """However slow the machine is: the limit runs from the first kernel on, and this one never ends."""
    target = load_target(name)
    program = compile_c("for (volatile int i = 0; ; ) i++;", target, 'a "layer"')
    answer = run_program(program, target, *QUICK, "--limit", "1")
    assert answer.code == 1
    assert "no end within the time limit" in answer.document["error"]
    assert answer.document["kernel"]["layer"] == 'a "layer"'


@pytest.mark.parametrize("kib", [1, 512, 1 << 14])
@pytest.mark.parametrize(("told", "size"), [("480M", 480 << 20), ("1024K", 1 << 20), ("nothing", None)])
def test_what_is_written_before_cold_calls_follows_the_target(told, size, kib, compile_c, run_program, tmp_path):
    """The emulator shows the program files of a machine that tells of a huge cache, of a small one, or of none."""
    target = load_target("riscv64-u74")
    target = dataclasses.replace(target, last_level=dataclasses.replace(target.last_level, kib=kib))
    for core in os.sched_getaffinity(0):
        folder = tmp_path / f"root/sys/devices/system/cpu/cpu{core}/cache"
        for number, text in enumerate(("32K", told, *("none" for _ in range(8)))):
            (folder / f"index{number}").mkdir(parents=True)
            (folder / f"index{number}/size").write_text("none" if told == "nothing" else text)
    emulator = (target.emulator[0], "-L", str(tmp_path / "root"), *target.emulator[1:])
    board = run_program(compile_c("", target), target, *QUICK, emulator=emulator).document["board"]
    assert board["largest_cache_bytes"] == size
    assert board["evicted_bytes"] == evicted_bytes(target, size)
    assert 2 * 1024 * kib <= board["evicted_bytes"] <= 16 * 1024 * kib


@pytest.mark.parametrize(
    ("features", "error"),
    [("v=false", "illegal instruction"), ("v=true,vlen=128,elen=64", "vector registers are shorter")],
)
def test_a_board_without_the_vectors_is_told_in_words(features, error, make_kernels, run_program):
    target = load_target("riscv64")
    program = build_program(make_kernels(target), target, "0123abcd")
    answer = run_program(program, target, emulator=("qemu-riscv64", "-cpu", f"rv64,{features}"))
    assert answer.code == 1
    assert error in answer.document["error"]


def test_a_board_with_longer_vectors_runs_the_kernels(make_kernels, run_program):
    """As docs/kernels.md says: a part of them is used."""
    target = load_target("riscv64")
    program = build_program(make_kernels(target), target, "0123abcd")
    longer = ("qemu-riscv64", "-cpu", "rv64,v=true,vlen=512,elen=64,vext_spec=v1.0")
    answer = run_program(program, target, *QUICK, emulator=longer)
    assert answer.code == 0
    assert answer.document["board"]["vector_bits"] == 512


@pytest.mark.parametrize(
    "arguments",
    [("--repeats",), *(("--repeats", value) for value in ("0", "1002", "3x", "")), ("--min-time", "-1"), ("-h",)],
)
def test_wrong_options_are_refused(arguments, run_program, compile_c):
    target = load_target("aarch64")
    answer = run_program(compile_c("", target), target, *arguments)
    assert answer.code == 2
    assert answer.document["error"].startswith("usage: bench")


def test_a_core_that_is_not_there_is_said(run_program, compile_c):
    target = load_target("aarch64")
    assert "no core" in run_program(compile_c("", target), target, "--core", "8000").document["error"]
    assert run_program(compile_c("", target), target, *QUICK, "--core", "0").document["board"]["core"] == 0


def test_arrays_that_do_not_fit_are_refused(make_kernels):
    target = load_target("aarch64")
    kernel = make_kernels(target)[0]
    for wrong in ({"arrays": kernel.arrays[:-1]}, {"expected": kernel.expected[:-1]}):
        with pytest.raises(ValueError, match="do not fit a kernel with arrays of"):
            build_program([dataclasses.replace(kernel, **wrong)], target, "0123abcd")


def test_too_many_weights_get_no_program(make_kernels):
    target = load_target("aarch64")
    kernel = make_kernels(target)[0]
    # A view of one element: as large as the limit, without the memory.
    large = np.broadcast_to(np.zeros(1, np.float32), (MOST_BYTES // 4 + 1,))
    with pytest.raises(ToolError, match="at most 512 MiB"):
        build_program([dataclasses.replace(kernel, arrays=[large])], target, "0123abcd")


modes = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(modes, st.data())
def test_the_reference_is_the_product_with_the_dense_matrix(pairs, data):
    ranks = tuple(data.draw(st.integers(1, 4)) for _ in pairs[1:])
    direction = data.draw(st.sampled_from(["rl", "lr"]))
    shape = Factorization(tuple(m for m, _ in pairs), tuple(n for _, n in pairs), ranks, direction)
    outputs, inputs = (data.draw(st.integers(max(1, size - 2), size)) for size in (shape.outputs, shape.inputs))
    rows, bias, relu = data.draw(st.integers(1, 3)), data.draw(st.booleans()), data.draw(st.booleans())
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    cores = [rng.standard_normal(size).astype(np.float32).astype(np.float64) for size in shape.core_shapes]
    dense = np.ones((1, 1, 1))
    for core in cores:
        joined = np.einsum("MNa,amnb->MmNnb", dense, core)
        dense = joined.reshape(joined.shape[0] * joined.shape[1], -1, joined.shape[-1])
    x = rng.standard_normal((rows, inputs)).astype(np.float32).astype(np.float64)
    added = rng.standard_normal(outputs).astype(np.float32).astype(np.float64)
    wanted = x @ dense[:outputs, :inputs, 0].T + (added if bias else 0)
    wanted = np.maximum(wanted, 0) if relu else wanted
    spec = KernelSpec(outputs, inputs, shape, rows, bias, relu)
    found = reference(spec, x, cores, added if bias else None)
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12 * max(1.0, np.abs(wanted).max()))
