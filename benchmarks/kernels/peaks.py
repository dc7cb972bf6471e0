"""What the machine at hand can do at most, measured, and the least time that a case takes on a target."""

from __future__ import annotations

import bisect
import ctypes
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks.kernels.foreign import compiler_command, run
from benchmarks.kernels.layers import Case
from lrfdse.kernels.bounds import lower_bound_cycles
from lrfdse.targets.eviction import largest_cache
from lrfdse.targets.target import Target

_SIZES = tuple(1 << k for k in range(14, 28))
_REPEATS = 40
_FMA_ITERATIONS = 100_000
_READ_BYTES = 1 << 29
_LINE = 64
_UNTOLD = 16 << 20
"""Bytes of the last-level cache where Linux does not tell it."""


@dataclass(frozen=True, slots=True)
class Peaks:
    """Peaks of one core."""

    fma_per_ns: float
    read_bytes_per_ns: tuple[tuple[int, float], ...]
    """(bytes of a buffer that is read over and over, rate), sizes ascending; the last is far beyond every cache."""
    last_level_bytes: int

    def read_rate(self, size: int) -> float:
        """Return the rate at which so many bytes are read again, between the sizes that were measured.

        >>> Peaks(1.0, ((1024, 100.0), (4096, 50.0)), 8192).read_rate(2048)
        75.0
        """
        sizes = [at for at, _ in self.read_bytes_per_ns]
        place = bisect.bisect_left(sizes, size)
        if place == 0 or place == len(sizes):
            return self.read_bytes_per_ns[min(place, len(sizes) - 1)][1]
        (low, slow), (high, fast) = self.read_bytes_per_ns[place - 1 : place + 1]
        share = math.log(size / low) / math.log(high / low)
        return slow + share * (fast - slow)


@dataclass(frozen=True, slots=True)
class Bound:
    """The least time of a case."""

    us: float
    by: str
    """"compute" or "memory"."""


def measure_peaks(target: Target) -> Peaks:
    """Measure the core at hand: the best of a few repeats, because other load only slows down."""
    width = 64 if target.lanes == 16 else 32
    with tempfile.TemporaryDirectory(prefix="lrfdse-bench-") as folder:
        library = Path(folder) / "peaks.so"
        source = str(Path(__file__).with_name("peaks.c"))
        options = ["-O3", "-ffast-math", "-shared", "-fPIC", f"-DWIDTH={width}"]
        run([*compiler_command(target), *options, source, "-o", str(library)], Path(folder))
        loaded = ctypes.CDLL(str(library))
    fma, read = loaded.bench_fma_rate, loaded.bench_read_rate
    fma.restype = read.restype = ctypes.c_double
    sink = np.ones(1, dtype=np.float32)
    out = sink.ctypes.data_as(ctypes.c_void_p)
    rate = max(fma(ctypes.c_long(_FMA_ITERATIONS), out) for _ in range(_REPEATS))
    data = np.ones(_SIZES[-1] // 4 + _LINE // 4, dtype=np.float32)
    # Vectors that straddle cache lines would halve the rate of the first level.
    where = ctypes.c_void_p(-(-data.ctypes.data // _LINE) * _LINE)
    rates = []
    for size in _SIZES:
        count = ctypes.c_long(max(1, _READ_BYTES // size // _REPEATS))
        rates.append((size, max(read(where, ctypes.c_long(size // 4), count, out) for _ in range(_REPEATS))))
    return Peaks(rate, tuple(rates), largest_cache() or _UNTOLD)


def bound(case: Case, target: Target, peaks: Peaks | None) -> Bound:
    """Return the least time of a case: its FMAs at the peak rate, or its weights through the memory.

    On emulated targets both rates are the target's own numbers (`lrfdse.kernels.bounds.lower_bound_cycles`); on the
    machine at hand they are measured: for weights beyond the last-level cache, where other peers run between two calls,
    the rate of the largest buffer.
    """
    if peaks is None:
        compute = case.macs / target.fma_per_cycle
        least = lower_bound_cycles(case.spec, target, "warm")
        return Bound(least / target.clock_mhz, "memory" if least > compute else "compute")
    beyond = place(case, target, peaks) == "outside"
    rate = peaks.read_bytes_per_ns[-1][1] if beyond else peaks.read_rate(case.weight_bytes)
    compute, memory = case.macs / peaks.fma_per_ns, case.weight_bytes / rate
    return Bound(max(compute, memory) / 1e3, "memory" if memory > compute else "compute")


Place = Literal["inside", "edge", "outside"]


def place(case: Case, target: Target, peaks: Peaks | None) -> Place:
    """Return whether a case runs from the last-level cache: the target's, or the one of the machine at hand.

    Inside, weights and activations fit; outside, the weights alone exceed it. At the edge neither holds, and how much
    is read from DRAM in every call depends on the cache's sets.
    """
    steps = case.factorization.steps(case.rows)
    activations = steps[0].input_size + sum(step.output_size for step in steps)
    limit = peaks.last_level_bytes if peaks else 1024 * target.last_level.kib
    if case.weight_bytes > limit:
        return "outside"
    return "inside" if case.weight_bytes + 4 * activations <= limit else "edge"
