"""The class that the listing of machine code gives an instruction."""

from __future__ import annotations

import pytest

from lrfdse.targets.isa import instruction_set

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


@pytest.mark.parametrize("isa", KNOWN)
def test_classes(isa):
    assert {text: instruction_set(isa).class_of(text) for text in KNOWN[isa]} == KNOWN[isa]
