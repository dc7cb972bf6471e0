"""The machine at hand as an emulated target: LLVM's model of its core, its caches, and what its memory delivers."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.meter.native import Memory
from lrfdse.errors import ToolError
from lrfdse.targets.catalog import load_target
from lrfdse.targets.target import CacheLevel, Target
from lrfdse.toolchain.programs import require_llvm

TARGET = Path(__file__).with_name("x86-64-v3.toml")
"""The instruction set of the kernels; the core is that of the machine."""

_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


@dataclass(frozen=True, slots=True)
class Level:
    """One data cache of the machine."""

    kib: int
    ways: int


def machine_target() -> Target:
    """Return the benchmark's target with the core model that LLVM takes for this machine."""
    target = load_target(str(TARGET))
    command = [require_llvm("llvm-mca").path, "-mtriple=x86_64", "-mcpu=native", "-json"]
    printed = subprocess.run(command, input="nop\n", capture_output=True, text=True, check=True).stdout
    return replace(target, scheduling_model=json.loads(printed)["TargetInfo"]["CPUName"])


def levels() -> tuple[Level, Level, Level]:
    """Return the machine's three levels of data caches.

    Raises
    ------
    ToolError
        Linux does not tell them.
    """
    found = {}
    for index in _CACHES.glob("index*"):
        if (index / "type").read_text().strip() in ("Data", "Unified"):
            size = re.fullmatch(r"(\d+)([KM])", (index / "size").read_text().strip())
            if size:
                ways = int((index / "ways_of_associativity").read_text())
                found[int((index / "level").read_text())] = Level(int(size[1]) << (10 if size[2] == "M" else 0), ways)
    if not {1, 2, 3} <= set(found):
        raise ToolError("three levels of data caches must be known to Linux for this benchmark")
    return found[1], found[2], found[3]


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """Two-level targets that stand for a machine with three levels: the meter knows two and what lies behind."""

    near: Target
    """First and second level."""
    far: Target
    """First and third level."""
    memory: tuple[Memory, ...]
    """By size, smallest first."""
    third_kib: int

    @classmethod
    def of(cls, target: Target, measure: Callable[[int], Memory]) -> Hierarchy:
        """Measure the memory at sizes from the first level to eight times the third."""
        first, second, third = levels()
        sizes = [first.kib // 2]
        while sizes[-1] < 8 * third.kib:
            sizes.append(2 * sizes[-1])
        shared = replace(target, l1=CacheLevel(first.kib, first.ways))
        return cls(
            replace(shared, last_level=CacheLevel(second.kib, second.ways)),
            replace(shared, last_level=CacheLevel(third.kib, third.ways)),
            tuple(measure(kib) for kib in sizes),
            third.kib,
        )

    def warm(self, kib: float) -> Target:
        """Return the target for warm calls that touch so much memory."""
        if kib > self.third_kib:
            return self.cold()
        second = self._at(self.near.last_level.kib / 2)
        behind = self._at(kib)
        # What the third level answers is hidden like what the second does: its latency is far below the time that the
        # core takes to fill its window.
        return replace(
            self.near,
            last_level_bytes_per_cycle=second.bytes_per_cycle,
            last_level_latency=second.latency,
            dram_bytes_per_cycle=behind.bytes_per_cycle,
            dram_latency=0.0,
        )

    def cold(self) -> Target:
        """Return the target for cold calls."""
        third = self._at(4 * self.near.last_level.kib)
        dram = self.memory[-1]
        return replace(
            self.far,
            last_level_bytes_per_cycle=third.bytes_per_cycle,
            last_level_latency=third.latency,
            dram_bytes_per_cycle=dram.bytes_per_cycle,
            dram_latency=dram.latency,
        )

    def _at(self, kib: float) -> Memory:
        """Return the smallest buffer that was measured and holds so much."""
        return next((memory for memory in self.memory if memory.kib >= kib), self.memory[-1])
