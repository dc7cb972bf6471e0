"""The memory side of a modelled latency: cache traffic to cycles, and the bracket with the compute cycles."""

from __future__ import annotations

from dataclasses import dataclass

from lrfdse.ir.latency import Latency
from lrfdse.meters.trace import Traffic
from lrfdse.targets.target import Target


@dataclass(frozen=True, slots=True)
class MemoryCycles:
    """Cycles that one call's cache traffic takes."""

    stream: float
    """Cycles to move all lines at the bandwidth of the level that is busiest."""
    latency: float
    """Cycles of waiting for the misses that no prefetcher sees coming."""

    def low(self, compute: float) -> float:
        """Return cycles when computing and streaming overlap perfectly."""
        return max(compute, self.stream) + self.latency

    def high(self, compute: float) -> float:
        """Return cycles when nothing overlaps."""
        return compute + self.stream + self.latency

    def modelled(self, compute: float, clock_mhz: float) -> Latency:
        """Return the latency with its bracket: computing and streaming overlap, at worst they do not."""
        low, high = self.low(compute) / clock_mhz, self.high(compute) / clock_mhz
        return Latency(low, low, high)


def memory_cycles(traffic: Traffic, target: Target) -> MemoryCycles:
    """Charge bandwidth for every line that moves, and latency for every miss that is not prefetched.

    A miss that the last-level cache serves costs `last_level_latency`, one that goes to DRAM `dram_latency`.
    """
    from_last_level = traffic.l1_misses * target.line / target.last_level_bytes_per_cycle
    from_dram = (traffic.llc_misses + traffic.llc_writebacks) * target.line / target.dram_bytes_per_cycle
    dram_waits = traffic.llc_misses - traffic.llc_prefetched
    last_level_waits = max(0, traffic.l1_misses - traffic.l1_prefetched - dram_waits)
    latency = last_level_waits * target.last_level_latency + dram_waits * target.dram_latency
    return MemoryCycles(max(from_last_level, from_dram), latency)
