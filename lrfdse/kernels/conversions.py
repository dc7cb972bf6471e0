"""What int8 weights take on their way to floats where registers form groups: cycles, and registers.

In units of the time that an FMA of one register takes; measured on the X60 by the model meter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lrfdse.kernels.registers import PIPELINED_FROM

if TYPE_CHECKING:
    from lrfdse.ir.kernel import StepSchedule
    from lrfdse.kernels.layout import Tiling
    from lrfdse.targets.target import Target


@dataclass(frozen=True, slots=True)
class Conversion:
    """One way to make floats of int8 weights."""

    widened: float
    """What widening the weights of one register takes, beside the arithmetic on floats."""
    least: float
    """What a vector of weights takes at least."""
    before: float
    """From the first weights of a loop body to their FMAs."""
    exposed: float
    """Share of widening or arithmetic, whichever is shorter, that is not hidden behind the other where a single vector
    of weights, or several places, meet."""
    once_a_body: bool
    """Whether arithmetic on floats is an addition a body for each register of sums, else one for each of weights."""

    def arithmetic(self, weights: int, sums: int, unroll: int) -> float:
        """Return the additions of one iteration, by vectors: of its weights, or of a body's share of its sums."""
        return sums / unroll if self.once_a_body else float(weights)


CONVERTED = Conversion(2.0, 6.0, 14.0, 0.0, False)
"""One by one: a sign extension, two instructions of two cycles for two registers, and an addition. Four vectors of two
registers take 24 cycles; bodies of 2, 4 and 8 times two groups of four registers 46, 78 and 143."""

RAISED = Conversion(1.5, 4.8, 2.0, 0.44, True)
"""By their bits (`lrfdse.kernels.tir.raised`), those of the first iteration ahead: two cycles and four for four
registers. Bodies of 8 times four vectors of one register take 19.4 cycles an iteration; bodies of 2 and 4 times two
groups of four 12.6 and 13.0, of which weights take 12; bodies of 8 times one group of four 7.9, weights 6 of them,
beside 4.5 of arithmetic. Bodies of 8 times 2 x 2, 3 x 2 and 4 x 2 vectors of two registers take 13.7, 19.5 and 28.2,
weights 9.6, 14.4 and 19.2 of them; bodies of 4 times 2 x 4 take 24.2, arithmetic 20 of them."""

_SPARE = 3
"""Groups of registers that hold raised weights in the making: tiles of 1 x 4, 2 x 1 and 3 x 1 groups of four registers
spill nothing in their loops, those of 2 x 4, 3 x 2 and 4 x 1 take ten times as long."""

_MOST = 48
"""Registers of weights in a body that meet one place each: LLVM 22 makes floats of all of them first. Bodies of 4 and 8
times two groups of four registers take 13.0 and 59.5 cycles an iteration."""


def conversion(schedule: StepSchedule, target: Target) -> Conversion:
    """Return how int8 weights become floats."""
    return RAISED if target.slow_conversions and schedule.axis == "out" else CONVERTED


def raised_fit(tiling: Tiling, sets: int, size: int, target: Target) -> bool:
    """Return whether a tile of raised weights keeps to the vector registers.

    Parameters
    ----------
    tiling
        The step.
    sets
        Of accumulators.
    size
        Registers of a vector.
    target
        The machine.
    """
    s = tiling.schedule
    held = s.out_tile * s.column_tile * sets + s.out_tile + _SPARE
    # A loop of a single body is none.
    loops = tiling.depth >= (PIPELINED_FROM + 1) * s.unroll
    straight = s.unroll if loops else tiling.depth
    many = (s.column_tile == 1 or not loops) and s.out_tile * straight * size > _MOST
    return held * size <= target.vector_registers and s.column_tile * s.unroll <= 28 and not many
