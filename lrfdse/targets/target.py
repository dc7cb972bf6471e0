"""A machine as data: what the compiler, the emulator and the meters need to know of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lrfdse.targets.commands import check_emulator, check_features, check_word
from lrfdse.targets.isa import instruction_set
from lrfdse.targets.isa.description import InstructionSet, Vectors
from lrfdse.targets.isa.needs import Needs


@dataclass(frozen=True, slots=True)
class CacheLevel:
    """One cache level of a machine."""

    kib: int
    ways: int

    def __repr__(self) -> str:
        # Digests of targets in results and board records hold this text: under another name they would not be found
        # to be of the target that was explored.
        return f"Cache(kib={self.kib}, ways={self.ways})"


@dataclass(frozen=True, slots=True)
class Target:
    """A machine as data: what the compiler, the emulator and the meters need to know. Read from ``targets/*.toml``.

    Raises
    ------
    ValueError
        The emulator is no QEMU or has other arguments than a processor, or a compiler's option is not a plain word
        (`lrfdse.targets.commands`): a target may come from somebody else, and must not be able to run a command.
    """

    name: str
    summary: str
    isa: str
    """Name of the instruction set, one of `lrfdse.targets.isa.names`."""
    triple: str
    cpu: str
    """LLVM's ``-mcpu`` for code generation; "native" means the machine that compiles."""
    features: tuple[str, ...]
    """LLVM's ``-mattr``, each with its sign."""
    abi: str | None
    """LLVM's target ABI (RISC-V) or float ABI (ARM), where there is a choice."""
    lanes: int
    """float32 lanes of one vector register; 1 means scalar code."""
    vector_registers: int
    groups: tuple[int, ...]
    """Register groups that one operation may use (LMUL); (1,) outside RVV."""
    emulator: tuple[str, ...]
    """QEMU user-mode command: its program's name, then ``-cpu`` and a processor; empty for a native target."""
    link: str
    """Zig's ``-target`` for static programs; empty for a native target."""
    core: str
    """The core in words."""
    clock_mhz: float
    scheduling_model: str
    """LLVM's ``-mcpu`` whose scheduling model stands for the core; empty where the target is only measured."""
    fma_per_cycle: float
    """float32 FMAs a cycle at peak."""
    line: int
    """Cache line in bytes."""
    l1: CacheLevel
    last_level: CacheLevel
    last_level_bytes_per_cycle: float
    dram_bytes_per_cycle: float
    last_level_latency: float
    """Cycles from the last-level cache to a register."""
    dram_latency: float
    """Cycles from DRAM to a register."""
    provenance: Mapping[str, str]
    """Field name to "published: ..." or "assumed: ..."."""
    resident: Literal["warm", "cold", "auto"] = "auto"
    """The cache regime in which latencies count: "warm" where a model always runs again before others evict its
    weights, "cold" where others always do, "auto" for warm where a design's weights fit the last-level cache."""

    def __post_init__(self) -> None:
        check_emulator(self.emulator)
        check_features(self.features)
        for name in ("triple", "cpu", "abi", "link", "scheduling_model"):
            check_word(name, getattr(self, name))

    @property
    def is_native(self) -> bool:
        """Whether kernels run on the machine at hand, without an emulator."""
        return not self.emulator

    @property
    def instruction_set(self) -> InstructionSet:
        """The instruction set that `isa` names.

        Raises
        ------
        InputError
            No instruction set has this name.
        """
        return instruction_set(self.isa)

    @property
    def vectors(self) -> Vectors:
        """What vector instructions of this machine can do; nothing where kernels are scalar code."""
        return self.instruction_set.vectors if self.lanes > 1 else Vectors()

    @property
    def needs(self) -> Needs:
        """What every kernel of this target needs of the machine that runs it."""
        return self.instruction_set.needs(self.cpu, self.features, self.lanes)
