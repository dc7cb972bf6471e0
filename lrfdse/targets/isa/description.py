"""The description of an instruction set: everything about one that the rest of lrfdse asks for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from lrfdse.targets.isa.classes import INTEGER, Rules
from lrfdse.targets.isa.code import Instruction, Registers, Sequence
from lrfdse.targets.isa.needs import Needs


def plain_sequence(texts: Iterable[str], vtype: int | None) -> Sequence:
    """Return instructions that run alike whatever was executed before them; there is no `vtype` to know.

    >>> plain_sequence(["nop", "ret"], None)
    (Instruction(text='nop', vtype=None), Instruction(text='ret', vtype=None))
    """
    return tuple(Instruction(text) for text in texts)


def same(instruction: Instruction) -> Instruction:
    """Return the instruction as it is: each has its own entry in a scheduling table."""
    return instruction


def mnemonic(instruction: Instruction) -> str:
    """Return the first word of an instruction's text.

    >>> mnemonic(Instruction("fmadd.s fa0, fa1, fa2, fa3"))
    'fmadd.s'
    """
    return instruction.text.partition(" ")[0]


def no_hints(sequence: Sequence) -> tuple[str, ...]:
    """Return nothing: llvm-mca reads the instructions without further help."""
    return ()


@dataclass(frozen=True, slots=True)
class Probe:
    """Instructions that tell whether LLVM's model of a core can be used: FMAs, each before an independent addition.

    The texts of `fma` and `addition` have a place ``{0}`` for the number of the register that they add to. Eight
    registers from `first` on are used; no other register of theirs may be written by either.
    """

    fma: str
    """A scalar float32 multiply-add into register ``{0}``."""
    addition: str
    """An integer addition to register ``{0}``."""
    vector: Instruction
    """A vector multiply-add or multiplication, whose latency a usable model knows."""
    first: int


@dataclass(frozen=True, slots=True)
class Vectors:
    """What vector instructions can do beyond those of plain SIMD sets (NEON, AVX), which leave all of it out."""

    any_length: bool = False
    """An operation may take any number of elements, not only a power of two."""
    grouped: bool = False
    """Several registers form one vector; their number is a power of two (LMUL)."""
    strided: bool = False
    """One instruction stores elements that lie apart (LLVM's ``vp.strided``)."""
    reducing: bool = False
    """One instruction adds up the lanes (LLVM's ``vector.reduce.fadd``)."""
    scalars_apart: bool = False
    """Scalar operands lie in registers of their own, which vectors do not share."""
    length_varies: bool = False
    """Cores differ in the length of their registers: a program for a board reads it before it calls a kernel."""


@dataclass(frozen=True, slots=True)
class Dot:
    """An instruction that multiplies groups of neighbouring whole numbers, and adds each up to an int32, exactly."""

    group: int
    """Numbers of a group."""
    element: Literal["int8", "uint8", "int16"]
    """What it multiplies; where that is uint8, its second factor is int8."""
    names: Mapping[int, str]
    """LLVM's intrinsic by the number of its results."""
    adds: bool
    """Whether it adds the results to its first operand."""
    feature: str | None = None
    """A target's feature without which it is not there; None where all cores have it."""
    least_lanes: int = 1
    """float32 lanes of a register without which it is not there."""


def _as_it_is(release: tuple[int, int] | None) -> tuple[str, ...]:
    return ()


def _never(cpu: str, features: tuple[str, ...], lanes: int) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class InstructionSet:
    """An instruction set: its names elsewhere, its text, its registers, and what code generation does about it.

    Adding one means adding such an object; nothing outside `lrfdse.targets` asks for a set's name.
    """

    name: str
    """What the key ``isa`` of a target says."""
    llvm: str
    """Architecture of LLVM's triples, under which its tools read code."""
    machine: str
    """What Linux calls machines of it (``uname -m``)."""
    zig: str
    """Zig's ``-target`` for static programs under Linux."""
    comment: str
    """What begins a comment in LLVM's assembly."""

    classes: Rules
    """Classes of instructions, see `class_of`; vector forms stand before the scalar ones that their patterns cover."""
    spills: tuple[str, ...]
    """Patterns of lines that move a vector or a float between a register and the stack."""

    probe: Probe
    registers: Callable[[Instruction], Registers] | None
    """Returns what an instruction reads and writes, for in-order cores; None where all cores are out of order."""
    needs: Callable[[str, tuple[str, ...], int], Needs]
    """Returns what kernels need of a machine, from a target's ``cpu``, ``features`` and ``lanes``."""
    cpuinfo: tuple[str, ...] = ()
    """Names of lines of ``/proc/cpuinfo``: its machines have one of them, others none; empty: not checked."""
    canonical: Callable[[Instruction], Instruction] = same
    """Returns an instruction of the same cost, under which a scheduling table is kept: fewer texts, smaller tables."""
    sequence: Callable[[Iterable[str], int | None], Sequence] = plain_sequence
    """Returns a run's instructions from their texts and the vtype at its entry."""
    form: Callable[[Instruction], str] = mnemonic
    """Returns the name of all instructions that take as long as this one: a key under ``instructions`` of a target."""
    hints: Callable[[Sequence], tuple[str, ...]] = no_hints
    """Returns the comments, without their sign, that llvm-mca has to read before a sequence."""

    vectors: Vectors = Vectors()
    loads_ahead: bool = False
    """Kernels hold operands in registers and load them an iteration ahead; else they multiply what they just loaded."""
    holds_bodies: bool = False
    """LLVM holds the operands of a whole loop body in registers at once, so that they bound its size."""
    folds_loads: bool = False
    """Arithmetic takes operands from memory, so that loads of straight code need no registers of their own."""
    dots: tuple[Dot, ...] = ()
    """What multiplies int8 by int8, the best first; where a machine has none, they are widened to int16 and multiplied
    lane by lane."""
    flags: Mapping[str, str] = field(default_factory=dict)
    """Features that a target may leave to the machine at hand (``optional``), with what ``/proc/cpuinfo`` calls them
    under ``flags``."""
    widens_halves: Callable[[str, tuple[str, ...], int], bool] = _never
    """Returns whether an instruction makes float32 of float16, from a target's ``cpu``, ``features`` and ``lanes``."""
    widens: Mapping[int, str] = field(default_factory=dict)
    """LLVM's intrinsic for it, by the number of floats, where LLVM makes scalar code of a plain conversion."""
    emulated_halves: Callable[[tuple[int, int] | None], tuple[str, ...]] = _as_it_is
    """Returns properties of QEMU's processor for it, from QEMU's release; None is the newest."""
    reassociates: bool = False
    """LLVM must be allowed to add in any order, or it sums lanes one by one."""
    reorders: str | None = None
    """LLVM's feature that orders instructions once more when registers are given, which cores in order need; None where
    LLVM does so of itself."""
    explicit_fma: str | None = None
    """Feature with which FMAs must be asked for one by one, because LLVM does not form them; None where it does."""
    converts_longs: bool = True
    """Instructions divide integers of 64 bits and convert them to floats and back; else LLVM calls a library for it."""
    abi_option: Literal["mabi", "mfloat-abi"] = "mabi"
    """The option of TVM's that takes a target's ``abi``."""

    def class_of(self, instruction: str) -> str:
        """Return the class of an instruction's text, one of `lrfdse.targets.isa.classes.CLASSES`.

        The first rule whose pattern the text begins with gives it; without one the instruction is an integer's.
        """
        return next((name for name, pattern in self.classes if re.match(pattern, instruction)), INTEGER)
