"""The plugin's nested loops against QEMU's own log, and the cutting of nests against engines whose cycles are exact."""

from __future__ import annotations

import itertools
import re
import subprocess
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrfdse.meters.image import Image
from lrfdse.meters.nest import Loop, cut, flatten
from lrfdse.meters.trace import record
from lrfdse.targets.isa.code import Instruction
from lrfdse.toolchain import zig
from lrfdse.toolchain.programs import require_emulator

NESTED = """
void kernel(float *x, float *w, float *y) {
    for (int i = 0; i < 6; i++) {
        float sum = 0;
        for (int j = 0; j < 4; j++)
            for (int k = 0; k < 7; k++) {
                __asm__ volatile("" ::: "memory");
                sum += w[i * 28 + j * 7 + k] * x[j * 7 + k];
                if (k == 3) __asm__ volatile("" ::: "memory");
            }
        if (i % 3 == 1) __asm__ volatile("" ::: "memory");
        y[i] = sum;
    }
}
"""
"""No loop of it becomes one vector operation, and its third loop is entered often."""


def _case(compile_c, target):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal(28).astype(np.float32), rng.standard_normal((6, 28)).astype(np.float32)
    artifact = compile_c(NESTED, target, (28, 168, 6), ("-O1", "-fno-unroll-loops"))
    return artifact, [x, w.ravel()], w.astype(np.float64) @ x.astype(np.float64)


@pytest.mark.parametrize("name", ["riscv64", "riscv64-u74", "aarch64", "armv7"])
def test_the_nest_is_what_the_emulator_executed(name, measured_target, compile_c, tmp_path):
    """QEMU logs every instruction when it runs one at a time."""
    target = measured_target(name)
    artifact, arrays, expected = _case(compile_c, target)
    trace = record(artifact, target, arrays, expected, timeout=600)
    at = {run.id: [a for a in sorted(trace.code) if run.start <= a < run.end] for run in trace.runs}
    found = [address for run in flatten(trace.nest) for address in at[run]]
    program = zig.link(artifact, zig.harness(target, len(artifact.arguments)), tmp_path)
    Image(artifact, arrays, expected).write(tmp_path / "image")
    command = [require_emulator(target).path, *target.emulator[1:], "-singlestep", "-d", "exec,nochain", "-D", "log"]
    subprocess.run([*command, program.name], cwd=tmp_path, check=True, timeout=600)
    log = re.findall(r"^Trace \d+: 0x\w+ \[\w+/(\w+)/.*\] (\w*)$", (tmp_path / "log").read_text(), re.MULTILINE)
    symbols = [symbol for _, symbol in log]
    executed = [int(address, 16) for address, _ in log[symbols.index("lrf_begin") : symbols.index("lrf_end")]]
    assert found == executed
    assert any(isinstance(item, Loop) for item in trace.nest)


_RUNS = st.integers(1, 4)
_NESTS = st.recursive(
    st.lists(_RUNS, min_size=1, max_size=4).map(tuple),
    lambda inner: st.lists(st.one_of(_RUNS, st.builds(Loop, st.integers(1, 9), inner)), min_size=1, max_size=4).map(
        tuple
    ),
    max_leaves=6,
)
_SIZES = st.lists(st.integers(1, 7), min_size=5, max_size=5)


def _cost(one: Instruction, other: Instruction) -> int:
    """Cycles that depend on an instruction and on the one before it, and on nothing else."""
    return 1 + zlib.crc32(f"{one.text} {other.text}".encode()) % 5


def _walk(sequence):
    return sum(_cost(a, b) for a, b in itertools.pairwise(sequence))


@given(nest=_NESTS, sizes=_SIZES, context=st.integers(1, 12))
def test_pieces_add_up_to_the_whole(nest, sizes, context):
    nest = (0, *nest)
    sequences = {run: tuple(Instruction(f"{run}.{i}") for i in range(size)) for run, size in enumerate(sizes)}
    pieces = cut(nest, sequences, context)
    whole = tuple(instruction for run in flatten(nest) for instruction in sequences[run])
    added = sum(times * (_walk(before + after) - _walk(before)) for (before, after), times in pieces.pairs.items())
    steady = sum(times * (_walk(body + body) - _walk(body)) for body, times in pieces.loops.items())
    assert added + steady == _walk(whole) - _walk(sequences[0])
    sizes_of = [(after, times) for (_, after), times in pieces.pairs.items()] + list(pieces.loops.items())
    assert sum(len(sequence) * times for sequence, times in sizes_of) == len(whole) - len(sequences[0])
    assert all(len(before) <= max(context, sizes[0]) for before, _ in pieces.pairs)


def test_long_loops_are_not_written_out():
    sequences = {run: tuple(Instruction(f"{run}.{i}") for i in range(10)) for run in range(4)}
    pieces = cut((0, Loop(10**9, (1, Loop(10**9, (2,)), 3))), sequences, 32)
    assert sum(len(before) + len(after) for before, after in pieces.pairs) < 2000
    assert pieces.loops == {sequences[2]: 10**18 - 4 * 10**9}
