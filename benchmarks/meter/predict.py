"""What the model meter says of the cases, with the alternatives that it is compared with."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.meter.cases import Case
from benchmarks.meter.machine_target import Hierarchy
from lrfdse.ir.latency import Regime
from lrfdse.meters.disassemble import Disassembler
from lrfdse.meters.mca import CoreModel, Mca
from lrfdse.meters.memory import MemoryCycles, memory_cycles
from lrfdse.meters.nest import Loop, Nest, flatten
from lrfdse.meters.scheduling import compute, open_engine
from lrfdse.meters.trace import Trace, Traffic, record
from lrfdse.targets.isa.code import Sequence
from lrfdse.targets.target import Target

_TIMEOUT = 600.0
MEMORY_RULES = ("overlap", "midpoint", "sum")


@dataclass(frozen=True, slots=True)
class Rules:
    """How a kernel's parts become one number; the defaults are the meter's."""

    regime: Regime = "warm"
    memory: str = "overlap"
    """One of `MEMORY_RULES`."""
    patient: bool = False
    """Whether every miss that no prefetcher sees coming is waited for, as on an in-order core."""
    run_by_run: bool = False
    """Whether a run of instructions is charged after the one before it alone."""


WARM, COLD = Rules(), Rules("cold")


@dataclass(frozen=True, slots=True)
class Prediction:
    """One case under the model."""

    compute: float
    """Cycles with all data in L1."""
    run_by_run: float
    """The same with each run charged after the one before it alone, which is how much less context does."""
    instructions: int
    skipped: int
    warm_traffic: Traffic
    cold_traffic: Traffic
    patient_warm: Traffic
    """Traffic where every miss that no prefetcher sees coming is waited for, as on an in-order core."""
    patient_cold: Traffic
    kib: float
    kind: str
    """What limits it, one of `KINDS`."""

    def cycles(self, hierarchy: Hierarchy, rules: Rules) -> float:
        """Return the modelled cycles of one call."""
        memory = self.memory(hierarchy, rules)
        compute = self.run_by_run if rules.run_by_run else self.compute
        low, high = memory.low(compute), memory.high(compute)
        return {"overlap": low, "sum": high, "midpoint": (low + high) / 2}[rules.memory]

    def memory(self, hierarchy: Hierarchy, rules: Rules) -> MemoryCycles:
        """Return what memory costs one call."""
        if rules.regime == "cold":
            return memory_cycles(self.patient_cold if rules.patient else self.cold_traffic, hierarchy.cold())
        return memory_cycles(self.patient_warm if rules.patient else self.warm_traffic, hierarchy.warm(self.kib))


class Model:
    """The model meter of one target, part by part."""

    def __init__(self, target: Target) -> None:
        self._disassembler = Disassembler(target)
        self._mca = Mca(CoreModel.of(target))
        self._fma_per_cycle = target.fma_per_cycle
        self.engine = open_engine(CoreModel.of(target))

    def predict(self, case: Case, hierarchy: Hierarchy) -> Prediction:
        """Run a case under the emulator and return what the model says of it."""

        def traced(target: Target, window: int) -> Trace:
            return record(case.artifact, target, case.arrays, case.expected, _TIMEOUT, window)

        kib = case.bytes / 1024
        fits = kib <= hierarchy.third_kib
        window = self.engine.window
        far, patient_far = traced(hierarchy.far, window), traced(hierarchy.far, 0)
        near, patient_near = (traced(hierarchy.near, window), traced(hierarchy.near, 0)) if fits else (far, patient_far)
        sequences = self._disassembler.sequences(near)
        core = compute(near, sequences, self.engine, case.variant)
        stream = memory_cycles(near.warm, hierarchy.warm(kib)).stream
        return Prediction(
            compute=core.cycles,
            run_by_run=self._run_by_run(near.nest, sequences),
            instructions=core.instructions,
            skipped=core.skipped,
            warm_traffic=near.warm,
            cold_traffic=far.cold,
            patient_warm=patient_near.warm,
            patient_cold=patient_far.cold,
            kib=kib,
            kind=self._kind(near.nest, sequences, core.cycles, stream, case),
        )

    def _kind(self, nest: Nest, sequences: Mapping[int, Sequence], compute: float, stream: float, case: Case) -> str:
        """Return which of `KINDS` a case is."""
        runs = Counter(flatten(nest)[1:])
        executed = sum(count * len(sequences[run]) for run, count in runs.items())
        spilling = {run: sum(bool(_SPILL.search(i.text)) for i in sequences[run]) for run in runs}
        if stream > compute:
            return "memory"
        if sum(count * spilling[run] for run, count in runs.items()) > 0.05 * executed:
            return "spilling"
        if compute > 2 * max(executed / self._mca.width, case.flops / 2 / self._fma_per_cycle):
            return "waiting"
        short = _in_short_loops(nest, sequences, self.engine.window)
        return "short loops" if short > 0.5 * executed else "throughput"

    def _run_by_run(self, nest: Nest, sequences: Mapping[int, Sequence]) -> float:
        edges = Counter(itertools.pairwise(flatten(nest)))
        loops = {a: count for (a, b), count in edges.items() if a == b}
        others = {(a, b): count for (a, b), count in edges.items() if a != b}
        pairs = [(sequences[a] * (2 if a in loops else 1), sequences[b]) for a, b in others]
        cycles = sum(
            count * each
            for count, each in zip(loops.values(), self.engine.loops([sequences[a] for a in loops]), strict=True)
        )
        return cycles + sum(count * each for count, each in zip(others.values(), self.engine.edges(pairs), strict=True))


KINDS = {
    "memory": "streaming takes longer than computing",
    "spilling": "more than 5 % of the executed instructions move a vector or a float to or from the stack",
    "waiting": "at least twice the cycles that issuing its instructions or its FMAs takes: dependent operations",
    "short loops": "more than half of the executed instructions are in loops that end within the core's window",
    "throughput": "none of these: how fast instructions can be issued or executed",
}
"""What a case is limited by, the first that fits."""

_SPILL = re.compile(r"(?=.*%[xyz]mm\d)(?=.*\(%r[sb]p\b)")


def _in_short_loops(nest: Nest, sequences: Mapping[int, Sequence], window: int) -> int:
    total = 0
    for item in nest:
        if isinstance(item, Loop):
            inside = sum(len(sequences[run]) for run in flatten(item.body))
            innermost = all(isinstance(part, int) for part in item.body)
            if innermost:
                total += item.count * inside if item.count * inside < window else 0
            else:
                total += item.count * _in_short_loops(item.body, sequences, window)
    return total
