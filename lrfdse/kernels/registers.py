"""Where the operands of an inner loop lie while it runs: how many iterations are in one body, and how many loaded."""

from __future__ import annotations

from dataclasses import dataclass

from lrfdse.ir.kernel import StepSchedule
from lrfdse.ir.storage import FLOAT32, Storage
from lrfdse.kernels.layout import FMAS_IN_FLIGHT, register_group
from lrfdse.targets.target import Target

_SPARE = 8
"""Registers that stay free where vectors and scalars share them. Chosen, not measured."""

_SCALARS = 24
"""Registers for scalar operands where they have their own, of 32. Chosen, not measured."""

PIPELINED_FROM = 3
"""Bodies of a loop from which loading ahead pays: the first and the last are outside of the loop then.

Chosen, not measured."""

LOAD = 2
"""FMAs that take as long as the load of a vector: a `vle32` of 1, 2 and 4 registers takes the X60 2, 4 and 8 cycles, a
`vfmacc` 1, 2 and 4; the A55 takes two cycles to load 128 bits."""


@dataclass(frozen=True, slots=True)
class Body:
    """One loop body over the inner axis."""

    unroll: int
    """Iterations."""
    sets: int
    """Sets of accumulators, which take turns."""
    carried: int
    """Iterations whose operands have registers of their own."""
    rotates: bool
    """Whether an iteration loads what a later one multiplies, into the registers of the one before it. Otherwise it
    loads anew what it has just used, for its place in the next body."""


@dataclass(frozen=True, slots=True)
class RegisterFile:
    """The registers of a core that is told in which order to load."""

    vectors: int
    """Vector registers, or all floating-point registers of a core without vectors."""
    apart: bool
    """Whether scalar operands lie in registers of their own."""
    lanes: int
    """Elements of one vector register."""
    raises: bool = False
    """Whether int8 weights on the lanes become floats by their bits, those of the first iteration ahead."""

    @classmethod
    def of(cls, target: Target) -> RegisterFile:
        """Return the registers of a target."""
        return cls(target.vector_registers, target.vectors.scalars_apart, target.lanes, target.slow_conversions)

    def body(self, schedule: StepSchedule, rows: int, columns: int, storage: Storage = FLOAT32) -> Body:
        """Return the loop body of a tile of `rows` x `columns` accumulators with weights stored so."""
        group = register_group(schedule.lanes, self.lanes)
        products = rows * columns
        sets = min(schedule.unroll, max(1, FMAS_IN_FLIGHT // (group * products)))
        vectors, scalars = operands(schedule, rows, columns)
        if storage.scaled and self.apart:
            # What takes its time is making floats of them: it overlaps inside of long bodies. One iteration loaded
            # ahead is enough, or a second behind one that is made ahead: on the X60 a body of 4 times two groups of
            # four takes 5 % longer without, and 1 % with a third.
            ahead = min(2, schedule.unroll) if self.raises and schedule.axis == "out" else 1
            return Body(schedule.unroll, min(sets, schedule.unroll), ahead, False)
        carried = self._bodies(group, sets * products, vectors, scalars)
        # Where loads take longer than FMAs, LLVM moves those of all iterations to the front of the body.
        unroll = schedule.unroll if LOAD * vectors <= products else min(schedule.unroll, max(1, carried))
        carried = min(carried, unroll)
        # Taking turns needs whole turns in a body, and pays where FMAs hide the loads. On AArch64 it spills.
        turns = next((n for n in range(carried, 1, -1) if unroll % n == 0), 0) if self.apart else 0
        rotates = turns > 0 and LOAD * group * vectors + scalars <= group * products
        return Body(unroll, min(sets, unroll), turns if rotates else carried, rotates)

    def _bodies(self, group: int, sums: int, vectors: int, scalars: int) -> int:
        """Return for how many iterations the operands fit, beside `sums` accumulators of `group` registers."""
        if not self.apart:
            return max(0, (self.vectors - _SPARE - sums * group) // (vectors * group + scalars))
        # Of the largest groups there are so few that the ends of a tile need one more.
        groups = (self.vectors - 1) // group - (group == 4)
        return max(0, min((groups - sums) // max(1, vectors), _SCALARS // max(1, scalars)))


def operands(schedule: StepSchedule, rows: int, columns: int) -> tuple[int, int]:
    """Return the vectors and the scalars that one iteration of a tile multiplies.

    >>> operands(StepSchedule("out", 8, 4, 3), 4, 3)
    (4, 3)
    """
    vectors = {"out": rows, "columns": columns, "inner": rows + columns}[schedule.axis]
    return vectors, rows + columns - vectors
