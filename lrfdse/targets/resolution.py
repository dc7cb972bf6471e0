"""How far apart two latencies must be before one of them is known to be the lower."""

from __future__ import annotations

import math

from lrfdse.ir.latency import MeterKind
from lrfdse.targets.target import Target

UNCHECKED = 0.2
"""Relative difference of two modelled latencies up to which they are a tie, where the core's model was not checked
against hardware: what docs/meter.md found between kernels of cores whose model was."""


def resolution_of(target: Target, kind: MeterKind) -> float | None:
    """Return the relative difference of two latencies up to which they are a tie, for `lrfdse.ir.latency.are_tied`.

    What the model gets wrong of all kernels alike, the geometric middle of its error, moves no design ahead of another:
    what is left is half the error's width, on a logarithmic scale. None for measured latencies, whose spreads tell.
    """
    if kind == "measured":
        return None
    return UNCHECKED if target.error is None else math.sqrt(target.error.high / target.error.low) - 1
