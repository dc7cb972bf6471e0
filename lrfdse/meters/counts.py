"""What a kernel does under the emulator, counted: compute cycles and lines that move, without clock or bandwidth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrfdse.ir.kernel import Artifact
from lrfdse.ir.storage import FLOAT16
from lrfdse.meters import scheduling, trace
from lrfdse.meters.disassemble import Disassembler
from lrfdse.meters.mca import CoreModel
from lrfdse.meters.scheduling import Compute
from lrfdse.meters.trace import Traffic
from lrfdse.targets.target import Target
from lrfdse.toolchain.programs import MODELLING, require_tools


@dataclass(frozen=True, slots=True)
class Counts:
    """What one call of a kernel did, with its output checked."""

    core: Compute
    """Compute cycles by LLVM's model of the core, all data in its first-level cache."""
    warm: Traffic
    """Lines that moved through the caches in a call that found them as the one before had left them."""
    cold: Traffic
    """Lines that moved in a call that found them empty."""
    max_error: float
    """Largest deviation from the reference relative to the largest reference element."""


class Counter:
    """Runs kernels of one target under the emulator and counts.

    Parameters
    ----------
    target
        The machine; it must be an emulated one that names a scheduling model.
    timeout
        Seconds after which a kernel counts as hung.

    Raises
    ------
    ToolError
        A tool is missing or too old.
    InputError
        LLVM has no usable model of the target's core.
    """

    def __init__(self, target: Target, timeout: float) -> None:
        require_tools(target, MODELLING)
        self._target = target
        self._timeout = timeout
        # What LLVM takes for unknown instructions would cost nothing.
        whole = target.reading(FLOAT16)
        self._disassembler = Disassembler(whole)
        self._engine = scheduling.open_engine(CoreModel.of(whole))

    @property
    def engine(self) -> str:
        """Name of the engine that gives the compute cycles."""
        return self._engine.name

    def count(self, artifact: Artifact, arrays: Sequence[NDArray[Any]], expected: NDArray[np.float64]) -> Counts:
        """Run a kernel, check its output, and count; parameters and errors are those of `Meter.measure`."""
        window = 0 if self._target.in_order else self._engine.window
        target = self._target.reading(artifact.spec.storage)
        seen = trace.record(artifact, target, arrays, expected, self._timeout, window)
        sequences = self._disassembler.sequences(seen)
        core = scheduling.compute(seen, sequences, self._engine, str(artifact.spec))
        return Counts(core, seen.warm, seen.cold, seen.max_error)
