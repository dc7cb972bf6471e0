"""How far apart two latencies must be before one of them is known to be the lower."""

from __future__ import annotations

import math

from lrfdse.ir.latency import MeterKind
from lrfdse.targets.target import ModelError, Target

UNCHECKED = 0.2
"""Relative difference of two modelled latencies up to which they are a tie, where the core's model was not checked
against hardware: what docs/meter.md found between kernels of cores whose model was."""


MODEL = "model"
"""The meter that `Target.error` is of, by the name under which it is registered."""


def error_of(target: Target, meter: str) -> ModelError | None:
    """Return how far a meter is from published measurements of a core; None where nobody held the two together.

    What a target says is the error of the built-in model meter: another meter models something else.
    """
    return target.error if meter == MODEL else None


def resolution_of(target: Target, meter: str, kind: MeterKind) -> float | None:
    """Return the relative difference of two latencies up to which they are a tie, for `lrfdse.ir.latency.are_tied`.

    What the model gets wrong of all kernels alike, the geometric middle of its error, moves no design ahead of another:
    what is left is half the error's width, on a logarithmic scale. None for measured latencies, whose spreads tell.
    """
    if kind == "measured":
        return None
    error = error_of(target, meter)
    return UNCHECKED if error is None else math.sqrt(error.high / error.low) - 1
