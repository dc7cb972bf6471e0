"""Wall clock on the machine at hand: one pinned core, warm-up, repeats, median and quartiles, cold and warm."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lrfdse.base.files import open_regular
from lrfdse.base.folders import cache_folder
from lrfdse.base.keys import code_key, result_key
from lrfdse.base.processes import run_to_end
from lrfdse.base.temporary import temporary_folder
from lrfdse.errors import DeviceError, InputError, KernelError, ToolError
from lrfdse.ir.kernel import Artifact
from lrfdse.ir.latency import Latency, Measurement, MeterKind
from lrfdse.meters.image import Image
from lrfdse.targets.eviction import evicted_bytes, largest_cache
from lrfdse.targets.target import Target
from lrfdse.toolchain import zig
from lrfdse.toolchain.programs import require_tools, require_zig

_WARM_SAMPLES, _COLD_SAMPLES = 31, 15
"""Samples of each regime, odd so that the median is one of them. Chosen, not measured: every sample of a measurement
says how far they spread (`warm_spread`, `cold_spread`)."""

_SAMPLE_NS = 200_000
"""A warm sample repeats the call until it takes about so many nanoseconds: far above the clock's resolution.

Chosen, not measured."""


@dataclass(frozen=True, slots=True)
class _Samples:
    core: int
    calls: int
    warm_ns: list[float]
    cold_ns: list[float]


class HostMeter:
    """Times a kernel natively, in a process of its own.

    Raises
    ------
    ToolError
        zig, which links the kernel, is missing.
    InputError
        The target runs under an emulator.
    DeviceError
        The target is another machine than the one at hand.
    """

    name = "host"
    kind: ClassVar[MeterKind] = "measured"
    procedure = "in repeated calls by wall clock on the machine that explored"
    bracket = "low and high are the quartiles of repeated calls, the number is their median"
    exclusive = True
    tools = ("zig",)

    def __init__(self, target: Target, timeout: float) -> None:
        if not target.is_native:
            raise InputError(
                f"target {target.name} runs under {target.emulator[0]}: the host meter needs a native target"
            )
        if target.instruction_set.machine != platform.machine() or sys.platform != "linux":
            raise DeviceError(
                f"target {target.name} is {target.isa} under Linux, but this machine is {platform.machine()} under "
                f"{platform.system()}"
            )
        require_tools(target, self.tools)
        self._target = target
        self._timeout = timeout

    def measure(self, artifact: Artifact, arrays: Sequence[NDArray[Any]], expected: NDArray[np.float64]) -> Measurement:
        """Return the measured latency of one call; see `Meter.measure`."""
        image = Image(artifact, arrays, expected)
        support = zig.timer(len(artifact.arguments))
        with temporary_folder() as here:
            library = zig.link(artifact, support, here, shared=True)
            image.write(here / "image")
            with machine_lock():
                samples = self._time(artifact, library, here / "image")
            error = image.check(here / "image")
        warm, cold = np.asarray(samples.warm_ns), np.asarray(samples.cold_ns)
        return Measurement(
            meter=self.name,
            warm=_latency(warm),
            cold=_latency(cold),
            max_error=error,
            details={
                "core": samples.core,
                "calls_per_sample": samples.calls,
                "warm_samples": len(warm),
                "cold_samples": len(cold),
                "largest_cache_bytes": largest_cache() or 0,
                "evicted_bytes": self._evicted(),
                "warm_spread": round(float(np.subtract(*np.quantile(warm, [0.75, 0.25])) / np.median(warm)), 4),
                "cold_spread": round(float(np.subtract(*np.quantile(cold, [0.75, 0.25])) / np.median(cold)), 4),
            },
        )

    def versions(self) -> dict[str, str]:
        """Return the machine and the versions that the number depends on."""
        return {"zig": require_zig().version, "machine": _machine()}

    def key(self) -> str:
        """Return everything that a number depends on besides the kernel, as one digest."""
        tools, code = sorted(self.versions().items()), code_key(HostMeter)
        return f"host:{result_key('meter', code=code, tools=tools, evicted=self._evicted())}"

    def _evicted(self) -> int:
        """Return the bytes that are written before a cold call."""
        return evicted_bytes(self._target, largest_cache())

    def _time(self, artifact: Artifact, library: Path, image: Path) -> _Samples:
        command = [
            sys.executable,
            "-I",
            "-S",
            str(HOST_RUNNER),
            *map(str, (library, image, _WARM_SAMPLES, _COLD_SAMPLES, _SAMPLE_NS, self._evicted())),
        ]
        environment = {key: value for key, value in os.environ.items() if key in ("LD_LIBRARY_PATH", "PATH")}
        try:
            ended = run_to_end(command, f"timing {artifact.spec}", timeout=self._timeout, env=environment)
        except subprocess.TimeoutExpired as error:
            raise KernelError(f"{artifact.spec}: no result after {self._timeout:g} s on this machine") from error
        if ended.returncode == -signal.SIGILL:
            raise KernelError(f"{artifact.spec}: illegal instruction on this machine: compiled for another CPU?")
        if ended.returncode < 0:
            raise KernelError(f"{artifact.spec}: crashed on this machine ({signal.Signals(-ended.returncode).name})")
        if ended.returncode:
            lines = ended.stderr.strip().splitlines()
            raise ToolError(f"timing {artifact.spec} failed: {lines[-1] if lines else 'no message'}")
        return _Samples(**json.loads(ended.stdout))


HOST_RUNNER = Path(__file__).with_name("_host_runner.py")
"""The program that loads one linked kernel and times it: it is run by path, with Python's standard library alone."""


_LOCK_BYTES = 64
"""Most bytes of the machine's timing lock: two process ids have fewer."""


@contextlib.contextmanager
def machine_lock() -> Iterator[None]:
    """Hold the machine's timing lock: kernels that are timed at once, on one pinned core, would time each other."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open_regular(folder / "host.lock", os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise ToolError(f"cannot write to the cache folder {folder}: {error}; name another with --cache") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # For who waits: this process, and the one that measures kernels by it.
        os.ftruncate(lock.fileno(), 0)
        os.pwrite(lock.fileno(), f"{os.getpid()} {os.getppid()}".encode(), 0)
        yield


def timed_by_another() -> int | None:
    """Return the process that times kernels on this machine right now for another run than this process's, or None."""
    try:
        with open_regular(cache_folder() / "host.lock") as lock:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return None
            ids = [int(word) for word in os.pread(lock.fileno(), _LOCK_BYTES, 0).split()]
    except (OSError, ValueError):
        return None
    return ids[0] if ids and os.getpid() not in ids else None


def _latency(samples: NDArray[np.float64]) -> Latency:
    """Return median and quartiles, nanoseconds to microseconds."""
    low, median, high = (float(value) / 1e3 for value in np.quantile(samples, [0.25, 0.5, 0.75]))
    return Latency(median, low, high)


def _machine() -> str:
    """Return the processor's name: a number of one machine is no number of another."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "uarch", "Hardware"))]
    return f"{platform.machine()} {names[0] if names else platform.processor()}".strip()
