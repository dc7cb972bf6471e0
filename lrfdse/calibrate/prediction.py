"""Modelled latencies in two parts: what is counted of a kernel, and a target's assumptions about time."""

from __future__ import annotations

from dataclasses import dataclass

from lrfdse.ir.kernel import KernelSpec, Schedule
from lrfdse.ir.latency import Latency, Regime
from lrfdse.kernels.build import compile_kernel
from lrfdse.kernels.data import example
from lrfdse.meters.counts import Counter
from lrfdse.meters.memory import memory_cycles
from lrfdse.meters.trace import Traffic
from lrfdse.targets.target import Target

_TIMEOUT = 600.0
"""Seconds after which a kernel under the emulator counts as hung. Chosen, not measured: boards' designs hold larger
kernels than those that an exploration waits a minute for, and every one of them is needed."""

_SEED = 0
"""The example's seed; what is counted does not depend on the values."""

_SYMBOL = "lrfdse_kernel"
"""Name of the C function while it is counted; addresses, and with them cache lines, do not depend on it."""


@dataclass(frozen=True, slots=True)
class Terms:
    """One kernel under the model meter; no assumption on clock, bandwidth or latency is in it."""

    compute_cycles: float
    warm: Traffic
    cold: Traffic

    def traffic(self, regime: Regime) -> Traffic:
        """Return the cache traffic in a regime."""
        return self.warm if regime == "warm" else self.cold


class Predictor:
    """Runs kernels of one target under the emulator for their terms.

    Raises
    ------
    ToolError
        A tool is missing or too old.
    InputError
        LLVM has no usable model of the target's core.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._counter = Counter(target, _TIMEOUT)

    def terms(self, spec: KernelSpec, schedule: str) -> Terms:
        """Compile a kernel, run it under the emulator and count.

        Raises
        ------
        KernelError
            It cannot be compiled or run.
        """
        artifact = compile_kernel(spec, Schedule.parse(schedule), self._target, _SYMBOL)
        counts = self._counter.count(artifact, *example(artifact, _SEED))
        return Terms(counts.core.cycles, counts.warm, counts.cold)


def predicted(terms: Terms, target: Target, regime: Regime) -> Latency:
    """Return the modelled latency of a kernel under a target's assumptions, as the model meter gives it."""
    return memory_cycles(terms.traffic(regime), target).modelled(terms.compute_cycles, target.clock_mhz)
