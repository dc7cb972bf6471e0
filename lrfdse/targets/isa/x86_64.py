"""x86-64 with AVX2 or AVX-512, in AT&T syntax."""

from __future__ import annotations

from lrfdse.targets.isa import classes
from lrfdse.targets.isa.code import Instruction
from lrfdse.targets.isa.description import InstructionSet, Probe

X86_64 = InstructionSet(
    name="x86_64",
    llvm="x86_64",
    machine="x86_64",
    zig="x86_64-linux-musl",
    comment="#",
    classes=(
        (classes.VECTOR_FMA, r"vfn?m(add|sub)\d+ps"),
        (classes.SCALAR_FMA, r"vfn?m(add|sub)\d+ss"),
        (classes.SCALAR_STORE, r"(vmovs[sd]|vmov[dq]|vextractps|mov\w*)\s+[%$].*, .*\(.*\)$|push"),
        (classes.SCALAR_LOAD, r"(vmovs[sd]|vmov[dq]|mov\w*)\s+[^%$]*\(|pop"),
        (classes.VECTOR_STORE, r"v(mov|extract)\S*\s.*\(.*\)( \{.*)?$"),
        (classes.VECTOR_LOAD, r"v(mov|broadcast)\S*\s+[^%$]*\("),
        (classes.OTHER_FLOAT, r"v(?!broadcast)\S+s[sd]\b"),
        (classes.OTHER_VECTOR, r"v"),
        (classes.BRANCH, r"(j\w+|ret\w*|call\w*)\b"),
    ),
    # Also as an operand of arithmetic.
    spills=(r"(?=.*%[xyz]mm\d)(?=.*\(%r[sb]p\b)",),
    probe=Probe(
        fma="vfmadd231ss %xmm0, %xmm1, %xmm{0}",
        addition="addq $1, %r{0}",
        vector=Instruction("vfmadd231ps %ymm0, %ymm1, %ymm2"),
        first=8,
    ),
    registers=None,
    folds_loads=True,
    abi_option="mfloat-abi",
)
