"""x86-64 with AVX2 or AVX-512, in AT&T syntax."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lrfdse.targets.isa import classes
from lrfdse.targets.isa.code import Instruction
from lrfdse.targets.isa.description import Dot, InstructionSet, Probe
from lrfdse.targets.isa.needs import TRAPS, Needs, with_extensions

_LEVELS: Mapping[int, tuple[str, Mapping[str, Sequence[int]]]] = {
    2: ("SSE4.2", {"leaf 1": (0, 9, 13, 19, 20, 23)}),
    3: ("AVX2, FMA, BMI2", {"leaf 1": (12, 22, 27, 28, 29), "leaf 7": (3, 5, 8), "extended": (5,), "saved": (1, 2)}),
    4: ("AVX-512 F, BW, CD, DQ, VL", {"leaf 7": (16, 17, 28, 30, 31), "saved": (5, 6, 7)}),
}
"""What each level of x86-64 adds to the one below, by the x86-64 psABI: in words, and as bits of cpuid's leaf 1 (ecx),
leaf 7 (ebx) and leaf 0x80000001 (ecx), and of the register state that the system saves (xcr0)."""


_FEATURES: Mapping[str, tuple[str, str, int]] = {
    "+avxvnni": ("AVX-VNNI", "leaf 7.1", 4),
    "+avx512vnni": ("AVX-512 VNNI", "leaf 7 ecx", 11),
}
"""Features beyond the levels that are asked for: in words, and as bits of cpuid's leaf 7 (ecx) and its first subleaf
(eax), by Intel's manual, volume 2A."""

_BY_NAME = {f"x86-64-v{level}": level for level in _LEVELS}


def _level(cpu: str, lanes: int) -> int:
    """Return the level of x86-64 that a target's machines have, of a processor by its name the one of its vectors."""
    return _BY_NAME.get(cpu, 4 if lanes > 8 else 3 if lanes > 4 else 2)


def _widens_halves(cpu: str, features: tuple[str, ...], lanes: int) -> bool:
    """Return whether there is F16C, which is part of x86-64-v3 and checked with it."""
    return "-f16c" not in features and (_level(cpu, lanes) >= 3 or "+f16c" in features)


def _needs(cpu: str, features: tuple[str, ...], lanes: int) -> Needs:
    level = _level(cpu, lanes)
    masks: dict[str, int] = {}
    for each in range(2, level + 1):
        for name, bits in _LEVELS[each][1].items():
            masks[name] = masks.get(name, 0) | sum(1 << bit for bit in bits)
    asked = [_FEATURES[feature] for feature in features if feature in _FEATURES]
    masks |= {leaf: 1 << bit for _, leaf, bit in asked}
    body = ["unsigned int found[4];"]
    if any(name.startswith("leaf 7") for name in masks):
        body += [_cpuid("0"), "if (found[0] < 7) return 0;"]
    if "leaf 7.1" in masks:
        body += [_cpuid("7"), "if (found[0] < 1) return 0;", _cpuid("7", 1), _lacks(0, masks["leaf 7.1"])]
    for name, leaf, register in _REGISTERS:
        if name in masks:
            body += [_cpuid(leaf), _lacks(register, masks[name])]
    if "saved" in masks:
        body += ['__asm__ volatile("xgetbv" : "=a"(found[0]), "=d"(found[3]) : "c"(0));', _lacks(0, masks["saved"])]
    others = [] if cpu in _BY_NAME else [f"what {cpu} has beyond x86-64-v{level}"]
    others += [feature[1:] for feature in features if feature.startswith("+") and feature not in _FEATURES]
    rest = f"Not checked: {', '.join(others)}; where it is missing, {TRAPS}." if others else ""
    words = f"{with_extensions(f'x86-64-v{level} ({_LEVELS[level][0]})', [name for name, _, _ in asked])}."
    return Needs(words, rest, "defined(__x86_64__)", [*body, "return 1;"])


_REGISTERS = (
    ("leaf 1", "1", 2),
    ("leaf 7", "7", 1),
    ("leaf 7 ecx", "7", 2),
    ("extended", "0x80000001U", 2),
)
"""Names of masks, the leaf that is asked for, and the place of the register that answers."""


def _cpuid(leaf: str, subleaf: int = 0) -> str:
    outputs = ", ".join(f'"={name}"(found[{place}])' for place, name in enumerate("abcd"))
    return f'__asm__ volatile("cpuid" : {outputs} : "a"({leaf}), "c"({subleaf}));'


def _lacks(register: int, mask: int) -> str:
    return f"if ((found[{register}] & 0x{mask:X}U) != 0x{mask:X}U) return 0;"


_VPDPBUSD = {
    4: "llvm.x86.avx512.vpdpbusd.128",
    8: "llvm.x86.avx512.vpdpbusd.256",
    16: "llvm.x86.avx512.vpdpbusd.512",
}
"""Of either VNNI; its products of an unsigned and a signed factor do not saturate. The short forms of AVX-512 VNNI need
AVX-512 VL."""

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
    needs=_needs,
    cpuinfo=("vendor_id",),
    folds_loads=True,
    dots=(
        Dot(4, "uint8", _VPDPBUSD, True, "+avx512vnni", least_lanes=16),
        Dot(4, "uint8", {lanes: name for lanes, name in _VPDPBUSD.items() if lanes <= 8}, True, "+avxvnni"),
        Dot(
            group=2,
            element="int16",
            names={
                4: "llvm.x86.sse2.pmadd.wd",
                8: "llvm.x86.avx2.pmadd.wd",
                16: "llvm.x86.avx512.pmaddw.d.512",
            },
            adds=False,
        ),
    ),
    flags={"+avxvnni": "avx_vnni", "+avx512vnni": "avx512_vnni"},
    widens_halves=_widens_halves,
    abi_option="mfloat-abi",
)
