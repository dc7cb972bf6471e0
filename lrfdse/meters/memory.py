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
    """Cycles to move lines while the core computes, at the bandwidth of the level that is busiest."""
    latency: float
    """Cycles for which the core stops: for misses that no prefetcher sees coming, and where it is in order also for
    what it reads from the last-level cache."""

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

    A miss that the last-level cache serves costs `last_level_latency`, one that goes to DRAM `dram_latency`. What
    stores and DRAM move overlaps with computing. What is read from the last-level cache does on an out-of-order core;
    an in-order core stops for it.
    """
    reads = traffic.l1_misses - traffic.l1_store_misses
    reading = reads * target.line / target.last_level_bytes_per_cycle
    fill_one = target.line / (target.last_level_fill_bytes_per_cycle or target.last_level_bytes_per_cycle)
    dram = _dram_cycles(traffic, target)
    dram_waits = traffic.llc_misses - traffic.llc_prefetched
    last_level_waits = max(0, traffic.l1_misses - traffic.l1_prefetched - dram_waits)
    waits = last_level_waits * target.last_level_latency + dram_waits * target.dram_latency
    if target.in_order:
        # What goes through to DRAM is stored at the rate of DRAM, and does not cost the last level's besides.
        filling = (traffic.l1_store_misses - traffic.llc_store_misses) * fill_one
        return MemoryCycles(filling + dram, reading + waits)
    return MemoryCycles(max(reading + traffic.l1_store_misses * fill_one, dram), waits)


def _dram_cycles(traffic: Traffic, target: Target) -> float:
    """Return cycles to read and write DRAM.

    A line that is filled is fetched and later written back: each of the two costs half of it. Where lines are read and
    written side by side, each pair takes what copying does: more than reading and writing in turn where the memory has
    to turn around, less where it does both at once.
    """
    read_one = target.line / target.dram_bytes_per_cycle
    fill_one = target.line / (target.dram_fill_bytes_per_cycle or target.dram_bytes_per_cycle / 2)
    copying = target.dram_copy_bytes_per_cycle
    copy_one = target.line / copying if copying else read_one + fill_one
    reads = traffic.llc_misses - traffic.llc_store_misses
    fills = (traffic.llc_store_misses + traffic.llc_writebacks) / 2
    pairs = min(reads, fills)
    return (reads - pairs) * read_one + (fills - pairs) * fill_one + pairs * copy_one
