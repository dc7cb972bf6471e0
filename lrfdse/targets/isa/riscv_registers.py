"""Registers that RISC-V instructions read and write, from the text that LLVM prints."""

from __future__ import annotations

import re
from itertools import chain

from lrfdse.targets.isa.code import Instruction, Registers

_NAME = re.compile(r"\b(zero|ra|sp|gp|tp|[as]\d+|t[0-6]|f[ast]\d+|v\d+)\b")
_NO_RESULT = re.compile(
    r"(s[bhwd]|c\.s[wd](sp)?|fs[hwd]|vs[1248]r\.v|vsm\.v|vsetvl_|vss?e\d.*|vs[su]x.*|vss?seg.*|vso?xei.*|"
    r"b(eq|ne|lt|ge|gt|le)[uz]?|j|jr|ret|fence.*|ecall|ebreak|nop|prefetch\..*)$"
)
_READS_RESULT = re.compile(r"v(f?w?)(n?m(acc|sac|add|sub))|vq?macc|vslideup|vmv\.s\.x|vfmv\.s\.f")
_WHOLE = re.compile(r"v[ls]([1248])re?\d*\.v|vmv([1248])r\.v")
_REDUCTION = re.compile(r"v(f?w?)red")
_TO_OR_FROM_SCALAR = re.compile(r"vf?mv\.(x\.s|f\.s|s\.x|s\.f)")
_WIDENING = re.compile(r"v(fw|w)(?!red)")
_BY_ELEMENT = re.compile(r"v[ls]s?e(8|16|32|64)(?:ff)?\.v")
_EXTENSION = re.compile(r"v[sz]ext\.vf([248])")


def riscv_registers(instruction: Instruction) -> Registers:
    """Return a RISC-V instruction's registers; a vector operand is all registers of its group.

    >>> riscv_registers(Instruction("vfmacc.vf v8, fa0, v16", 0b010_001))
    Registers(writes=('v8', 'v9'), reads=('fa0', 'v16', 'v17', 'v8', 'v9'), updates=())
    >>> riscv_registers(Instruction("vle8.v v8, (a1)", 0b010_010))
    Registers(writes=('v8',), reads=('a1',), updates=())
    >>> riscv_registers(Instruction("fsw fa0, 4(a1)"))
    Registers(writes=(), reads=('fa0', 'a1'), updates=())
    """
    mnemonic, _, operands = instruction.text.partition(" ")
    names = _NAME.findall(operands)
    if mnemonic in ("jal", "jalr", "call"):
        links = names[0] if len(names) > (mnemonic == "jalr") else "ra"
        return Registers((links,), tuple(name for name in names if name != links))
    if mnemonic.startswith("vset"):
        return Registers(_without_zero(names[:1]), _without_zero(names[1:]))
    groups = [_group(mnemonic, name, i, instruction.vtype) for i, name in enumerate(names)]
    if _NO_RESULT.match(mnemonic):
        return Registers((), _without_zero(list(chain.from_iterable(groups))))
    result = groups[0] if groups else []
    sources = list(chain.from_iterable(groups[1:]))
    if _READS_RESULT.match(mnemonic) or (operands.endswith("v0.t") and mnemonic.startswith("v")):
        sources += result
    return Registers(_without_zero(result), _without_zero(sources))


def _group(mnemonic: str, name: str, position: int, vtype: int | None) -> list[str]:
    """Return the registers that the vector operand `name` covers; other operands are themselves."""
    if not re.fullmatch(r"v\d+", name):
        return [name]
    if whole := _WHOLE.match(mnemonic):
        size = int(whole[1] or whole[2])
    elif vtype is None or vtype & 4 or _TO_OR_FROM_SCALAR.match(mnemonic):
        size = 1
    elif _REDUCTION.match(mnemonic):
        size = 1 << (vtype & 3) if position == 1 else 1
    elif (position == 0 and _WIDENING.match(mnemonic)) or (position == 1 and mnemonic.endswith((".wv", ".wx"))):
        size = 2 << (vtype & 3)
    elif moved := _BY_ELEMENT.match(mnemonic):
        # As many elements as the vector type says, of a size that the instruction says.
        size = max(1, (int(moved[1]) << (vtype & 3)) // (8 << (vtype >> 3 & 7)))
    elif position == 1 and (extended := _EXTENSION.match(mnemonic)):
        size = max(1, (1 << (vtype & 3)) // int(extended[1]))
    else:
        size = 1 << (vtype & 3)
    if name == "v0" and position > 1 and not mnemonic.endswith((".vv", ".vf", ".vx", ".vi")):
        size = 1
    first = int(name[1:])
    return [f"v{i}" for i in range(first, min(32, first + size))]


def _without_zero(names: list[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name != "zero")


_OFFSET = re.compile(r"-?\d+\(")
_IMMEDIATE = re.compile(r"^((?:addi|li|lui|slli|srli|j|b(?:eq|ne|lt|ge|gt|le)[uz]*) (?:.*, )?)-?[1-9]\d*$")
_MASK = re.compile(r"v0\.t$|\.v[vxif]m .*v0$")


def canonical(instruction: Instruction) -> Instruction:
    """Return an instruction of the same cost under which a scheduling table is kept: fewer texts, smaller tables.

    >>> canonical(Instruction("flw fa5, 124(a3)")).text
    'flw ft0, 0(t0)'
    >>> canonical(Instruction("vfmacc.vf v11, fa3, v4", 16)).text
    'vfmacc.vf v8, ft0, v16'
    >>> canonical(Instruction("vmerge.vvm v2, v4, v6, v0", 16)).text
    'vmerge.vvm v8, v16, v24, v0'
    >>> canonical(Instruction("bne a0, a1, -76")).text
    'bne t0, t1, 8'
    """
    seen: dict[str, str] = {}

    def rename(found: re.Match[str]) -> str:
        name = found[1]
        if name in ("zero", "ra", "sp") or (name == "v0" and _MASK.search(found.string)):
            return name
        kind = name[0]
        same_kind = sum(other[0] == kind or (kind in "ast" and other[0] in "ast") for other in seen)
        fresh = f"v{8 * (same_kind + 1)}" if kind == "v" else f"{'ft' if kind == 'f' else 't'}{same_kind}"
        return seen.setdefault(name, fresh)

    text = _NAME.sub(rename, _OFFSET.sub("0(", _IMMEDIATE.sub(r"\g<1>8", instruction.text)))
    return Instruction(text, instruction.vtype)
