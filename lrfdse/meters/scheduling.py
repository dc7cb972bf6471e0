"""Compute cycles of a trace: the pieces of what was executed, weighted by what the core model says of each."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from lrfdse.errors import InputError, KernelError
from lrfdse.meters.mca import CoreModel, InstructionCost, Mca
from lrfdse.meters.nest import Nest, cut
from lrfdse.meters.scoreboard import Scoreboard
from lrfdse.meters.trace import Trace
from lrfdse.targets.isa import instruction_set
from lrfdse.targets.isa.code import Instruction, Sequence

_IN_ORDER_CONTEXT = 64
"""Instructions after which an in-order core's state no longer tells what came before.

Chosen, not measured."""

MAX_SKIPPED = 1e-3
"""Share of executed instructions that the core model may not know.

Chosen, not measured: far below the error of the model itself."""


class Engine(Protocol):
    """A source of cycles for instruction sequences."""

    name: str
    window: int
    """Instructions that the core has in flight; 0 for an in-order core."""

    def learn(self, sequences: Iterable[Sequence]) -> None:
        """Look up every instruction that is new, in one call: worth it ahead of several calls of the others."""

    def loops(self, bodies: list[Sequence]) -> list[float]:
        """Return cycles of one iteration in the steady state, for each loop body."""

    def edges(self, pairs: list[tuple[Sequence, Sequence]]) -> list[float]:
        """Return the cycles that the second sequence adds after the first, for each pair."""

    def unknown(self, sequence: Sequence) -> int:
        """Return how many instructions of a sequence the model does not know; after a call of the other two."""


class McaCycles:
    """llvm-mca's own cycles, at least those for which corrected instructions keep their units busy.

    What is corrected (`CoreModel.instructions`) can only take longer than LLVM's model says.
    """

    name = "llvm-mca"

    def __init__(self, mca: Mca) -> None:
        self.window = mca.window
        self._mca = mca
        self._canonical = instruction_set(mca.core.isa).canonical
        self._corrects = bool(mca.core.instructions or mca.core.alone)
        self._costs: dict[Instruction, InstructionCost | None] = {}
        self._known: dict[Sequence, int] = {}

    def learn(self, sequences: Iterable[Sequence]) -> None:
        """Look up every instruction that is new, in one call; none where no instruction is corrected."""
        if not self._corrects:
            return
        plain = {self._canonical(instruction): None for sequence in sequences for instruction in sequence}
        missing = [instruction for instruction in plain if instruction not in self._costs]
        self._costs.update(zip(missing, self._mca.table(missing), strict=True))

    def loops(self, bodies: list[Sequence]) -> list[float]:
        """Return the slope between two numbers of iterations, fewer of them for long bodies."""
        cycles = [0.0] * len(bodies)
        for shortest, longest, few, many in ((0, 64, 24, 56), (64, 192, 8, 20), (192, 512, 4, 10), (512, None, 2, 5)):
            chosen = [i for i, b in enumerate(bodies) if len(b) > shortest and (longest is None or len(b) <= longest)]
            sequences = [bodies[i] for i in chosen]
            for i, before, after in zip(
                chosen, self._mca.cycles(sequences, few), self._mca.cycles(sequences, many), strict=True
            ):
                cycles[i] = (after.cycles - before.cycles) / (many - few)
                self._known[bodies[i]] = after.instructions
        return list(map(max, cycles, self._busy(bodies)))

    def edges(self, pairs: list[tuple[Sequence, Sequence]]) -> list[float]:
        """Return the cycles of context and sequence less those of the context."""
        contexts = list(dict.fromkeys(context for context, _ in pairs))
        both = [context + sequence for context, sequence in pairs]
        found = dict(zip([*contexts, *both], self._mca.cycles([*contexts, *both]), strict=True))
        taken = {
            sequence: max(float(found[sequence].cycles), busy)
            for sequence, busy in zip(found, self._busy(list(found)), strict=True)
        }
        for context, sequence in pairs:
            self._known[sequence] = found[context + sequence].instructions - found[context].instructions
        return [max(0.0, taken[context + sequence] - taken[context]) for context, sequence in pairs]

    def unknown(self, sequence: Sequence) -> int:
        """Return the instructions that llvm-mca left out."""
        return len(sequence) - self._known.get(sequence, len(sequence))

    def _busy(self, sequences: list[Sequence]) -> list[float]:
        """Return the cycles of the busiest unit among those that corrected instructions take; 0 where none is.

        Instructions that begin alone take theirs beside all units and issue slots of the others.
        """
        if not self._corrects:
            return [0.0] * len(sequences)
        self.learn(sequences)
        plain = {instruction: self._canonical(instruction) for sequence in sequences for instruction in sequence}
        busy = []
        for sequence in sequences:
            taken: dict[tuple[int, ...], float] = {}
            corrected: set[tuple[int, ...]] = set()
            alone, others = 0.0, 0
            for instruction in sequence:
                if (cost := self._costs[plain[instruction]]) is None:
                    continue
                if cost.alone:
                    alone += cost.alone
                    continue
                others += 1
                for units, cycles in cost.units:
                    taken[units] = taken.get(units, 0.0) + cycles / len(units)
                if self._mca.corrects(plain[instruction]):
                    corrected |= {units for units, _ in cost.units}
            if alone:
                busy.append(alone + max(others / self._mca.width, *taken.values(), 0.0))
            else:
                busy.append(max((taken[units] for units in corrected), default=0.0))
        return busy


@dataclass(frozen=True, slots=True)
class Compute:
    """What the core model says of one traced region."""

    cycles: float
    instructions: int
    """Executed instructions."""
    skipped: int
    """Executed instructions that the model does not know."""


def compute(trace: Trace, sequences: dict[int, Sequence], engine: Engine, kernel: str) -> Compute:
    """Return the compute cycles of a trace, all data in L1.

    A piece of code is charged the cycles that it adds to what was executed before it, a long loop its steady state.

    Raises
    ------
    KernelError
        More than `MAX_SKIPPED` of the executed instructions are unknown to the core model.
    """
    return _computed([trace.nest], sequences, engine, kernel)[0]


def compute_parts(trace: Trace, sequences: dict[int, Sequence], engine: Engine, program: str) -> list[Compute]:
    """Return the compute cycles of each part of a trace, all data in L1; see `compute`."""
    ends = (*trace.starts[1:], len(trace.nest))
    return _computed([trace.nest[a:b] for a, b in zip(trace.starts, ends, strict=True)], sequences, engine, program)


def _computed(nests: list[Nest], sequences: dict[int, Sequence], engine: Engine, kernel: str) -> list[Compute]:
    """Return what each nest takes; what several have in common is looked up once."""
    pieces = [cut(nest, sequences, max(_IN_ORDER_CONTEXT, engine.window)) for nest in nests]
    loops = list(dict.fromkeys(body for each in pieces for body in each.loops))
    pairs = list(dict.fromkeys(pair for each in pieces for pair in each.pairs))
    engine.learn([*loops, *(sequence for pair in pairs for sequence in pair)])
    loop_cycles = dict(zip(loops, engine.loops(loops), strict=True))
    pair_cycles = dict(zip(pairs, engine.edges(pairs), strict=True))
    found = []
    for each in pieces:
        executed = [
            *((body, count, loop_cycles[body]) for body, count in each.loops.items()),
            *((pair[1], count, pair_cycles[pair]) for pair, count in each.pairs.items()),
        ]
        instructions = sum(count * len(sequence) for sequence, count, _ in executed)
        skipped = sum(count * engine.unknown(sequence) for sequence, count, _ in executed)
        found.append(Compute(sum(count * cycles for _, count, cycles in executed), instructions, skipped))
    instructions, skipped = (sum(getattr(each, name) for each in found) for name in ("instructions", "skipped"))
    if skipped > MAX_SKIPPED * instructions:
        raise KernelError(
            f"{kernel}: at most {MAX_SKIPPED:.1%} of the executed instructions may be unknown to the core model, "
            f"but {skipped / instructions:.1%} are"
        )
    return found


@dataclass(frozen=True, slots=True)
class SelfTest:
    """Cycles of one iteration of the probe: 8 FMAs, each followed by an independent addition."""

    bound: float
    """The least that it can take: by issue width, and by each half of the probe alone."""
    mca: float
    """Cycles by llvm-mca."""
    scoreboard: float
    """Cycles by the scoreboard; infinite where it does not read the instruction set."""

    @property
    def engine(self) -> str | None:
        """The engine that comes near the bound, llvm-mca first."""
        if self.mca <= _PASS * self.bound:
            return McaCycles.name
        return Scoreboard.name if self.scoreboard <= _PASS * self.bound else None


_PASS = 1.25
"""Multiple of its bound that the probe may take: models that write results in order take twice the bound and more,
others the bound itself (docs/meter.md has the cycles of every shipped core)."""


def open_engine(core: CoreModel) -> Engine:
    """Return the engine that is right for a core model.

    Raises
    ------
    InputError
        LLVM has no model of the core, or no engine passes the probe.
    """
    test = self_test(core)
    if test.engine is None:
        raise InputError(
            f"LLVM's model of {core.name} cannot be used: 8 FMAs and 8 additions take {test.mca:g} cycles by llvm-mca "
            f"and {test.scoreboard:g} by the scoreboard, where {test.bound:g} are due"
        )
    mca = Mca(core)
    return McaCycles(mca) if test.engine == McaCycles.name else Scoreboard(mca)


@functools.cache
def self_test(core: CoreModel) -> SelfTest:
    """Run the probe on a core model, once a process.

    Raises
    ------
    InputError
        LLVM has no model of the core, or its latency of a vector FMA is a placeholder.
    """
    mca = Mca(core)
    described = instruction_set(core.isa)
    probe = described.probe
    fmas = tuple(Instruction(probe.fma.format(i)) for i in range(probe.first, probe.first + 8))
    additions = tuple(Instruction(probe.addition.format(i)) for i in range(probe.first, probe.first + 8))
    both = tuple(instruction for pair in zip(fmas, additions, strict=True) for instruction in pair)
    fmas_alone, additions_alone, together = McaCycles(mca).loops([fmas, additions, both])
    if core.is_vector:
        (cost,) = mca.table([probe.vector])
        if cost is None or cost.latency < 2:
            raise InputError(
                f"LLVM's model of {core.name} lacks the latency of vector FMAs: it cannot stand for the core"
            )
    return SelfTest(
        bound=max(fmas_alone, additions_alone, len(both) / mca.width),
        mca=together,
        scoreboard=math.inf if described.registers is None else Scoreboard(mca).loops([both])[0],
    )
