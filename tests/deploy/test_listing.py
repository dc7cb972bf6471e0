"""Summaries of kernels' machine code, against LLVM's own reading of the object files."""

from __future__ import annotations

import re
import subprocess

import pytest

from lrfdse.deploy.listing import code_size, innermost_loops, instructions, kernel_text, mix
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.kernel import KernelSpec
from lrfdse.kernels.build import compile_kernel
from lrfdse.kernels.schedules import schedules
from lrfdse.targets.catalog import load_target
from lrfdse.targets.isa import instruction_set
from lrfdse.targets.isa.classes import CLASSES
from lrfdse.toolchain.programs import find_llvm
from tests.plugins.targets import families

SPEC = KernelSpec(64, 48, Factorization.svd(64, 48, 12), 1, True, True)


@pytest.fixture(scope="module", params=families())
def compiled(request):
    target = load_target(request.param)
    return target, compile_kernel(SPEC, schedules(SPEC, target)[0], target, "lrf_fc1", assembly=True)


def test_nothing_is_lost_and_nothing_added(compiled, tmp_path):
    target, artifact = compiled
    tool = find_llvm("llvm-objdump")
    if tool is None:
        pytest.skip("llvm-objdump is not installed")
    (tmp_path / "kernel.o").write_bytes(artifact.object_code)
    command = [tool.path, "-d", "--no-show-raw-insn", "--disassemble-symbols=lrf_fc1", str(tmp_path / "kernel.o")]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = re.findall(r"^\s*([0-9a-f]+):\s+(?!nop)(\S+)(.*)$", listing, re.MULTILINE)  # nops align loops
    code = instructions(artifact.assembly, target.instruction_set)
    assert len(code) == len(rows)
    assert sum(mix(code, target.instruction_set).values()) == len(rows)
    assert set(mix(code, target.instruction_set)) <= set(CLASSES)
    size = code_size(artifact.object_code, "lrf_fc1")
    assert int(rows[-1][0], 16) < size <= int(rows[-1][0], 16) + 15


def test_loops_are_those_that_branch_back(compiled):
    target, artifact = compiled
    for loop in innermost_loops(artifact.assembly, target.instruction_set):
        assert loop.label in loop.instructions[-1]
        assert target.instruction_set.class_of(loop.instructions[-1]) == "branch"
        assert "\n" + "".join(f"{text}\n" for text in loop.instructions) in re.sub(
            r"[ \t]+", " ", re.sub(r"^[ \t]+|[ \t]+$", "", artifact.assembly, flags=re.MULTILINE)
        )


def test_the_innermost_of_nested_loops():
    assembly = "f:\n\tli a0, 4\n.LBB0_1:\n\tli a1, 4\n.LBB0_2:\n\taddi a1, a1, -1 # x\n\tbnez a1, .LBB0_2\n"
    assembly += "\taddi a0, a0, -1\n\tbnez a0, .LBB0_1\n\tbeqz a0, .LBB0_9\n.LBB0_9:\n\tret\n"
    (loop,) = innermost_loops(assembly, instruction_set("riscv64"))
    assert (loop.label, loop.instructions) == (".LBB0_2", ("addi a1, a1, -1", "bnez a1, .LBB0_2"))


def test_the_text_tells_size_spills_and_loop(compiled):
    target, artifact = compiled
    text = kernel_text("fc1", artifact, target)
    code = instructions(artifact.assembly, target.instruction_set)
    assert f"{code_size(artifact.object_code, 'lrf_fc1'):,} bytes, {len(code):,} instructions" in text
    assert str(artifact.schedule) in text
    loops = innermost_loops(artifact.assembly, target.instruction_set)
    assert ("unrolled whole" in text) == (not loops)
    assert loops or target.name != "riscv64"
    multiply = "vector multiply-add" if target.lanes > 1 else "scalar multiply-add"
    assert multiply in text


@pytest.mark.parametrize("content", [b"", b"MZ", b"\x7fELF\x02\x02" + bytes(60)])
def test_no_object_file_has_no_size(content):
    assert code_size(content, "f") is None
