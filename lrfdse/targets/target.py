"""A machine as data: what the compiler, the emulator and the meters need to know of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lrfdse.ir.storage import Storage
from lrfdse.targets.commands import check_emulator, check_features, check_word
from lrfdse.targets.isa import instruction_set
from lrfdse.targets.isa.description import Dot, InstructionSet, Vectors
from lrfdse.targets.isa.needs import Needs

Replacement = Literal["lru", "random", "bimodal"]
"""Which line of a full set makes room.

- ``lru``: the one that was used longest ago. A loop over slightly more than the cache finds nothing of it there.
- ``random``: any of them, by a fixed sequence of numbers. Of such a loop, part is found.
- ``bimodal``: the latest that came, except every 16th time, when it is the one that was used longest ago. Of such a
  loop, nearly as much is found as the cache holds.
"""


@dataclass(frozen=True, slots=True)
class CacheLevel:
    """One cache level of a machine."""

    kib: int
    ways: int
    share: float = 1.0
    """Part of it that one core can count on while others work, above 0 and at most 1."""
    replacement: Replacement = "lru"
    allocates_stores: bool = True
    """Whether a store to a line that is not there brings it in; if not, it does where that displaces no other line,
    and goes to the level behind elsewhere. Of the first level only."""

    @property
    def bytes(self) -> float:
        """Bytes that one core can count on."""
        return 1024 * self.kib * self.share

    def __repr__(self) -> str:
        # Digests of targets in results and board records hold this text: under another name they would not be found
        # to be of the target that was explored.
        more = "".join(f", {name}={value!r}" for name, value in given(self) if name not in ("kib", "ways"))
        return f"Cache(kib={self.kib}, ways={self.ways}{more})"


@dataclass(frozen=True, slots=True)
class ModelError:
    """How far the model of a core is from published measurements of it.

    A board took between `low` and `high` times what the model says, for nine in ten of what was compared.
    """

    low: float
    high: float
    source: str
    """What was compared: the measurements and where they are published."""


@dataclass(frozen=True, slots=True, kw_only=True)
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
    instructions: tuple[tuple[str, float], ...] = ()
    """Forms of instructions (`InstructionSet.form`) that the core takes another time for than LLVM's model says, each
    with the cycles after which the next of its kind begins. `provenance` has the source of each under its form."""
    latencies: tuple[tuple[str, float], ...] = ()
    """Forms of instructions whose results come later than LLVM's model says, each with the cycles until then; only for
    cores that issue in order. `provenance` has the source of each under its form and the word "latency"."""
    slow_conversions: bool = False
    """Whether whole numbers on all lanes become floats sooner by an addition to bits and a subtraction than by the
    instruction for it, which takes twice as long as an addition."""
    memory_ports: int | None = None
    """Loads and stores of all kinds, scalar and vector, that the core can begin in one cycle; None where LLVM's model
    of their units holds. Only for cores that issue in order."""
    serializing: tuple[str, ...] = ()
    """Forms of instructions that begin when all before them have ended, and before which no other begins until they
    have. Only for cores that issue in order."""
    alone: tuple[str, ...] = ()
    """Forms of instructions beside which no other begins for as many cycles as they take, though what has begun before
    goes on. Only for cores that issue in order."""
    float16_features: tuple[str, ...] = ()
    """Features that only code which reads float16 is compiled with, behind `features`: all other code runs without."""
    halves: bool = False
    """Whether schedules with halves of vector registers are tried, too: for cores that load a half beside arithmetic,
    and hold arithmetic up while they load a whole register."""
    in_order: bool = False
    """Whether the core stops for data that are not in its first-level cache, as cores do that issue in order."""
    line: int
    """Cache line in bytes."""
    l1: CacheLevel
    last_level: CacheLevel
    last_level_bytes_per_cycle: float
    """Reading from the last-level cache. An in-order core does not compute meanwhile: what a loop reaches is less."""
    last_level_fill_bytes_per_cycle: float | None = None
    """Storing to the last-level cache; as fast as reading where it is not given."""
    dram_bytes_per_cycle: float
    """Reading one line after the other from DRAM."""
    dram_fill_bytes_per_cycle: float | None = None
    """Storing one line after the other to DRAM, in bytes stored; half of reading where it is not given, because a
    line that is stored to is read first."""
    dram_copy_bytes_per_cycle: float | None = None
    """Copying from DRAM to DRAM, in bytes copied; where it is not given, what reading and storing take together."""
    last_level_latency: float
    """Cycles from the last-level cache to a register, where no prefetcher sees the line coming."""
    dram_latency: float
    """Cycles from DRAM to a register, where no prefetcher sees the line coming."""
    prefetch_lines: int = 8
    """Lines ahead of a recent miss that the prefetcher brings in before they are asked for; 0 where there is none."""
    error: ModelError | None = None
    """The error of the model itself; None where it was not checked against hardware."""
    provenance: Mapping[str, str]
    """Field name to "measured: ...", "published: ...", "fitted: ..." or "assumed: ..." (docs/meter.md)."""
    resident: Literal["warm", "cold", "auto"] = "auto"
    """The cache regime in which latencies count: "warm" where a model always runs again before others evict its
    weights, "cold" where others always do, "auto" for warm where a design's weights fit the last-level cache."""

    def __post_init__(self) -> None:
        check_emulator(self.emulator)
        check_features((*self.features, *self.float16_features))
        for name in ("triple", "cpu", "abi", "link", "scheduling_model"):
            check_word(name, getattr(self, name))

    @property
    def is_scheduled(self) -> bool:
        """Whether LLVM orders instructions for this core, and not for another one or for none in particular."""
        return self.cpu == self.scheduling_model

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
    def dot(self) -> Dot | None:
        """The instruction that multiplies groups of int8, None where this machine has none."""
        for dot in self.instruction_set.dots:
            has = self.lanes in dot.names and self.lanes >= dot.least_lanes
            if has and (dot.feature is None or dot.feature in self.features):
                return dot
        return None

    @property
    def widens_halves(self) -> bool:
        """Whether float16 becomes float32 by an instruction, as it is read."""
        features = (*self.features, *self.float16_features)
        return self.instruction_set.widens_halves(self.cpu, features, self.lanes)

    def reading(self, storage: Storage) -> Target:
        """Return the machine as code is compiled for that reads weights which are stored so."""
        if storage.element != "float16" or not self.float16_features:
            return self
        return dataclasses.replace(self, features=(*self.features, *self.float16_features), float16_features=())

    def emulated(self, release: tuple[int, int] | None) -> tuple[str, ...]:
        """Return the properties that QEMU's processor needs besides for code compiled with these features.

        Parameters
        ----------
        release
            QEMU's major and minor version; None is the newest.
        """
        instruction_set = self.instruction_set
        # An emulator without a processor named has none that could be told more.
        if len(self.emulator) < 3 or not instruction_set.widens_halves(self.cpu, self.features, self.lanes):
            return ()
        return instruction_set.emulated_halves(release)

    @property
    def needs(self) -> Needs:
        """What every kernel of this target needs of the machine that runs it."""
        return self.instruction_set.needs(self.cpu, self.features, self.lanes)


def given(noun: Any) -> list[tuple[str, Any]]:
    """Return names and values of a dataclass's fields that have no default, or another value.

    A field that is added with a default leaves digests of what was made before it as they are.
    """
    fields = dataclasses.fields(noun)
    return [(f.name, value) for f in fields if (value := getattr(noun, f.name)) != f.default]
