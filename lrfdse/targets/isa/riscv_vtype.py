"""RVV's vtype: the element width and register group under which vector instructions run."""

from __future__ import annotations

import re
from collections.abc import Iterable

from lrfdse.targets.isa.code import Instruction, Sequence

E32_M1 = 0b010_000
"""Elements of 32 bits in single registers."""

_SEW_BITS = {8: 0, 16: 1, 32: 2, 64: 3}
"""Bits 3 to 5 of vtype by element width, from the RVV 1.0 specification, section 3.4."""
_LMUL_BITS = {"m1": 0, "m2": 1, "m4": 2, "m8": 3, "mf8": 5, "mf4": 6, "mf2": 7}
"""Bits 0 to 2 of vtype by register group, from the RVV 1.0 specification, section 3.4."""
_VSET = re.compile(r"vseti?vli .*\be(8|16|32|64), ?(mf?[1248])\b")


def with_vtype(texts: Iterable[str], vtype: int | None) -> Sequence:
    """Attach to each vector instruction the vtype in force, which vset instructions in the text change.

    >>> with_vtype(["vsetivli zero, 8, e32, m1, ta, ma", "vle32.v v8, (a0)", "add a0, a0, a1"], None)[1:]
    (Instruction(text='vle32.v v8, (a0)', vtype=16), Instruction(text='add a0, a0, a1', vtype=None))
    """
    sequence = []
    for text in texts:
        if text.startswith("vset"):
            found = _VSET.match(text)
            vtype = _SEW_BITS[int(found[1])] << 3 | _LMUL_BITS[found[2]] if found else None
            sequence.append(Instruction(text))
        else:
            is_vector = text.startswith("v") and vtype is not None
            sequence.append(Instruction(text, vtype & 0x3F if is_vector and vtype is not None else None))
    return tuple(sequence)


def vtype_hints(sequence: Sequence) -> tuple[str, ...]:
    """Return the comments that give llvm-mca the first vtype: it takes the worst LMUL unless told before the code.

    >>> vtype_hints((Instruction("li a0, 1"), Instruction("vle32.v v8, (a0)", 0b010_001)))
    ('LLVM-MCA-RISCV-LMUL M2', 'LLVM-MCA-RISCV-SEW E32')
    """
    first = next((instruction.vtype for instruction in sequence if instruction.vtype is not None), None)
    return () if first is None else (f"LLVM-MCA-RISCV-LMUL {lmul(first)}", f"LLVM-MCA-RISCV-SEW {sew(first)}")


def lmul(vtype: int) -> str:
    """Return the register group of a vtype in LLVM's spelling.

    >>> lmul(0b010_010), lmul(0b010_111)
    ('M4', 'MF2')
    """
    return {bits: name for name, bits in _LMUL_BITS.items()}[vtype & 7].upper()


def sew(vtype: int) -> str:
    """Return the element width of a vtype in LLVM's spelling.

    >>> sew(0b010_000)
    'E32'
    """
    return {bits: f"E{width}" for width, bits in _SEW_BITS.items()}[vtype >> 3 & 7]


def form(instruction: Instruction) -> str:
    """Return an instruction's mnemonic, with element width, register group and mask where it runs under a vtype.

    >>> form(Instruction("vle32.v v8, (a0)", 0b010_001)), form(Instruction("flw fa0, 0(a0)"))
    ('vle32.v e32m2', 'flw')
    >>> form(Instruction("vadd.vv v8, v16, v24, v0.t", 0b000_111))
    'vadd.vv e8mf2 masked'
    """
    mnemonic, _, operands = instruction.text.partition(" ")
    if instruction.vtype is None:
        return mnemonic
    masked = " masked" if operands.endswith("v0.t") else ""
    return f"{mnemonic} {sew(instruction.vtype)}{lmul(instruction.vtype)}".lower() + masked
