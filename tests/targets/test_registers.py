"""What instructions read and write, in the text that llvm-mc prints."""

from __future__ import annotations

import pytest

from lrfdse.targets.isa import instruction_set
from lrfdse.targets.isa.code import Instruction

M1, M2, M4, MF2 = 0b010_000, 0b010_001, 0b010_010, 0b010_111


def _check(isa, text, writes, reads, updates="", vtype=None):
    found = instruction_set(isa).registers(Instruction(text, vtype))
    assert set(found.writes) == set(writes.split()), text
    assert set(found.reads) == set(reads.split()), text
    assert set(found.updates) == set(updates.split()), text


@pytest.mark.parametrize(
    ("text", "writes", "reads", "vtype"),
    [
        ("addi a0, a1, -4", "a0", "a1", None),
        ("li a0, 7", "a0", "", None),
        ("add zero, a1, a2", "", "a1 a2", None),
        ("mv s1, a0", "s1", "a0", None),
        ("lw a0, 0(sp)", "a0", "sp", None),
        ("sd ra, 8(sp)", "", "ra sp", None),
        ("flw fa5, 12(a0)", "fa5", "a0", None),
        ("fsw fa5, 12(a0)", "", "fa5 a0", None),
        ("fmadd.s fa0, fa1, fa2, fa3", "fa0", "fa1 fa2 fa3", None),
        ("sh2add a0, a1, a2", "a0", "a1 a2", None),
        ("slli a0, a0, 2", "a0", "a0", None),
        ("seqz a0, a1", "a0", "a1", None),
        ("bne a0, a1, -24", "", "a0 a1", None),
        ("beqz a0, 8", "", "a0", None),
        ("j -20", "", "", None),
        ("ret", "", "", None),
        ("jalr a5", "ra", "a5", None),
        ("jal 100", "ra", "", None),
        ("sext.w a0, a1", "a0", "a1", None),
        ("sb a0, 0(a1)", "", "a0 a1", None),
        ("vsetivli zero, 8, e32, m1, ta, ma", "", "", None),
        ("vsetvli a0, a1, e32, m2, ta, ma", "a0", "a1", None),
        ("vle32.v v8, (a0)", "v8 v9", "a0", M2),
        ("vlse32.v v8, (a0), a1", "v8", "a0 a1", M1),
        ("vse32.v v8, (a0)", "", "v8 v9 v10 v11 a0", M4),
        ("vfmacc.vf v8, fa0, v16", "v8", "v8 v16 fa0", MF2),
        ("vfmul.vf v8, v16, fa0", "v8 v9", "v16 v17 fa0", M2),
        ("vfmacc.vv v8, v16, v24", "v8 v9", "v8 v9 v16 v17 v24 v25", M2),
        ("vfmv.v.f v8, fa0", "v8 v9", "fa0", M2),
        ("vfredusum.vs v8, v16, v24", "v8", "v16 v17 v24", M2),
        ("vfmv.f.s fa0, v8", "fa0", "v8", M4),
        ("vmv.s.x v8, zero", "v8", "v8", M4),
        ("vl2re32.v v8, (a0)", "v8 v9", "a0", M1),
        ("vs4r.v v8, (a0)", "", "v8 v9 v10 v11 a0", M1),
        ("vfwmacc.vv v8, v16, v18", "v8 v9 v10 v11", "v8 v9 v10 v11 v16 v17 v18 v19", M2),
        ("vadd.vv v8, v16, v17, v0.t", "v8", "v8 v16 v17 v0", M1),
        ("vmv1r.v v8, v9", "v8", "v9", M4),
        ("vslidedown.vi v8, v16, 1", "v8", "v16", M1),
    ],
)
def test_riscv(text, writes, reads, vtype):
    _check("riscv64", text, writes, reads, vtype=vtype)


@pytest.mark.parametrize(
    ("text", "writes", "reads", "updates"),
    [
        ("add x0, x1, #4", "x0", "x1", ""),
        ("add w0, w1, w2, lsl #2", "x0", "x1 x2", ""),
        ("subs x0, x0, #1", "x0 nzcv", "x0", ""),
        ("cmp x0, x1", "nzcv", "x0 x1", ""),
        ("b.ne #-16", "", "nzcv", ""),
        ("cbnz x0, #-16", "", "x0", ""),
        ("csel x0, x1, x2, eq", "x0", "x1 x2 nzcv", ""),
        ("cset w0, lt", "x0", "nzcv", ""),
        ("mov x0, xzr", "x0", "", ""),
        ("movk x0, #1, lsl #16", "x0", "x0", ""),
        ("ldr q0, [x0, #16]", "v0", "x0", ""),
        ("ldr s0, [x0], #4", "v0", "x0", "x0"),
        ("ldr q0, [x0, x1, lsl #4]", "v0", "x0 x1", ""),
        ("ldr q0, [x0, #16]!", "v0", "x0", "x0"),
        ("ldp q0, q1, [sp, #32]", "v0 v1", "sp", ""),
        ("stp x29, x30, [sp, #-16]!", "", "x29 x30 sp", "sp"),
        ("str q0, [x0], #16", "", "v0 x0", "x0"),
        ("ld1 { v0.4s, v1.4s }, [x0], #32", "v0 v1", "x0", "x0"),
        ("ld1 { v0.s }[1], [x0]", "v0", "x0 v0", ""),
        ("ld1r { v0.4s }, [x0]", "v0", "x0", ""),
        ("st1 { v0.4s - v3.4s }, [x0]", "", "v0 v1 v2 v3 x0", ""),
        ("fmla v0.4s, v1.4s, v2.4s", "v0", "v0 v1 v2", ""),
        ("fmla v0.4s, v1.4s, v2.s[3]", "v0", "v0 v1 v2", ""),
        ("fmul v0.4s, v1.4s, v2.s[3]", "v0", "v1 v2", ""),
        ("fmadd s0, s1, s2, s3", "v0", "v1 v2 v3", ""),
        ("faddp v0.4s, v1.4s, v1.4s", "v0", "v1", ""),
        ("dup v0.4s, v1.s[0]", "v0", "v1", ""),
        ("mov v0.s[1], v1.s[0]", "v0", "v0 v1", ""),
        ("movi v0.2d, #0000000000000000", "v0", "", ""),
        ("fmax v0.4s, v0.4s, v1.4s", "v0", "v0 v1", ""),
        ("fcmp s0, #0.0", "nzcv", "v0", ""),
        ("bl #64", "x30", "", ""),
        ("blr x8", "x30", "x8", ""),
        ("ret", "", "x30", ""),
        ("prfm pldl1keep, [x0]", "", "x0", ""),
        ("adrp x0, #4096", "x0", "", ""),
    ],
)
def test_aarch64(text, writes, reads, updates):
    _check("aarch64", text, writes, reads, updates)


@pytest.mark.parametrize(
    ("text", "writes", "reads", "updates"),
    [
        ("add r0, r1, #4", "r0", "r1", ""),
        ("add r0, r1, r2, lsl #2", "r0", "r1 r2", ""),
        ("subs r0, r0, #1", "r0 cpsr", "r0", ""),
        ("cmp r0, r1", "cpsr", "r0 r1", ""),
        ("bne #-16", "", "cpsr", ""),
        ("blt #-16", "", "cpsr", ""),
        ("bl #16", "r14", "", ""),
        ("bx lr", "", "r14", ""),
        ("movlt r0, r1", "r0", "r0 r1 cpsr", ""),
        ("movt r0, #1", "r0", "r0", ""),
        ("mla r0, r1, r2, r3", "r0", "r1 r2 r3", ""),
        ("ldr r0, [r1, #4]", "r0", "r1", ""),
        ("ldr r0, [r1], #4", "r0", "r1", "r1"),
        ("str r0, [sp, #-4]!", "", "r0 r13", "r13"),
        ("push {r4, r5, lr}", "", "r4 r5 r14 r13", "r13"),
        ("pop {r4-r6, pc}", "r4 r5 r6 r15", "r13", "r13"),
        ("vpush {d8, d9}", "", "s16 s17 s18 s19 r13", "r13"),
        ("ldm r0!, {r1, r2}", "r1 r2", "r0", "r0"),
        ("vldr s0, [r0, #4]", "s0", "r0", ""),
        ("vldr d1, [r0]", "s2 s3", "r0", ""),
        ("vstr s0, [r0]", "", "s0 r0", ""),
        ("vld1.32 {d16, d17}, [r0]!", "d16 d17", "r0", "r0"),
        ("vld1.64 {d0, d1}, [r0:128], r1", "s0 s1 s2 s3", "r0 r1", "r0"),
        ("vld1.32 {d0[]}, [r0:32]", "s0 s1", "r0", ""),
        ("vld1.32 {d0[1]}, [r0:32]", "s0 s1", "r0 s0 s1", ""),
        ("vst1.32 {d16, d17}, [r0]", "", "d16 d17 r0", ""),
        ("vmul.f32 q8, q9, d0[1]", "d16 d17", "d18 d19 s0 s1", ""),
        ("vadd.f32 q8, q8, q9", "d16 d17", "d16 d17 d18 d19", ""),
        ("vmla.f32 q0, q1, q2", "s0 s1 s2 s3", "s0 s1 s2 s3 s4 s5 s6 s7 s8 s9 s10 s11", ""),
        ("vfma.f32 q8, q9, q10", "d16 d17", "d16 d17 d18 d19 d20 d21", ""),
        ("vmls.f32 s0, s1, s2", "s0", "s0 s1 s2", ""),
        ("vmov.f32 s0, s1", "s0", "s1", ""),
        ("vdup.32 q8, d0[1]", "d16 d17", "s0 s1", ""),
        ("vmov.i32 q8, #0x0", "d16 d17", "", ""),
        ("vmax.f32 q8, q8, q9", "d16 d17", "d16 d17 d18 d19", ""),
        ("vmov.32 d16[0], r0", "d16", "d16 r0", ""),
    ],
)
def test_armv7(text, writes, reads, updates):
    _check("armv7", text, writes, reads, updates)


def test_canonical_texts_keep_what_costs_depend_on():
    canonical = instruction_set("riscv64").canonical
    same = [
        ("flw fa5, 124(a3)", "flw ft2, -4(s11)"),
        ("vle32.v v4, (a0)", "vle32.v v28, (s1)"),
        ("add a0, a1, a2", "add s1, t0, a7"),
        ("addi a0, a0, 64", "addi s1, s1, -4"),
        ("bne a0, a1, -76", "bne t2, a4, 1122"),
    ]
    for one, other in same:
        assert canonical(Instruction(one)) == canonical(Instruction(other))
    different = [
        ("add a0, a1, a2", "add a0, a1, zero"),
        ("addi a0, a0, 64", "addi a0, a1, 64"),
        ("li a0, 0", "li a0, 1"),
        ("vadd.vv v8, v9, v10", "vadd.vv v8, v9, v10, v0.t"),
        ("vsetivli zero, 8, e32, m1, ta, ma", "vsetivli zero, 8, e32, m2, ta, ma"),
        ("vfmacc.vv v8, v9, v10", "vfmacc.vv v8, v9, v9"),
    ]
    for one, other in different:
        assert canonical(Instruction(one)) != canonical(Instruction(other))
    assert canonical(Instruction("vle32.v v8, (a0)", M1)) != canonical(Instruction("vle32.v v8, (a0)", M2))
