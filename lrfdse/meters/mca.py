"""llvm-mca: cycles of instruction sequences, and its scheduling model as a table."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from lrfdse.base.processes import run_to_end
from lrfdse.errors import InputError, ToolError
from lrfdse.targets.isa import instruction_set
from lrfdse.targets.isa.code import Instruction, Sequence
from lrfdse.targets.target import Target
from lrfdse.toolchain.programs import require_llvm

_SUMMARY = ("-instruction-info=false", "-resource-pressure=false")
_TABLE_ITERATIONS = 12
"""Enough for alternative units to take turns, so that a unit's usage is the fraction that falls to it.

Chosen as a multiple of 2, 3 and 4, the numbers of alternative units on the cores that ship."""


_FIRST_PORT = 1000
"""Index of the first of a core's memory ports among its units; LLVM's models have far fewer."""


@dataclass(frozen=True, slots=True)
class Cycles:
    """What llvm-mca says of one sequence."""

    cycles: int
    instructions: int
    """Instructions of one iteration that the model knows; those it does not are skipped."""


@dataclass(frozen=True, slots=True)
class InstructionCost:
    """How one instruction uses the core."""

    latency: float
    units: tuple[tuple[tuple[int, ...], float], ...]
    """(indices of the units of which one is taken, cycles for which it is taken)."""
    memory: bool = False
    """Whether it loads or stores."""
    serializing: bool = False
    """Whether it waits for all before it, see `Target.serializing`."""
    alone: float = 0.0
    """Cycles for which no other begins beside it, see `Target.alone`."""

    @property
    def busy(self) -> float:
        """Cycles for which its busiest units are taken."""
        return max((taken / len(units) for units, taken in self.units), default=0.0)

    def every(self, cycles: float) -> InstructionCost:
        """Return the cost where one such instruction begins every `cycles` cycles.

        The units that are the busiest are taken for so long, and no other for longer. The latency stays.
        """
        most = self.busy
        return replace(
            self,
            units=tuple(
                (units, len(units) * (cycles if taken == most * len(units) else min(cycles, taken / len(units))))
                for units, taken in self.units
            ),
        )

    def through(self, ports: int) -> InstructionCost:
        """Return the cost where all that loads and stores goes through so many ports, for as long as its units."""
        if not self.memory:
            return self
        return replace(self, units=(*self.units, (tuple(range(_FIRST_PORT, _FIRST_PORT + ports)), max(1.0, self.busy))))


@dataclass(frozen=True, slots=True)
class CoreModel:
    """One of LLVM's scheduling models, for code with the given features."""

    isa: str
    name: str
    features: tuple[str, ...]
    is_vector: bool
    instructions: tuple[tuple[str, float], ...] = ()
    """What the model is corrected by, see `Target.instructions`."""
    latencies: tuple[tuple[str, float], ...] = ()
    """Results that come later than the model says, see `Target.latencies`."""
    memory_ports: int | None = None
    """See `Target.memory_ports`."""
    serializing: tuple[str, ...] = ()
    """See `Target.serializing`."""
    alone: tuple[str, ...] = ()
    """See `Target.alone`."""

    @classmethod
    def of(cls, target: Target) -> CoreModel:
        """Return the model that stands for the target's core."""
        return cls(
            target.isa,
            target.scheduling_model,
            target.features,
            target.lanes > 1,
            instructions=target.instructions,
            latencies=target.latencies,
            memory_ports=target.memory_ports,
            serializing=target.serializing,
            alone=target.alone,
        )


class Mca:
    """llvm-mca for one core model.

    Raises
    ------
    InputError
        LLVM has no scheduling model under this name.
    """

    def __init__(self, core: CoreModel) -> None:
        self._tool = require_llvm("llvm-mca")
        self.core = core
        self._instruction_set = instruction_set(core.isa)
        self._cycles = dict(core.instructions)
        self._latencies = dict(core.latencies)
        self._command = [
            self._tool.path,
            f"-mtriple={self._instruction_set.llvm}",
            f"-mcpu={core.name}",
            f"-mattr={','.join(core.features)}",
            "-json",
            "-call-latency=1",
            "-skip-unsupported-instructions=any",
        ]
        options = [option for option in self._command if option != "-json"]
        probe = self._instruction_set.probe
        said = self._output([*options, *_SUMMARY, "-retire-stats"], probe.addition.format(probe.first))
        self.width = _number("Dispatch Width", said)
        """Instructions dispatched a cycle."""
        self.window = _number("Total ROB Entries", said)
        """Instructions that an out-of-order core has in flight; 0 for an in-order core."""

    def cycles(self, sequences: list[Sequence], iterations: int = 1) -> list[Cycles]:
        """Return cycles for `iterations` repetitions of each sequence, from one call."""
        options = [*_SUMMARY, f"-iterations={iterations}"]
        return [
            Cycles(0, 0)
            if region is None
            else Cycles(region["SummaryView"]["TotalCycles"], region["SummaryView"]["Instructions"] // iterations)
            for region in self._run([*self._command, *options], sequences)
        ]

    def table(self, instructions: list[Instruction]) -> list[InstructionCost | None]:
        """Return latency and units of each instruction, from one call; None for what the model does not know.

        The target's `instructions`, `latencies`, `memory_ports`, `serializing` and `alone` are taken into account,
        which `cycles` knows nothing of.
        """
        options = ["-instruction-info", "-resource-pressure", f"-iterations={_TABLE_ITERATIONS}"]
        regions = self._run([*self._command, *options], [(instruction,) for instruction in instructions])
        return [
            None if region is None else self._corrected(instruction, _cost(region))
            for instruction, region in zip(instructions, regions, strict=True)
        ]

    def corrects(self, instruction: Instruction) -> bool:
        """Return whether the target says how long an instruction takes."""
        return self._instruction_set.form(instruction) in self._cycles

    def _corrected(self, instruction: Instruction, cost: InstructionCost) -> InstructionCost:
        form = self._instruction_set.form(instruction)
        if (cycles := self._cycles.get(form)) is not None:
            cost = cost.every(cycles)
        if self.core.memory_ports is not None:
            cost = cost.through(self.core.memory_ports)
        latency = self._latencies.get(form, cost.latency)
        alone = max(1.0, cost.busy) if form in self.core.alone else 0.0
        return replace(cost, latency=latency, serializing=form in self.core.serializing, alone=alone)

    def _run(self, command: list[str], sequences: list[Sequence]) -> list[Any]:
        if not sequences:
            return []
        comment = self._instruction_set.comment
        lines: list[str] = []
        for i, sequence in enumerate(sequences):
            lines += [f"{comment} LLVM-MCA-BEGIN {i}", *self._text(sequence), f"{comment} LLVM-MCA-END"]
        printed = self._output(command, "\n".join(lines))
        if not printed:
            return [None] * len(sequences)
        try:
            found = {region["Name"]: region for region in json.loads(printed)["CodeRegions"]}
        except (ValueError, KeyError, TypeError):
            raise ToolError(f"{command[0]} printed no JSON of LLVM's llvm-mca: is it another program?") from None
        return [found.get(str(i)) for i in range(len(sequences))]

    def _text(self, sequence: Sequence) -> Iterable[str]:
        """Yield what llvm-mca has to know of a sequence, and its instructions."""
        for hint in self._instruction_set.hints(sequence):
            yield f"{self._instruction_set.comment} {hint}"
        for instruction in sequence:
            yield instruction.text

    def _output(self, command: list[str], text: str) -> str:
        """Return what llvm-mca prints about `text`; nothing where it knows none of the instructions."""
        ended = run_to_end(command, "llvm-mca", faults=(), input=text + "\n")
        message = next((line for line in ended.stderr.splitlines() if "rror" in line), "")
        if re.search("not a recognized processor|unable to find instruction-level scheduling", ended.stderr):
            raise InputError(
                f"LLVM {self._tool.version} has no scheduling model {self.core.name!r} for {self.core.isa}: "
                "the target's `scheduling_model` must be a core that has one (docs/meter.md)"
            )
        if "no assembly instructions found" in ended.stderr:
            return ""
        if ended.returncode:
            raise ToolError(f"llvm-mca failed for core model {self.core.name}: {message}")
        return ended.stdout


def _number(name: str, text: str) -> int:
    found = re.search(rf"^{name}: +(\d+)", text, re.MULTILINE)
    if not found:
        raise ToolError(f"llvm-mca printed no {name!r}: is it another program?")
    return int(found[1])


def _cost(region: dict[str, Any]) -> InstructionCost:
    said = region["InstructionInfoView"]["InstructionList"][0]
    usage = {
        entry["ResourceIndex"]: float(entry["ResourceUsage"])
        for entry in region["ResourcePressureView"]["ResourcePressureInfo"]
        if entry["InstructionIndex"] == 0
    }
    fixed = [((unit,), round(cycles)) for unit, cycles in usage.items() if abs(cycles - round(cycles)) < 0.01]
    shared = {unit: cycles for unit, cycles in usage.items() if abs(cycles - round(cycles)) >= 0.01}
    alternatives = [(tuple(sorted(shared)), max(1, round(sum(shared.values()))))] if shared else []
    return InstructionCost(int(said["Latency"]), tuple(fixed + alternatives), bool(said["mayLoad"] or said["mayStore"]))
