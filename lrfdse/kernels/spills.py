"""Register spills in the assembly of a kernel."""

from __future__ import annotations

import re

from lrfdse.design import Artifact

_SPILLS = (
    # RVV: whole-register loads and stores only ever go to the stack; kernels load vectors with vle32.
    r"\bv[sl][1248]r(e\d+)?\.v\b",
    # RISC-V scalar: callee-saved registers are saved with fsd, spills of floats with fsw.
    r"\bf[ls]w\s+f\w+,\s*-?\d*\(sp\)",
    # AArch64: callee-saved registers are the d halves.
    r"\b(ldr|str|ldp|stp|ldur|stur)\s+[qs]\d+,.*\[sp\b",
    # ARM: only stack slots are known to be aligned.
    r"\bv(ld|st)1\.\d+\s+\{[^}]*\},\s*\[\w+\s*:(64|128)\]",
    r"\bv(ld|st)(r|mia)\s+[sdq]?\d*,?.*\bsp\b",
    # x86-64, also as an operand of arithmetic.
    r"(?=.*%[xyz]mm\d)(?=.*\(%r[sb]p\b)",
)


def spills(artifact: Artifact) -> int:
    """Return how many instructions of the kernel move a vector or a float between a register and the stack.

    Raises
    ------
    ValueError
        The kernel was compiled without its assembly.
    """
    if not artifact.assembly:
        raise ValueError(f"{artifact.symbol} was compiled without assembly, which holds the spills")
    pattern = re.compile("|".join(_SPILLS))
    return sum(1 for line in artifact.assembly.splitlines() if pattern.search(line))
