"""32-bit ARM, version 7 (A32), with NEON and VFP."""

from __future__ import annotations

from lrfdse.targets.isa import classes
from lrfdse.targets.isa.arm_registers import armv7_registers, form
from lrfdse.targets.isa.code import Instruction
from lrfdse.targets.isa.description import InstructionSet, Probe
from lrfdse.targets.isa.needs import TRAPS, Needs, with_extensions


def _needs(cpu: str, features: tuple[str, ...], lanes: int) -> Needs:
    named = [name for feature, name in (("+neon", "NEON"), ("+vfp4", "VFPv4")) if feature in features]
    rest = (
        f"Nothing is checked, for programs cannot ask the core: where it is missing, {TRAPS}. On Linux, "
        "getauxval(AT_HWCAP) tells (bit 12 NEON, bit 16 VFPv4)."
    )
    return Needs(f"{with_extensions('ARMv7-A', named)}.", rest, "defined(__arm__)", ["return 1;"])


ARMV7 = InstructionSet(
    name="armv7",
    llvm="armv7a",
    machine="armv7l",
    zig="arm-linux-musleabihf",
    comment="@",
    classes=(
        (classes.VECTOR_FMA, r"v(fm|ml)[as]\S*\s+[qd]"),
        (classes.SCALAR_FMA, r"v(fn?m|n?ml)[as]\S*\s+s"),
        (classes.VECTOR_LOAD, r"vld(\d|r\s+d|m)|vpop"),
        (classes.VECTOR_STORE, r"vst(\d|r\s+d|m)|vpush"),
        (classes.SCALAR_LOAD, r"vldr|ldr|ldm|pop"),
        (classes.SCALAR_STORE, r"vstr|str|stm|push"),
        (classes.BRANCH, r"(b|bl|bx|blx)(eq|ne|cs|hs|cc|lo|mi|pl|vs|vc|hi|ls|ge|lt|gt|le)?\s"),
        (classes.OTHER_FLOAT, r"v\S+\s+s\d|vmrs|vcmp"),
        (classes.OTHER_VECTOR, r"v"),
    ),
    spills=(
        # Only stack slots are known to be aligned.
        r"\bv(ld|st)1\.\d+\s+\{[^}]*\},\s*\[\w+\s*:(64|128)\]",
        r"\bv(ld|st)(r|mia)\s+[sdq]?\d*,?.*\bsp\b",
    ),
    probe=Probe(
        fma="vmla.f32 s{0}, s0, s1",
        addition="add r{0}, r{0}, #1",
        vector=Instruction("vmul.f32 q2, q0, q1"),
        first=2,
    ),
    registers=armv7_registers,
    form=form,
    needs=_needs,
    cpuinfo=("CPU implementer",),
    # There are too few registers to load ahead.
    loads_ahead=False,
    explicit_fma="+vfp4",
    # VFPv4 has the half-precision extension (Arm's Architecture Reference Manual for ARMv7-A, A2.6).
    widens_halves=lambda cpu, features, lanes: not {"+vfp4", "+fp16"}.isdisjoint(features),
    widens={4: "llvm.arm.neon.vcvthf2fp"},
    converts_longs=False,
    abi_option="mfloat-abi",
)
