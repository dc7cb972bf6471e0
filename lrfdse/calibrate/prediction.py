"""What the model meter says of a kernel, in the terms that a target's assumptions turn into a latency."""

from __future__ import annotations

from dataclasses import dataclass

from lrfdse.ir.kernel import KernelSpec, Schedule
from lrfdse.ir.latency import Latency, Regime
from lrfdse.kernels.build import compile_kernel
from lrfdse.kernels.data import example
from lrfdse.meters import scheduling, trace
from lrfdse.meters.disassemble import Disassembler
from lrfdse.meters.mca import CoreModel
from lrfdse.meters.memory import memory_cycles
from lrfdse.meters.trace import Traffic
from lrfdse.targets.target import Target
from lrfdse.toolchain.programs import MODELLING, require_tools

_TIMEOUT = 600.0


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
        require_tools(target, MODELLING)
        self._target = target
        self._disassembler = Disassembler(target)
        self._engine = scheduling.open_engine(CoreModel.of(target))

    def terms(self, spec: KernelSpec, schedule: str) -> Terms:
        """Compile a kernel, run it under the emulator and count.

        Raises
        ------
        KernelError
            It cannot be compiled or run.
        """
        artifact = compile_kernel(spec, Schedule.parse(schedule), self._target, "lrfdse_kernel")
        arrays, expected = example(artifact, 0)
        seen = trace.record(artifact, self._target, arrays, expected, _TIMEOUT, self._engine.window)
        core = scheduling.compute(seen, self._disassembler.sequences(seen), self._engine, str(spec))
        return Terms(core.cycles, seen.warm, seen.cold)


def predicted(terms: Terms, target: Target, regime: Regime) -> Latency:
    """Return the modelled latency of a kernel under a target's assumptions, as the model meter gives it."""
    return memory_cycles(terms.traffic(regime), target).modelled(terms.compute_cycles, target.clock_mhz)
