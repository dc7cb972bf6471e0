"""How far apart two latencies must be before one of them is known to be the lower."""

from __future__ import annotations

from lrfdse.ir.latency import MeterKind

UNCHECKED = 0.2
"""Relative difference of two modelled latencies up to which they are a tie, where nothing better is known of the core:
what docs/meter.md found between kernels of one core whose model was held against hardware and a simulator."""


def resolution_of(kind: MeterKind) -> float | None:
    """Return the relative difference of two latencies up to which they are a tie, for `lrfdse.ir.latency.are_tied`.

    None for measured latencies, whose spreads tell.
    """
    return None if kind == "measured" else UNCHECKED
