"""Summaries of kernels' machine code, against LLVM's own reading of the object files."""

from __future__ import annotations

import re
import subprocess

import pytest

from lrfdse.catalog import load_target, names
from lrfdse.design import Factorization, KernelSpec
from lrfdse.explore.assembly import CLASSES, class_of, code_size, innermost_loops, instructions, kernel_text, mix
from lrfdse.kernels import compile_kernel, schedules
from lrfdse.measure.toolchain import find_llvm

SPEC = KernelSpec(64, 48, Factorization.svd(64, 48, 12), 1, True, True)
KNOWN = {
    "riscv64": {
        "vfmacc.vf v8, fa5, v24": "vector multiply-add",
        "vfmadd.vv v16, v28, v20": "vector multiply-add",
        "fmadd.s fa5, fa4, fa3, fa2": "scalar multiply-add",
        "vle32.v v24, (a2)": "vector load",
        "vl2re32.v v8, (a0)": "vector load",
        "vlse32.v v8, (a0), a1": "vector load",
        "vse32.v v8, (a5)": "vector store",
        "vs1r.v v8, (sp)": "vector store",
        "vslidedown.vi v8, v8, 4": "other vector",
        "vsub.vv v8, v9, v10": "other vector",
        "vsll.vi v8, v8, 2": "other vector",
        "vsetivli zero, 16, e32, m2, ta, ma": "vector configuration",
        "flw fa5, 0(a0)": "scalar load",
        "fsd fs0, 8(sp)": "scalar store",
        "sd ra, 8(sp)": "scalar store",
        "fsub.s fa0, fa1, fa2": "other float",
        "fmax.s fa0, fa1, fa2": "other float",
        "bne a2, t0, .LBB0_1": "branch",
        "bset a0, a1, a2": "integer",
        "sh2add a0, a1, a2": "integer",
        "srli a0, a0, 3": "integer",
    },
    "aarch64": {
        "fmla v5.4s, v18.4s, v22.s[0]": "vector multiply-add",
        "fmadd s0, s1, s2, s3": "scalar multiply-add",
        "ldp q6, q16, [x2]": "vector load",
        "ld1r { v7.4s }, [x8], #4": "vector load",
        "ldr s22, [x8]": "scalar load",
        "str q0, [x3]": "vector store",
        "stp d9, d8, [sp, #-64]!": "scalar store",
        "movi v1.2d, #0000000000000000": "other vector",
        "dup v1.4s, v2.s[1]": "other vector",
        "fmaxnm s0, s1, s2": "other float",
        "b.ne .LBB0_1": "branch",
        "bic x0, x1, x2": "integer",
        "subs x8, x8, #8": "integer",
    },
    "armv7": {
        "vfma.f32 q8, q14, q3": "vector multiply-add",
        "vmla.f32 d8, d14, d3": "vector multiply-add",
        "vfma.f32 s0, s1, s2": "scalar multiply-add",
        "vmla.f32 s0, s1, s2": "scalar multiply-add",
        "vld1.32 {d28, d29}, [r7]!": "vector load",
        "vldmia r7, {d16, d17}": "vector load",
        "vldr s0, [r0]": "scalar load",
        "vstmia r7, {d16, d17}": "vector store",
        "vmov.i32 q8, #0x0": "other vector",
        "vadd.f32 s0, s1, s2": "other float",
        "bne .LBB0_1": "branch",
        "bx lr": "branch",
        "bic r0, r0, #1": "integer",
        "bfi r0, r1, #0, #4": "integer",
        "push {r4, lr}": "scalar store",
    },
    "x86_64": {
        "vfmadd231ps 256(%rdx), %ymm9, %ymm3": "vector multiply-add",
        "vfmadd213ss %xmm0, %xmm1, %xmm2": "scalar multiply-add",
        "vmovups 64(%rdx), %ymm7": "vector load",
        "vbroadcastss 4(%rdi), %ymm4": "vector load",
        "vbroadcastss %xmm0, %ymm4": "other vector",
        "vmovups %ymm7, 64(%rdx)": "vector store",
        "vmovups %zmm7, 64(%rdx) {%k1}": "vector store",
        "vmovss (%rdi,%rax,4), %xmm0": "scalar load",
        "vmovss %xmm0, 4(%rdi)": "scalar store",
        "movq %rax, -8(%rsp)": "scalar store",
        "movq -8(%rsp), %rax": "scalar load",
        "vaddps %ymm3, %ymm7, %ymm3": "other vector",
        "vaddss %xmm3, %xmm7, %xmm3": "other float",
        "vxorps %xmm0, %xmm0, %xmm0": "other vector",
        "jne .LBB0_1": "branch",
        "retq": "branch",
        "leaq 4(%rdi), %rax": "integer",
    },
}


@pytest.fixture(scope="module", params=names("targets"))
def compiled(request):
    target = load_target(request.param)
    return target, compile_kernel(SPEC, schedules(SPEC, target)[0], target, "lrf_fc1", assembly=True)


@pytest.mark.parametrize("isa", KNOWN)
def test_classes(isa):
    assert {text: class_of(text, isa) for text in KNOWN[isa]} == KNOWN[isa]


def test_nothing_is_lost_and_nothing_added(compiled, tmp_path):
    target, artifact = compiled
    tool = find_llvm("llvm-objdump")
    if tool is None:
        pytest.skip("llvm-objdump is not installed")
    (tmp_path / "kernel.o").write_bytes(artifact.object_code)
    command = [tool.path, "-d", "--no-show-raw-insn", "--disassemble-symbols=lrf_fc1", str(tmp_path / "kernel.o")]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = re.findall(r"^\s*([0-9a-f]+):\s+(?!nop)(\S+)(.*)$", listing, re.MULTILINE)  # nops align loops
    code = instructions(artifact.assembly, target.isa)
    assert len(code) == len(rows)
    assert sum(mix(code, target.isa).values()) == len(rows)
    assert set(mix(code, target.isa)) <= set(CLASSES)
    size = code_size(artifact.object_code, "lrf_fc1")
    assert int(rows[-1][0], 16) < size <= int(rows[-1][0], 16) + 15


def test_loops_are_those_that_branch_back(compiled):
    target, artifact = compiled
    for loop in innermost_loops(artifact.assembly, target.isa):
        assert loop.label in loop.instructions[-1]
        assert class_of(loop.instructions[-1], target.isa) == "branch"
        assert "\n" + "".join(f"{text}\n" for text in loop.instructions) in re.sub(
            r"[ \t]+", " ", re.sub(r"^[ \t]+|[ \t]+$", "", artifact.assembly, flags=re.MULTILINE)
        )


def test_the_innermost_of_nested_loops():
    assembly = "f:\n\tli a0, 4\n.LBB0_1:\n\tli a1, 4\n.LBB0_2:\n\taddi a1, a1, -1 # x\n\tbnez a1, .LBB0_2\n"
    assembly += "\taddi a0, a0, -1\n\tbnez a0, .LBB0_1\n\tbeqz a0, .LBB0_9\n.LBB0_9:\n\tret\n"
    (loop,) = innermost_loops(assembly, "riscv64")
    assert (loop.label, loop.instructions) == (".LBB0_2", ("addi a1, a1, -1", "bnez a1, .LBB0_2"))


def test_the_text_tells_size_spills_and_loop(compiled):
    target, artifact = compiled
    text = kernel_text("fc1", artifact, target)
    code = instructions(artifact.assembly, target.isa)
    assert f"{code_size(artifact.object_code, 'lrf_fc1'):,} bytes, {len(code):,} instructions" in text
    assert str(artifact.schedule) in text
    loops = innermost_loops(artifact.assembly, target.isa)
    assert ("unrolled whole" in text) == (not loops)
    assert loops or target.name != "riscv64"
    multiply = "vector multiply-add" if target.lanes > 1 else "scalar multiply-add"
    assert multiply in text


@pytest.mark.parametrize("content", [b"", b"MZ", b"\x7fELF\x02\x02" + bytes(60)])
def test_no_object_file_has_no_size(content):
    assert code_size(content, "f") is None
