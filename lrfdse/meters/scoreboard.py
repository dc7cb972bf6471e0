"""Cycles on an in-order core: LLVM's scheduling tables without llvm-mca's rule that results are written in order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from lrfdse.meters.mca import InstructionCost, Mca
from lrfdse.targets.isa import instruction_set
from lrfdse.targets.isa.code import Instruction, Sequence

_WARM_UP, _TIMED = 4, 8
"""Repetitions of a loop before and while its cycles are taken. Chosen, not measured."""
_SHORTER_FROM = 256
"""Instructions of a loop body from which fewer repetitions do. Chosen, not measured."""


class _Entry(NamedTuple):
    latency: float
    units: tuple[tuple[tuple[int, ...], float], ...]
    writes: tuple[str, ...]
    reads: tuple[str, ...]
    updates: tuple[str, ...]
    serializing: bool
    alone: float


class Scoreboard:
    """Issues in order, up to the core's width a cycle, as soon as operands and units are free.

    Instructions that LLVM's model does not know are skipped and counted (`unknown`).

    Raises
    ------
    ValueError
        The instruction set has no reader of registers: all its cores are out of order.
    """

    name = "scoreboard"

    window = 0

    def __init__(self, mca: Mca) -> None:
        described = instruction_set(mca.core.isa)
        if described.registers is None:
            raise ValueError(f"{described.name} has no reader of registers, which an in-order model needs")
        self._registers = described.registers
        self._canonical = described.canonical
        self._mca = mca
        self._costs: dict[Instruction, InstructionCost | None] = {}
        self._entries: dict[Instruction, _Entry | None] = {}

    def learn(self, sequences: Iterable[Sequence]) -> None:
        """Look up every instruction that is new, in one call of llvm-mca."""
        fresh = {instruction for sequence in sequences for instruction in sequence} - self._entries.keys()
        plain = {instruction: self._canonical(instruction) for instruction in fresh}
        missing = sorted(
            set(plain.values()) - self._costs.keys(),
            key=lambda instruction: (instruction.text, -1 if instruction.vtype is None else instruction.vtype),
        )
        self._costs.update(zip(missing, self._mca.table(missing), strict=True))
        for instruction in fresh:
            cost = self._costs[plain[instruction]]
            if cost is None:
                self._entries[instruction] = None
                continue
            used = self._registers(instruction)
            self._entries[instruction] = _Entry(
                cost.latency, cost.units, used.writes, used.reads, used.updates, cost.serializing, cost.alone
            )

    def unknown(self, sequence: Sequence) -> int:
        """Return how many instructions of a sequence the model does not know."""
        return sum(self._entries[instruction] is None for instruction in sequence)

    def loops(self, bodies: list[Sequence]) -> list[float]:
        """Return cycles of one iteration in the steady state, for each loop body."""
        self.learn(bodies)
        cycles = []
        for body in bodies:
            warm_up, timed = (_WARM_UP, _TIMED) if len(body) < _SHORTER_FROM else (2, 4)
            before, after = self._issue([body * warm_up, body * timed])
            cycles.append((after - before) / timed)
        return cycles

    def edges(self, pairs: list[tuple[Sequence, Sequence]]) -> list[float]:
        """Return the cycles that the second sequence adds after the first, for each pair."""
        self.learn(sequence for pair in pairs for sequence in pair)
        cycles = []
        for context, sequence in pairs:
            alone, both = self._issue([context, sequence])
            cycles.append(float(both - alone))
        return cycles

    def _issue(self, parts: Iterable[Sequence]) -> list[float]:
        """Return the cycle in which the last instruction of each part issues, the parts one after the other."""
        ready: dict[str, float] = {}
        free: dict[int, float] = {}
        width = self._mca.width
        now: float = 0
        ended: float = 0
        issued = 0
        result = []
        for part in parts:
            for instruction in part:
                if (entry := self._entries[instruction]) is None:
                    continue
                latency, units, writes, reads, updates, serializing, alone = entry
                start = max(now, ended) if serializing else now
                for name in reads:
                    if (at := ready.get(name, 0)) > start:
                        start = at
                taken = []
                for alternatives, occupied in units:
                    unit = min(alternatives, key=lambda u: free.get(u, 0)) if len(alternatives) > 1 else alternatives[0]
                    if (at := free.get(unit, 0)) > start:
                        start = at
                    taken.append((unit, occupied))
                if start == now and (issued >= width or (alone and issued)):
                    start += 1
                if start > now:
                    now, issued = start, 0
                issued += 1
                end = start + latency
                for unit, occupied in taken:
                    free[unit] = start + occupied
                    if free[unit] > end:
                        end = free[unit]
                if end > ended:
                    ended = end
                if serializing:
                    now, issued = ended, 0
                elif alone:
                    now, issued = start + alone, 0
                for name in writes:
                    ready[name] = start + latency
                for name in updates:
                    ready[name] = start + 1
            result.append(now)
        return result
