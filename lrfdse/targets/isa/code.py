"""Machine code as the meters read it: instructions as text, the registers that they touch, and executed runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Instruction(NamedTuple):
    """An instruction as text, with the vtype under which it runs (vector instructions of RVV only)."""

    text: str
    vtype: int | None = None


@dataclass(frozen=True, slots=True)
class Registers:
    """Registers of one instruction, by the names of the smallest parts that are tracked."""

    writes: tuple[str, ...]
    """Ready after the instruction's latency."""
    reads: tuple[str, ...]
    updates: tuple[str, ...] = ()
    """Address registers that a load or store advances: ready after one cycle."""


Sequence = tuple[Instruction, ...]
"""Instructions in the order of execution."""


@dataclass(frozen=True, slots=True)
class Run:
    """A maximal address range that was executed in sequence."""

    id: int
    start: int
    end: int
    vtype: int | None
    """RVV's vtype at entry; None outside RVV, or where it is not known."""
