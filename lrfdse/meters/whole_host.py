"""Wall clock of a whole program on the machine at hand, part by part."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from lrfdse.base.processes import run_to_end
from lrfdse.base.temporary import temporary_folder
from lrfdse.errors import DeviceError, InputError, KernelError, ToolError
from lrfdse.ir.latency import Latency, MeterKind, PartLatency, ProgramMeasurement
from lrfdse.meters.host_meter import machine_lock
from lrfdse.targets.eviction import evicted_bytes, largest_cache
from lrfdse.toolchain import zig
from lrfdse.toolchain.programs import require_tools

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lrfdse.meters.block import Whole
    from lrfdse.targets.target import Target

_WARM_RUNS, _COLD_RUNS = 201, 15
"""Runs of each regime at most, odd so that the median is one of them. Chosen, not measured: a small model takes
microseconds, and its quartiles say how far runs spread."""

_ENOUGH_NS = 2_000_000_000
"""Nanoseconds after which a regime makes no further run, from its third run on. Chosen, not measured."""

WHOLE_RUNNER = Path(__file__).with_name("_whole_runner.py")
"""The program that loads one linked program and times it: it is run by path, with Python's standard library alone."""


class WholeHostMeter:
    """The host meter for programs of many parts; see `lrfdse.meters.host_meter.HostMeter`.

    Raises
    ------
    ToolError
        zig is missing.
    InputError
        The target runs under an emulator.
    DeviceError
        The target is another machine than the one at hand.
    """

    name: ClassVar[str] = "host"
    kind: ClassVar[MeterKind] = "measured"

    def __init__(self, target: Target, timeout: float) -> None:
        if not target.is_native:
            raise InputError(
                f"target {target.name} runs under {target.emulator[0]}: it cannot be timed on this machine"
            )
        if target.instruction_set.machine != platform.machine() or sys.platform != "linux":
            raise DeviceError(f"target {target.name} is {target.isa} under Linux, but this machine is another")
        require_tools(target, ("zig",))
        self._target = target
        self._timeout = timeout

    def measure(self, whole: Whole) -> ProgramMeasurement:
        """Return medians and quartiles of runs; medians of parts need not add up to the median of the whole.

        Raises
        ------
        KernelError
            The outputs are wrong, or the program crashed, hung, or wrote where it must not.
        ToolError
            A tool failed.
        """
        evicted = evicted_bytes(self._target, largest_cache())
        with temporary_folder() as here:
            library = zig.link_object(whole.name, whole.object_code, "lrf_whole", zig.whole_timer(), here, shared=True)
            whole.write(here / "image")
            with machine_lock():
                samples = self._time(whole, library, here / "image", evicted)
            error = whole.check(here / "image")
        warm, cold = (np.asarray(samples[name]) for name in ("warm", "cold"))
        parts = tuple(PartLatency(_latency(warm[:, i]), _latency(cold[:, i])) for i in range(whole.parts))
        return ProgramMeasurement(
            meter=self.name,
            kind=self.kind,
            warm=_latency(warm.sum(axis=1)),
            cold=_latency(cold.sum(axis=1)),
            parts=parts,
            max_error=error,
            details={"warm_runs": len(warm), "cold_runs": len(cold), "evicted_bytes": evicted},
        )

    def _time(self, whole: Whole, library: Path, image: Path, evicted: int) -> dict[str, Any]:
        numbers = whole.parts, _WARM_RUNS, _COLD_RUNS, _ENOUGH_NS, evicted
        command = [sys.executable, "-I", "-S", str(WHOLE_RUNNER), *map(str, (library, image, *numbers))]
        environment = {key: value for key, value in os.environ.items() if key in ("LD_LIBRARY_PATH", "PATH")}
        try:
            ended = run_to_end(command, f"timing {whole.name}", timeout=self._timeout, env=environment)
        except subprocess.TimeoutExpired as error:
            raise KernelError(f"{whole.name}: no result after {self._timeout:g} s on this machine") from error
        if ended.returncode == -signal.SIGILL:
            raise KernelError(f"{whole.name}: illegal instruction on this machine: compiled for another CPU?")
        if ended.returncode < 0:
            raise KernelError(f"{whole.name}: crashed on this machine ({signal.Signals(-ended.returncode).name})")
        if ended.returncode:
            lines = ended.stderr.strip().splitlines()
            raise ToolError(f"timing {whole.name} failed: {lines[-1] if lines else 'no message'}")
        found: dict[str, Any] = json.loads(ended.stdout)
        return found


def _latency(nanoseconds: NDArray[np.float64]) -> Latency:
    low, median, high = (float(value) / 1e3 for value in np.quantile(nanoseconds, [0.25, 0.5, 0.75]))
    return Latency(median, low, high)
