"""What a kernel needs of the machine that runs it: in words, and as C that asks the machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lrfdse.targets.target import Target

_TRAPS = "an illegal instruction ends the program"


@dataclass(frozen=True, slots=True)
class Needs:
    """What the kernels of a target need, and how C finds out whether it is there."""

    words: str
    """What they need, the rest of a sentence that begins with "Needs"."""
    unchecked: str
    """Sentences about what the C cannot find out, and what happens where that is missing."""
    macro: str
    """The C condition that holds where code is compiled for the instruction set."""
    body: Sequence[str]
    """C99 and C++ statements that return 1 where the machine has it and 0 where not."""
    guard: Sequence[str] = ()
    """Preprocessor lines that stop a compilation for a machine that is known to be too small."""


def needs_of(target: Target) -> Needs:
    """Return what every kernel of `target` needs."""
    kinds = {"riscv64": _riscv64, "aarch64": _aarch64, "armv7": _armv7, "x86_64": _x86_64}
    return kinds[target.isa](target)


def supported_name(symbol: str) -> str:
    """Return the name of the C function that tells whether a machine can run the kernel `symbol`."""
    return f"{symbol}_supported"


def supported_function(target: Target, symbol: str) -> list[str]:
    """Return the lines of that function: ``static inline``, for C99 and C++, without any library.

    It returns 1 where the machine has what the kernel needs, 0 where not, and 0 where it is compiled for another
    instruction set.
    """
    needs = needs_of(target)
    return [
        *needs.guard,
        f"static inline int {supported_name(symbol)}(void)",
        "{",
        f"#if {needs.macro}",
        *(line if line.startswith("#") else f"    {line}" for line in needs.body),
        "#else",
        "    return 0;",
        "#endif",
        "}",
    ]


def _riscv64(target: Target) -> Needs:
    macro = "defined(__riscv) && __riscv_xlen == 64"
    rest = f"Other extensions are not checked: where one is missing, {_TRAPS}."
    if target.lanes == 1:
        named = [feature[1:].capitalize() for feature in target.features if feature.startswith("+z")]
        return Needs(f"{_with('RV64GC', named)}.", rest, macro, ["return 1;"])
    bits = 32 * target.lanes
    ask = '__asm__ volatile(".insn i 0x57, 7, %0, x0, 0xd0" : "=r"(lanes)'
    return Needs(
        words=f"RVV 1.0 with VLEN >= {bits}: with shorter vectors it computes wrong numbers without any error.",
        unchecked=(
            "V must be enabled before it is asked for, on bare metal by mstatus.VS: where it is off or missing, "
            f"{_TRAPS}, except on Linux 6.4 and newer, where the answer is 0. {rest}"
        ),
        macro=macro,
        body=[
            "unsigned long lanes;",
            "#if defined(__linux__)",
            "/* riscv_hwprobe, whether V is there and enabled; Linux before 6.4 does not have the call. */",
            "unsigned long asked[2] = {4, 0}, refused;",
            '__asm__ volatile("mv a0, %1\\n\\tli a1, 1\\n\\tli a2, 0\\n\\tli a3, 0\\n\\tli a4, 0\\n\\t"',
            '                 "li a7, 258\\n\\tecall\\n\\tmv %0, a0"',
            '                 : "=r"(refused) : "r"(asked) : "a0", "a1", "a2", "a3", "a4", "a7", "memory");',
            "if (!refused && !(asked[1] & 4)) return 0;",
            "#endif",
            "/* vsetvli lanes, zero, e32, m1, ta, ma: how many floats a register holds, 0 in the draft 0.7.1 of V. */",
            "#if defined(__riscv_vector)",
            f'{ask} : : "vl", "vtype");',
            "#else",
            f"{ask});",
            "#endif",
            f"return lanes >= {target.lanes};",
        ],
        guard=[
            f"#if defined(__riscv_v_fixed_vlen) && __riscv_v_fixed_vlen < {bits}",
            f'#error "this kernel needs VLEN >= {bits}, and the compiler was told that VLEN is less"',
            "#endif",
        ],
    )


def _aarch64(target: Target) -> Needs:
    words = "AArch64 with NEON, which every such core has."
    rest = f"What {target.cpu} has beyond ARMv8-A is not checked: where it is missing, {_TRAPS}."
    return Needs(words, rest, "defined(__aarch64__)", ["return 1;"])


def _armv7(target: Target) -> Needs:
    named = [name for feature, name in (("+neon", "NEON"), ("+vfp4", "VFPv4")) if feature in target.features]
    rest = (
        f"Nothing is checked, for programs cannot ask the core: where it is missing, {_TRAPS}. On Linux, "
        "getauxval(AT_HWCAP) tells (bit 12 NEON, bit 16 VFPv4)."
    )
    return Needs(f"{_with('ARMv7-A', named)}.", rest, "defined(__arm__)", ["return 1;"])


_LEVELS: Mapping[int, tuple[str, Mapping[str, Sequence[int]]]] = {
    2: ("SSE4.2", {"leaf 1": (0, 9, 13, 19, 20, 23)}),
    3: ("AVX2, FMA, BMI2", {"leaf 1": (12, 22, 27, 28, 29), "leaf 7": (3, 5, 8), "extended": (5,), "saved": (1, 2)}),
    4: ("AVX-512 F, BW, CD, DQ, VL", {"leaf 7": (16, 17, 28, 30, 31), "saved": (5, 6, 7)}),
}
"""What each level of x86-64 adds to the one below, by the x86-64 psABI: in words, and as bits of cpuid's leaf 1 (ecx),
leaf 7 (ebx) and leaf 0x80000001 (ecx), and of the register state that the system saves (xcr0)."""


def _x86_64(target: Target) -> Needs:
    by_name = {f"x86-64-v{level}": level for level in _LEVELS}
    level = by_name.get(target.cpu, 4 if target.lanes > 8 else 3 if target.lanes > 4 else 2)
    masks: dict[str, int] = {}
    for each in range(2, level + 1):
        for name, bits in _LEVELS[each][1].items():
            masks[name] = masks.get(name, 0) | sum(1 << bit for bit in bits)
    body = ["unsigned int found[4];"]
    if "leaf 7" in masks:
        body += [_cpuid("0"), "if (found[0] < 7) return 0;"]
    for name, leaf, register in (("leaf 1", "1", 2), ("leaf 7", "7", 1), ("extended", "0x80000001U", 2)):
        if name in masks:
            body += [_cpuid(leaf), _lacks(register, masks[name])]
    if "saved" in masks:
        body += ['__asm__ volatile("xgetbv" : "=a"(found[0]), "=d"(found[3]) : "c"(0));', _lacks(0, masks["saved"])]
    others = [] if target.cpu in by_name else [f"what {target.cpu} has beyond x86-64-v{level}"]
    others += [feature[1:] for feature in target.features if feature.startswith("+")]
    rest = f"Not checked: {', '.join(others)}; where it is missing, {_TRAPS}." if others else ""
    return Needs(f"x86-64-v{level} ({_LEVELS[level][0]}).", rest, "defined(__x86_64__)", [*body, "return 1;"])


def _with(base: str, named: Sequence[str]) -> str:
    return f"{base} with {' and '.join(named)}" if named else base


def _cpuid(leaf: str) -> str:
    outputs = ", ".join(f'"={name}"(found[{place}])' for place, name in enumerate("abcd"))
    return f'__asm__ volatile("cpuid" : {outputs} : "a"({leaf}), "c"(0));'


def _lacks(register: int, mask: int) -> str:
    return f"if ((found[{register}] & 0x{mask:X}U) != 0x{mask:X}U) return 0;"
