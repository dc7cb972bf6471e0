"""What a scalar costs that is loaded for an FMA on the X60: readings of the published products, each tried on others.

No emulator and no scheduling model is in this: a step is counted by hand, so that it shows which rule the numbers ask
for, before the meter has it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.boards.x60 import GEMMS, Gemm

_LOADS = {
    32: {"mf2": 1.5, "m1": 2.45, "m2": 4.35, "m4": 8.6},
    64: {"m1": 2.4, "m2": 4.2, "m4": 8.49},
}
"""Cycles of vle32.v and vle64.v: rvv-bench-results."""
_OVERHEAD = 2.0
"""Cycles of the two or three additions and the branch that end a loop's body, two of them a cycle: rounded."""
_LINE = 64
_ROBUST = 0.1
"""Deviation of a logarithm from which on it weighs less. Chosen, not measured."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A rule, and how well it predicts the products that it was fitted to and the others."""

    name: str
    fitted_to: str
    scalar: float
    """Cycles a scalar."""
    line: float
    """Cycles a line that is read, of which the core does nothing else."""
    dram: float
    """Cycles for which DRAM brings a line of the rows."""
    seen: float
    """Median error of what it was fitted to."""
    unseen: float
    """Median error of the others."""


def readings() -> list[Reading]:
    """Fit each rule to the products of one element type that do not spill, and predict those of the other."""
    plain = [gemm for gemm in GEMMS if not gemm.spills]
    found = []
    for name, start in _RULES.items():
        for bits in (32, 64):
            seen, unseen = ([g for g in plain if (g.bits == bits) is same] for same in (True, False))
            values = _fit(seen, start)
            errors = (_median_error(seen, values), _median_error(unseen, values))
            found.append(Reading(name, f"float{bits}", *values, *errors))
    return found


_Values = tuple[float, float, float]

_RULES: dict[str, tuple[float | None, float | None, float | None]] = {
    "one load a cycle; lines stop the core": (1.0, None, None),
    "an FMA waits for its scalar; lines stop the core": (None, None, None),
    "an FMA waits for its scalar; lines cost nothing": (None, 0.0, 0.0),
}
"""Cycles a scalar, a line and a line of DRAM: given, or fitted where None."""


def step_cycles(gemm: Gemm, scalar: float, line: float, dram: float) -> float:
    """Return the cycles of one step of a product.

    FMAs, vector loads and scalars follow each other, DRAM brings the rows meanwhile, and the core stops for each line.
    """
    registers = 1 if gemm.lmul == "mf2" else int(gemm.lmul[1:])
    core = gemm.columns * gemm.parts * registers + gemm.parts * _LOADS[gemm.bits][gemm.lmul] + _OVERHEAD / gemm.unroll
    rows, columns = (count * gemm.bits / 8 / _LINE for count in (gemm.rows, gemm.columns))
    return max(core + scalar * gemm.columns, dram * rows) + line * (rows + columns)


def _fit(gemms: Sequence[Gemm], given: tuple[float | None, ...]) -> _Values:
    from scipy.optimize import least_squares

    free = [index for index, value in enumerate(given) if value is None]
    start = (1.2, 4.0, 12.0)

    def values(logarithms: Sequence[float]) -> _Values:
        fitted = dict(zip(free, map(math.exp, logarithms), strict=True))
        scalar, line, dram = (fitted.get(index, value or 0.0) for index, value in enumerate(given))
        return scalar, line, dram

    def deviations(logarithms: Sequence[float]) -> list[float]:
        return [math.log(step_cycles(gemm, *values(logarithms)) / gemm.cycles) for gemm in gemms]

    at = [math.log(start[index]) for index in free]
    return values(least_squares(deviations, at, loss="soft_l1", f_scale=_ROBUST).x)


def _median_error(gemms: Sequence[Gemm], values: _Values) -> float:
    return float(np.median([abs(step_cycles(gemm, *values) / gemm.cycles - 1) for gemm in gemms]))
