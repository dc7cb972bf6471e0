"""The X60's fitted numbers: fitted to all published rows, and to all but one loop or tile, which is then predicted."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.boards.run import Row
from lrfdse.targets.target import Target

MEMORY = (
    *("last_level_bytes_per_cycle", "last_level_fill_bytes_per_cycle"),
    *("dram_bytes_per_cycle", "dram_fill_bytes_per_cycle", "dram_copy_bytes_per_cycle"),
)
"""Fields of the target that are fitted."""

VLENB = "csrr"
"""The instruction whose cycles are fitted besides."""


def values(target: Target) -> dict[str, float]:
    """Return what a target says of everything that is fitted."""
    return {**{name: float(getattr(target, name)) for name in MEMORY}, VLENB: dict(target.latencies)[VLENB]}


def modelled(row: Row, target: Target, fitted: Mapping[str, float]) -> float:
    """Return the modelled cycles of a row with other values for what is fitted.

    Compute cycles grow by one for every cycle that a serializing instruction takes longer, each time it is executed.
    """
    rates: dict[str, Any] = {name: fitted[name] for name in MEMORY}
    changed = dataclasses.replace(target, **rates)
    return row.modelled(changed, row.vlenb * (fitted[VLENB] - dict(target.latencies)[VLENB]))


def fit(rows: Sequence[Row], target: Target) -> dict[str, float]:
    """Return the values under which the logarithms of modelled over published are least, by a robust loss (soft L1)."""
    from scipy.optimize import least_squares

    start = values(target)
    names = list(start)

    def deviations(logarithms: NDArray[np.float64]) -> NDArray[np.float64]:
        tried = dict(zip(names, np.exp(logarithms).tolist(), strict=True))
        return np.array([math.log(modelled(row, target, tried) / row.published) for row in rows])

    found = least_squares(deviations, np.log(list(start.values())), loss="soft_l1", f_scale=0.1, diff_step=0.01)
    return dict(zip(names, np.exp(found.x).tolist(), strict=True))


def left_out(rows: Sequence[Row], target: Target) -> list[float]:
    """Return modelled over published of every row, by a fit to all rows that are not of its group."""
    by_group = {
        group: fit([r for r in rows if r.group != group], target) for group in dict.fromkeys(r.group for r in rows)
    }
    return [modelled(row, target, by_group[row.group]) / row.published for row in rows]
