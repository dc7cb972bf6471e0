"""What latencies would be if the target were another: which of its assumptions a speed-up rests on."""

from __future__ import annotations

from dataclasses import dataclass

from lrfdse.ir.latency import Regime
from lrfdse.results.layers import Latencies


@dataclass(frozen=True, slots=True, kw_only=True)
class AssumedDesign:
    """A design under one assumption."""

    id: str
    cache_regime: Regime
    """Cache regime that the design would be charged in."""
    latency: Latencies
    """Latency of all fully-connected layers."""
    speed_up_warm: float
    """Warm latency of the original over that of the design, both under the assumption."""
    speed_up_cold: float
    """Cold latency of the original over that of the design, both under the assumption."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SensitivityCase:
    """One assumption about the target, with what it does to the original, the recommended design and SVD."""

    assumption: str
    """The assumption in words; the first case is the target as it is."""
    designs: tuple[AssumedDesign, ...]
    """The original first, then the recommended design, then SVD at equal size where there is one."""

    def of(self, identity: str) -> AssumedDesign | None:
        """Return the design of that id, or None where it is not among them."""
        return next((design for design in self.designs if design.id == identity), None)
