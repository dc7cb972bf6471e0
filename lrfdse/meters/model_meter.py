"""Modelled latency: executed code under QEMU, LLVM's model of the core, and a small model of its memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lrfdse.base.keys import code_key, result_key
from lrfdse.errors import InputError
from lrfdse.ir.kernel import Artifact
from lrfdse.ir.latency import Measurement, MeterKind
from lrfdse.meters.counts import Counter
from lrfdse.meters.memory import memory_cycles
from lrfdse.targets import isa
from lrfdse.targets.target import Target
from lrfdse.toolchain.programs import MODELLING, require_emulator, require_llvm, require_zig


class ModelMeter:
    """Deterministic cycles: compute and memory overlapped, and as upper end of the bracket one after the other.

    Raises
    ------
    ToolError
        A tool is missing or too old.
    InputError
        The target is native, or LLVM has no usable model of its core.
    """

    name = "model"
    kind: ClassVar[MeterKind] = "modelled"
    procedure = (
        "from the code that QEMU executed, by LLVM's model of the core and a model of its caches, never by the "
        "emulator's clock (docs/meter.md)"
    )
    bracket = "low, the number itself: memory traffic overlaps with computation; high: it does not"
    exclusive = False
    tools = MODELLING

    def __init__(self, target: Target, timeout: float) -> None:
        if target.is_native:
            raise InputError(
                f"target {target.name} is native: the model meter needs an emulated target, use the host meter"
            )
        if not target.scheduling_model:
            raise InputError(f"target {target.name} names no scheduling_model: the model meter cannot be used")
        self._target = target
        self._counter = Counter(target, timeout)

    def measure(self, artifact: Artifact, arrays: Sequence[NDArray[Any]], expected: NDArray[np.float64]) -> Measurement:
        """Return the modelled latency of one call; see `Meter.measure`."""
        target = self._target
        counts = self._counter.count(artifact, arrays, expected)
        core, cold, warm = counts.core, memory_cycles(counts.cold, target), memory_cycles(counts.warm, target)
        return Measurement(
            meter=self.name,
            warm=warm.modelled(core.cycles, target.clock_mhz),
            cold=cold.modelled(core.cycles, target.clock_mhz),
            max_error=counts.max_error,
            details={
                "engine": self._counter.engine,
                "instructions": core.instructions,
                "skipped": core.skipped,
                "compute_cycles": round(core.cycles, 1),
                "warm_stream_cycles": round(warm.stream, 1),
                "warm_latency_cycles": round(warm.latency, 1),
                "cold_stream_cycles": round(cold.stream, 1),
                "cold_latency_cycles": round(cold.latency, 1),
            },
        )

    def versions(self) -> dict[str, str]:
        """Return the versions of the tools that the number depends on."""
        return {
            "qemu": require_emulator(self._target).version,
            "llvm": require_llvm("llvm-mca").version,
            "zig": require_zig().version,
        }

    def key(self) -> str:
        """Return everything that a number depends on besides the kernel, as one digest."""
        # Neither how far the model is from hardware nor in which regime a latency counts changes any of them.
        target = dataclasses.replace(self._target, summary="", provenance={}, error=None, resident="auto")
        tools, code = sorted(self.versions().items()), code_key(ModelMeter)
        sets = isa.REGISTRY.identity(target.isa)
        key = result_key("meter", code=code, tools=tools, engine=self._counter.engine, target=target, isa=sets)
        return f"model:{key}"
