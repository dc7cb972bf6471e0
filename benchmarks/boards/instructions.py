"""Throughputs of single instructions that were published for boards, and what LLVM and the targets' corrections say."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lrfdse.meters.mca import CoreModel
from lrfdse.meters.scheduling import Engine, open_engine
from lrfdse.targets.catalog import load_target
from lrfdse.targets.isa.code import Sequence

PUBLISHED = Path(__file__).parent / "published" / "instructions.csv"
"""Target, instruction, element width and register group, cycles an instruction, source (docs/meter.md names them).

The instructions are those of our kernels, of those we compare them with, and of the loops that copy, fill and read.
``{}`` stands for the register that is written: several take turns, as in the loops that were measured."""

_GROUPED = 8
"""Vector registers v8 to v15 that the loops of rvv-bench write in turn, in groups as large as LMUL."""
_SINGLE = 10
"""Registers that other loops write in turn: as many as callee-saved ones are left on RISC-V."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """One published number."""

    target: str
    instruction: str
    vtype: str
    """Element width and register group of RVV, such as "e32m1"; empty elsewhere."""
    cycles: float
    """Cycles an instruction, of many that do not depend on each other."""
    source: str


@dataclass(frozen=True, slots=True)
class Compared:
    """A published number beside the modelled ones, all in cycles an instruction."""

    published: Throughput
    llvm: float
    """By LLVM's model alone."""
    modelled: float
    """With what the target says of single instructions."""

    @property
    def error(self) -> float:
        """How much longer the model takes than the board: 0.2 for a fifth, negative where it is faster."""
        return self.modelled / self.published.cycles - 1


def published() -> list[Throughput]:
    """Return every published throughput, in the order of the file."""
    with PUBLISHED.open(encoding="utf-8", newline="") as file:
        return [
            Throughput(row["target"], row["instruction"], row["vtype"], float(row["cycles"]), row["source"])
            for row in csv.DictReader(file)
        ]


def compare(rows: Iterable[Throughput]) -> list[Compared]:
    """Return the model's throughput of each row's loop, with and without the target's corrections."""
    by_target: dict[str, list[Throughput]] = {}
    for row in rows:
        by_target.setdefault(row.target, []).append(row)
    compared = []
    for name, its_rows in by_target.items():
        target = load_target(name)
        core = CoreModel.of(target)
        loops = [loop(row) for row in its_rows]
        with_llvm = _cycles(open_engine(dataclasses.replace(core, instructions=())), loops)
        corrected = _cycles(open_engine(core), loops)
        compared += [Compared(*found) for found in zip(its_rows, with_llvm, corrected, strict=True)]
    return compared


def loop(row: Throughput) -> Sequence:
    """Return a loop of one published instruction, with as many results in turn as in the loop that was measured."""
    described = load_target(row.target).instruction_set
    if not row.vtype:
        return described.sequence([row.instruction.format(described.probe.first + i) for i in range(_SINGLE)], None)
    width, group = row.vtype.split("m")
    step = int(group) if group.isdigit() else 1
    texts = [row.instruction.format(_GROUPED + step * i % _GROUPED) for i in range(_GROUPED)]
    return described.sequence([f"vsetvli zero, zero, {width}, m{group}, ta, ma", *texts], None)[1:]


def _cycles(engine: Engine, loops: list[Sequence]) -> list[float]:
    return [cycles / len(body) for body, cycles in zip(loops, engine.loops(loops), strict=True)]
