"""RISC-V, 64 bit, with or without its vector extension (RVV)."""

from __future__ import annotations

from lrfdse.targets.isa import classes
from lrfdse.targets.isa.code import Instruction
from lrfdse.targets.isa.description import InstructionSet, Probe, Vectors
from lrfdse.targets.isa.riscv_registers import canonical, riscv_registers
from lrfdse.targets.isa.riscv_vtype import E32_M1, vtype_hints, with_vtype

RISCV64 = InstructionSet(
    name="riscv64",
    llvm="riscv64",
    machine="riscv64",
    zig="riscv64-linux-musl",
    comment="#",
    classes=(
        (classes.VECTOR_FMA, r"vfn?m(acc|add|sac|sub)\."),
        (classes.SCALAR_FMA, r"fn?m(add|sub)\."),
        (classes.VECTOR_CONFIGURATION, r"vset"),
        (classes.VECTOR_LOAD, r"vl(s?e\d|[1248]r|m\.|[uo]xei|s?seg)"),
        (classes.VECTOR_STORE, r"vs(s?e\d|[1248]r|m\.|[uo]xei|s?seg)"),
        (classes.OTHER_VECTOR, r"v"),
        (classes.SCALAR_LOAD, r"(fl[hwd]|l[bhwd]u?)\s"),
        (classes.SCALAR_STORE, r"(fs[hwd]|s[bhwd])\s"),
        (classes.BRANCH, r"(b(eq|ne|lt|ge|gt|le)\w*|j\w*|ret|call|tail)\b"),
        (classes.OTHER_FLOAT, r"f(?!ence)"),
    ),
    spills=(
        # Whole-register loads and stores only ever go to the stack; kernels load vectors with vle32.
        r"\bv[sl][1248]r(e\d+)?\.v\b",
        # Callee-saved registers are saved with fsd, spills of floats with fsw.
        r"\bf[ls]w\s+f\w+,\s*-?\d*\(sp\)",
    ),
    probe=Probe(
        fma="fmadd.s fs{0}, ft0, ft1, fs{0}",
        addition="addi s{0}, s{0}, 1",
        vector=Instruction("vfmacc.vf v8, ft0, v16", E32_M1),
        first=2,
    ),
    registers=riscv_registers,
    canonical=canonical,
    sequence=with_vtype,
    hints=vtype_hints,
    vectors=Vectors(
        any_length=True,
        grouped=True,
        strided=True,
        reducing=True,
        scalars_apart=True,
        length_varies=True,
    ),
    loads_ahead=True,
    holds_bodies=True,
    reassociates=True,
    abi_option="mabi",
)
