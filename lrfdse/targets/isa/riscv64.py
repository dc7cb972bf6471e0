"""RISC-V, 64 bit, with or without its vector extension (RVV)."""

from __future__ import annotations

from lrfdse.targets.isa import classes
from lrfdse.targets.isa.code import Instruction
from lrfdse.targets.isa.description import InstructionSet, Probe, Vectors
from lrfdse.targets.isa.needs import TRAPS, Needs, with_extensions
from lrfdse.targets.isa.riscv_registers import canonical, riscv_registers
from lrfdse.targets.isa.riscv_vtype import E32_M1, form, vtype_hints, with_vtype

_SCALAR_HALF = ("zfhmin", "zfh", "zvfh")
"""Extensions that widen a float16, as LLVM has them; Zvfh implies Zfhmin."""

_VECTOR_HALF = ("zvfhmin", "zvfh")
"""Extensions that widen vectors of float16."""


def _needs(cpu: str, features: tuple[str, ...], lanes: int) -> Needs:
    macro = "defined(__riscv) && __riscv_xlen == 64"
    rest = f"Other extensions are not checked: where one is missing, {TRAPS}."
    if lanes == 1:
        named = [feature[1:].capitalize() for feature in features if feature.startswith("+z")]
        return Needs(f"{with_extensions('RV64GC', named)}.", rest, macro, ["return 1;"])
    bits = 32 * lanes
    ask = '__asm__ volatile(".insn i 0x57, 7, %0, x0, 0xd0" : "=r"(lanes)'
    halves, also = _widens_halves(cpu, features, lanes), []
    if halves:
        also = [
            "/* Linux before 6.7, which does not know of key 6, does not tell of them either. */",
            "if (!refused && asked[2] == 6 && !((asked[1] >> 27 & 3) && (asked[1] >> 30 & 3))) return 0;",
        ]
    return Needs(
        words=(
            f"RVV 1.0 with VLEN >= {bits}: with shorter vectors it computes wrong numbers without any error."
            f"{' Also Zfhmin and Zvfhmin, by which float16 becomes wider.' if halves else ''}"
        ),
        unchecked=(
            "V must be enabled before it is asked for, on bare metal by mstatus.VS: where it is off or missing, "
            f"{TRAPS}, except on Linux 6.4 and newer, where the answer is 0. {rest}"
        ),
        macro=macro,
        body=[
            "unsigned long lanes;",
            "#if defined(__linux__)",
            "/* riscv_hwprobe, whether V is there and enabled; Linux before 6.4 does not have the call. */",
            f"unsigned long asked[{4 if halves else 2}] = {{4, 0{', 6, 0' if halves else ''}}}, refused;",
            f'__asm__ volatile("mv a0, %1\\n\\tli a1, {2 if halves else 1}\\n\\t"',
            '                 "li a2, 0\\n\\tli a3, 0\\n\\tli a4, 0\\n\\t"',
            '                 "li a7, 258\\n\\tecall\\n\\tmv %0, a0"',
            '                 : "=r"(refused) : "r"(asked) : "a0", "a1", "a2", "a3", "a4", "a7", "memory");',
            "if (!refused && !(asked[1] & 4)) return 0;",
            *also,
            "#endif",
            "/* vsetvli lanes, zero, e32, m1, ta, ma: how many floats a register holds, 0 in the draft 0.7.1 of V. */",
            "#if defined(__riscv_vector)",
            f'{ask} : : "vl", "vtype");',
            "#else",
            f"{ask});",
            "#endif",
            f"return lanes >= {lanes};",
        ],
        guard=[
            f"#if defined(__riscv_v_fixed_vlen) && __riscv_v_fixed_vlen < {bits}",
            f'#error "this kernel needs VLEN >= {bits}, and the compiler was told that VLEN is less"',
            "#endif",
        ],
    )


def _widens_halves(cpu: str, features: tuple[str, ...], lanes: int) -> bool:
    """Return whether floats of 16 bits become wider, as scalars by Zfhmin and as vectors by Zvfhmin.

    Of a feature that is named twice the last sign counts.
    """
    signs = {feature[1:]: feature[0] for feature in features}
    scalar, vector = (any(signs.get(name) == "+" for name in names) for names in (_SCALAR_HALF, _VECTOR_HALF))
    return scalar and (lanes == 1 or vector)


def _emulated_halves(release: tuple[int, int] | None) -> tuple[str, ...]:
    """Return QEMU's properties: 7.2 runs vectors without any, and until 9.0 those for them were experimental."""
    if release is None or release >= (9, 0):
        return "zfhmin=true", "zvfhmin=true"
    return ("Zfhmin=true",) if release < (8, 0) else ("Zfhmin=true", "x-zvfhmin=true")


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
    needs=_needs,
    cpuinfo=("isa", "mvendorid"),
    canonical=canonical,
    sequence=with_vtype,
    form=form,
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
    widens_halves=_widens_halves,
    emulated_halves=_emulated_halves,
    reassociates=True,
    reorders="+use-postra-scheduler",
    abi_option="mabi",
)
