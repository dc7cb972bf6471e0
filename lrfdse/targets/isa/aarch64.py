"""AArch64 with NEON."""

from __future__ import annotations

from lrfdse.targets.isa import classes
from lrfdse.targets.isa.arm_registers import aarch64_registers, form
from lrfdse.targets.isa.code import Instruction
from lrfdse.targets.isa.description import Dot, InstructionSet, Probe
from lrfdse.targets.isa.needs import TRAPS, Needs


def _needs(cpu: str, features: tuple[str, ...], lanes: int) -> Needs:
    words = "AArch64 with NEON, which every such core has."
    rest = f"What {cpu} has beyond ARMv8-A is not checked: where it is missing, {TRAPS}."
    return Needs(words, rest, "defined(__aarch64__)", ["return 1;"])


AARCH64 = InstructionSet(
    name="aarch64",
    llvm="aarch64",
    machine="aarch64",
    zig="aarch64-linux-musl",
    comment="//",
    classes=(
        (classes.VECTOR_FMA, r"fml[as]\s+v"),
        (classes.SCALAR_FMA, r"(fn?m(add|sub)|fml[as])\s"),
        (classes.VECTOR_LOAD, r"(ldn?p|ldu?r)\s+q|ld[1-4]r?\s"),
        (classes.VECTOR_STORE, r"(stn?p|stu?r)\s+q|st[1-4]\s"),
        (classes.SCALAR_LOAD, r"ld"),
        (classes.SCALAR_STORE, r"st"),
        (classes.BRANCH, r"(b|b\.\w+|blr?|br|cbn?z|tbn?z|ret)\b"),
        (classes.OTHER_VECTOR, r".*\b(v\d+\.|q\d)"),
        (classes.OTHER_FLOAT, r"f|.*\s[sd]\d+\b"),
    ),
    # Callee-saved registers are the d halves.
    spills=(r"\b(ldr|str|ldp|stp|ldur|stur)\s+[qs]\d+,.*\[sp\b",),
    probe=Probe(
        fma="fmadd s{0}, s0, s1, s{0}",
        addition="add x{0}, x{0}, #1",
        vector=Instruction("fmla v2.4s, v0.4s, v1.4s"),
        first=2,
    ),
    registers=aarch64_registers,
    form=form,
    needs=_needs,
    cpuinfo=("CPU implementer",),
    loads_ahead=True,
    dots=(
        Dot(
            group=4,
            element="int8",
            names={2: "llvm.aarch64.neon.sdot.v2i32.v8i8", 4: "llvm.aarch64.neon.sdot.v4i32.v16i8"},
            adds=True,
            feature="+dotprod",
        ),
    ),
    # Widening (fcvtl) is part of ARMv8-A.
    widens_halves=lambda cpu, features, lanes: True,
    abi_option="mfloat-abi",
)
