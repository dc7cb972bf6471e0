"""A latency with its bracket and its cache regime, and a measurement of a kernel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

TOLERANCE = 1e-4
"""Largest error of a kernel's output, relative to the largest element of the reference, that float32 rounding explains.

Chosen, not measured: by float32's unit roundoff of 6e-8, sums of 10 000 products are usually off by less than 1e-5 of
their size, and they are by more than 1e-3 where one product is missing."""

Regime = Literal["warm", "cold"]
"""Whether a kernel finds its weights in the last-level cache (warm) or in DRAM (cold)."""

REGIMES: tuple[Regime, Regime] = ("warm", "cold")
"""Both, in the order in which they stand side by side."""


Bound = Literal["compute", "cache", "dram"]
"""What most of a kernel's time goes to: instructions (FMA and what surrounds them), the last-level cache, or DRAM."""


@dataclass(frozen=True, slots=True)
class Latency:
    """A latency in microseconds with its bracket or spread."""

    us: float
    low_us: float
    high_us: float


MeterKind = Literal["measured", "modelled"]
"""Whether a latency was measured on the target's hardware, or modelled."""


def are_tied(one: Latency, other: Latency, resolution: float | None) -> bool:
    """Return whether nobody can say which of two latencies is the lower.

    Parameters
    ----------
    one, other
        Latencies by the same meter, in any order.
    resolution
        Relative difference up to which they are a tie: of the higher over the lower, less one. None for measured ones,
        which are a tie where their spreads have a point in common.

    >>> are_tied(Latency(10, 10, 15), Latency(11, 11, 12), 0.2)
    True
    >>> are_tied(Latency(10, 9, 11), Latency(12, 11.5, 13), None)
    False

    A latency ties with itself, whatever a damaged document says of it.

    >>> are_tied(Latency(-10, -10, -10), Latency(-10, -10, -10), 0.2)
    True
    """
    if one == other:
        return True
    if resolution is None:
        return one.low_us <= other.high_us and other.low_us <= one.high_us
    low, high = sorted((one.us, other.us))
    return high <= low * (1 + resolution)


@dataclass(frozen=True, slots=True)
class Measurement:
    """The latency of one kernel on one target, with its provenance and its numerical check."""

    meter: str
    """Name of the meter that obtained it."""
    warm: Latency
    cold: Latency
    max_error: float
    """Largest deviation from the reference relative to the largest reference element."""
    details: Mapping[str, float | int | str] = field(default_factory=dict)
    """What the meter saw: executed instructions, cycles, misses, repeats."""

    def at(self, regime: Regime) -> Latency:
        """Return the latency in the given cache regime."""
        return self.warm if regime == "warm" else self.cold


@dataclass(frozen=True, slots=True)
class PartLatency:
    """The latency of one part of a program, such as an operator of a whole model."""

    warm: Latency
    cold: Latency
    details: Mapping[str, float | int | str] = field(default_factory=dict)
    """What the meter saw, as in `Measurement`."""


@dataclass(frozen=True, slots=True)
class ProgramMeasurement:
    """The latency of a whole model on one target, part by part in the order of execution."""

    meter: str
    """Name of the meter that obtained it."""
    kind: MeterKind
    warm: Latency
    """Of a run that finds the caches as the run before left them. Where it is modelled, it is the sum of the parts."""
    cold: Latency
    """Of a run that finds them empty."""
    parts: tuple[PartLatency, ...]
    max_error: float
    """Largest deviation of an output relative to the largest element of its reference."""
    details: Mapping[str, float | int | str] = field(default_factory=dict)
    """What the meter saw of the whole, as in `Measurement`."""
