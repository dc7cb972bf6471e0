"""The parts of the meter's benchmark against oracles: NumPy, hand-made distributions, llvm-nm."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.meter import cases, compare, loops
from benchmarks.meter.machine_target import TARGET
from benchmarks.meter.simulate_run import symbols
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.kernel import KernelSpec
from lrfdse.meters.meter import open_meter
from lrfdse.targets.catalog import load_target
from lrfdse.toolchain.programs import find_llvm, find_zig

TOP = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def target():
    return load_target(str(TARGET))


def test_errors_do_not_depend_on_the_scale_except_where_they_say_so():
    measured = [100.0, 200.0, 300.0, 400.0, 500.0]
    predicted = [90.0, 200.0, 300.0, 440.0, 1000.0]
    found = compare.errors(predicted, measured)
    assert (found.scale, found.median) == (1.0, pytest.approx(0.1))
    doubled = compare.errors([2 * cycles for cycles in predicted], measured)
    assert (doubled.scale, doubled.median, doubled.ninth) == (0.5, pytest.approx(found.median), found.ninth)
    assert doubled.unscaled == pytest.approx(1.0)


def test_ranks_and_regret():
    assert compare.rank_correlation([1, 2, 3], [10, 20, 30]) == pytest.approx(1)
    assert compare.rank_correlation([1, 2, 3], [30, 20, 10]) == pytest.approx(-1)
    assert compare.rank_correlation([1, 1, 1], [30, 20, 10]) == 0
    assert compare.regret([2, 1, 3], [10.0, 12.0, 9.0]) == pytest.approx(12 / 9 - 1)


@pytest.mark.parametrize("text", ["dense", "svd:r=3", "tt:m=4x3,n=5x7,r=2", "tt:m=2x3x2,n=5x1x7,r=2x3,lr"])
@pytest.mark.parametrize("form", ["sums", "products"])
def test_chains_as_loops_compute_the_layer(target, text, form):
    spec = KernelSpec(12, 35, Factorization.parse(text, 12, 35), 2, False, False)
    artifact = loops.compile_loops(spec, form, target, "kernel")
    measured = open_meter("model", target, timeout=600).measure(artifact, *loops.loop_arrays(spec, 0))
    assert measured.max_error < 1e-5


def test_the_expected_output_of_loops_is_the_chain_of_matrix_products():
    f = Factorization.parse("tt:m=4x3,n=5x7,r=2", 12, 35)
    (x, *weights), expected = loops.loop_arrays(KernelSpec(12, 35, f, 3, False, False), 1)
    current = x.astype(np.float64)
    for step, weight in zip(f.steps(3), weights[::-1], strict=True):
        matrix = weight.astype(np.float64).reshape(step.out, step.inner)
        current = matrix @ current.reshape(step.batch, step.inner, step.columns)
    assert current.reshape(3, 12) == pytest.approx(expected, rel=1e-5)


def test_variants_of_a_layer_differ_in_their_code(target):
    found = list(cases.cases(target, [(20, 30, "svd:r=4", 1)], 5))
    assert len({case.artifact.object_code for case in found}) == len(found) == 5 + len(loops.FORMS)
    assert {case.flops for case in found} == {2 * 4 * (20 + 30)}


def test_symbols_are_those_that_llvm_finds(tmp_path):
    nm = find_llvm("llvm-nm")
    if nm is None:
        pytest.skip("llvm-nm is not installed")
    labels = ".globl _start, other, result\n_start:\n  nop\nother:\n  nop\n.data\nresult:\n  .space 64\n"
    (tmp_path / "start.S").write_text(labels)
    zig = find_zig()
    assert zig is not None
    target = ["-target", "riscv64-freestanding"]
    subprocess.run([zig.path, "cc", *target, "-c", "start.S", "-o", "start.o"], cwd=tmp_path, check=True)
    subprocess.run([zig.path, "ld.lld", "-static", "start.o", "-o", "program"], cwd=tmp_path, check=True)
    printed = subprocess.run([nm.path, "program"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    named = {line.split()[-1]: int(line.split()[0], 16) for line in printed.splitlines()}
    found = symbols((tmp_path / "program").read_bytes())
    assert {name: found[name] for name in ("_start", "other", "result")} == {
        name: named[name] for name in ("_start", "other", "result")
    }


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the benchmark counts cycles of x86-64")
def test_one_layer_goes_through_all_of_it(tmp_path):
    command = [sys.executable, "-m", "benchmarks.meter", "--quick", "--rounds", "2", "--variants", "2"]
    subprocess.run([*command, "--out", str(tmp_path)], check=True, timeout=900, cwd=TOP)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["meter.md", "meter.svg", "raw"]
    assert "Spearman" in (tmp_path / "meter.md").read_text()
