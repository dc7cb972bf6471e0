"""Native times of many kernels in interleaved rounds, in cycles of the clock that the core ran at."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.meter.cases import Case
from lrfdse.errors import ToolError
from lrfdse.meters.image import Image
from lrfdse.toolchain.programs import require_zig
from lrfdse.toolchain.zig import link

_ADDITIONS = 16_000
"""A chain of so many additions takes about 5 us, one cycle each."""

_SAMPLE_NS = 60_000.0
"""A sample repeats the call until it takes about so long."""

_KEPT = 0.25
"""The quantile over the rounds that counts: other load on the machine only ever adds time."""

_STACKS = (0, 16, 32, 48)
"""Where the stack begins, by turns: callers give it any multiple of 16, and spilled vectors then cross lines or not."""


@dataclass(frozen=True, slots=True)
class Native:
    """Cycles of one call: a quantile over the rounds with the stack where the call is fastest."""

    warm: float
    again: float
    """The same binary, timed a second time in every round."""
    cold: float
    """After every line of its memory was flushed from all caches."""
    spread: float
    """Interquartile range of the warm samples over their median."""
    stack: float
    """The same quantile on the worst stack over that on the best one."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What a loop over a buffer of a given size gets from the machine's memory."""

    kib: int
    bytes_per_cycle: float
    latency: float
    """Cycles from one load to the next that depends on it."""


class Clocked:
    """The kernels of all cases, and loops over buffers, loaded into this process and pinned to one core."""

    def __init__(self, cases: Sequence[Case], folder: Path) -> None:
        self._libraries = [_load(case, folder / str(i)) for i, case in enumerate(cases)]
        self._calls = [0] * len(cases)
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

    def kernels(self, rounds: int, progress: Callable[[int], None]) -> tuple[list[Native], float]:
        """Return the cycles of every kernel, and the median clock in GHz."""
        rounds = -(-rounds // len(_STACKS)) * len(_STACKS)
        count = len(self._libraries)
        samples = np.zeros((3, count, rounds))
        clocks = np.zeros((count, rounds))
        for i, library in enumerate(self._libraries):
            once = min(library.bench_calls(1, 0) for _ in range(4))
            self._calls[i] = max(1, int(_SAMPLE_NS / max(once, 20.0)))
        order = np.arange(count)
        rng = np.random.default_rng(0)
        for r in range(rounds):
            rng.shuffle(order)
            for i in order.tolist():
                samples[:, i, r], clocks[i, r] = self._sample(i, _STACKS[r % len(_STACKS)])
            progress(r + 1)
        by_stack = samples.reshape(3, count, rounds // len(_STACKS), len(_STACKS))
        low, middle, high = np.quantile(by_stack, [_KEPT, 0.5, 1 - _KEPT], axis=2)
        best = low.argmin(axis=2)[..., None]
        kept, usual, most = (np.take_along_axis(values, best, 2)[..., 0] for values in (low, middle, high))
        spread, stack = (most - kept)[0] / usual[0], low[0].max(axis=1) / kept[0]
        found = [Native(*map(float, (*kept[:, i], spread[i], stack[i]))) for i in range(count)]
        return found, float(np.median(clocks))

    def memory(self, kib: int, rounds: int) -> Memory:
        """Read a buffer of `kib` KiB from end to end, and chase pointers through it, the best of `rounds`."""
        library = self._libraries[0]
        if library.bench_buffer(kib * 1024):
            raise ToolError(f"no memory for a buffer of {kib} KiB")
        measured = [(self._clock(library), library.bench_read(), library.bench_chase()) for _ in range(rounds)]
        clocks, reads, chases = zip(*measured, strict=True)
        return Memory(kib, kib * 1024 / (min(reads) * max(clocks)), min(chases) * max(clocks))

    def _sample(self, i: int, stack: int) -> tuple[tuple[float, float, float], float]:
        library, calls = self._libraries[i], self._calls[i]
        cold = library.bench_cold(stack)
        library.bench_calls(2, stack)
        clocks = [self._clock(library)]
        times = []
        for _ in range(2):
            times.append(library.bench_calls(calls, stack) / calls)
            clocks.append(self._clock(library))
        # What interrupts a chain of additions makes the clock look slower, never faster.
        clock = max(clocks)
        return (times[0] * clock, times[1] * clock, cold * clock), clock

    def _clock(self, library: ctypes.CDLL) -> float:
        """Return the core's clock in GHz."""
        return float(_ADDITIONS / library.bench_additions(_ADDITIONS))


def _load(case: Case, here: Path) -> ctypes.CDLL:
    here.mkdir()
    arguments = len(case.artifact.arguments)
    support = here.parent / f"native{arguments}.o"
    if not support.exists():
        names = ",".join(f"argument[{i}]" for i in range(arguments))
        call = (f"-DLRF_PARAMETERS={','.join(['float *'] * arguments)}", f"-DLRF_ARGUMENTS={names}")
        options = ("-c", "-fPIC", "-O2", "-mavx2", "-std=gnu11", "-fno-sanitize=undefined")
        source = str(Path(__file__).with_name("native.c"))
        subprocess.run([require_zig().path, "cc", *options, *call, source, "-o", str(support)], check=True)
    library = ctypes.CDLL(str(link(case.artifact, support, here, shared=True)))
    for name in ("bench_calls", "bench_cold", "bench_additions", "bench_read", "bench_chase"):
        getattr(library, name).restype = ctypes.c_double
        getattr(library, name).argtypes = []
    library.bench_calls.argtypes = [ctypes.c_long] * 2
    for name in ("bench_cold", "bench_additions", "bench_buffer"):
        getattr(library, name).argtypes = [ctypes.c_long]
    Image(case.artifact, case.arrays, case.expected).write(here / "image")
    if library.bench_open(str(here / "image").encode()):
        raise ToolError(f"no memory for {case.layer} {case.variant}")
    (here / "image").unlink()
    return library
