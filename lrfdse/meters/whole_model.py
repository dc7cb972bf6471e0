"""Modelled latency of a whole program: one run under QEMU cut into its parts, caches passed on from part to part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from lrfdse.base.temporary import temporary_folder
from lrfdse.errors import InputError, ToolError
from lrfdse.ir.latency import Latency, MeterKind, PartLatency, ProgramMeasurement
from lrfdse.ir.storage import FLOAT16
from lrfdse.meters import scheduling
from lrfdse.meters.disassemble import Disassembler
from lrfdse.meters.emulator import emulate, plugin_options
from lrfdse.meters.mca import CoreModel
from lrfdse.meters.memory import memory_cycles
from lrfdse.meters.trace import Traffic, parse
from lrfdse.toolchain import zig
from lrfdse.toolchain.programs import MODELLING, require_tools

if TYPE_CHECKING:
    from lrfdse.meters.block import Whole
    from lrfdse.targets.target import Target


class WholeModelMeter:
    """The model meter for programs of many parts; see `lrfdse.meters.model_meter.ModelMeter`.

    Raises
    ------
    ToolError
        A tool is missing or too old.
    InputError
        The target is native, names no scheduling model, or LLVM has no usable model of its core.
    """

    name: ClassVar[str] = "model"
    kind: ClassVar[MeterKind] = "modelled"

    def __init__(self, target: Target, timeout: float) -> None:
        if target.is_native or not target.scheduling_model:
            raise InputError(
                f"target {target.name} has no modelled latency: it is native, or names no scheduling_model"
            )
        require_tools(target, MODELLING)
        self._target = target
        self._timeout = timeout
        # What LLVM takes for unknown instructions would cost nothing.
        whole = target.reading(FLOAT16)
        self._disassembler = Disassembler(whole)
        self._engine = scheduling.open_engine(CoreModel.of(whole))

    def measure(self, whole: Whole) -> ProgramMeasurement:
        """Return the modelled latency of a run, part by part; the sum of the parts is the latency of the whole.

        Raises
        ------
        KernelError
            The outputs are wrong, or the program crashed, hung, or wrote where it must not.
        ToolError
            A tool failed.
        """
        target = self._target
        window = 0 if target.in_order else self._engine.window
        with temporary_folder() as here:
            zig.link_object(whole.name, whole.object_code, "lrf_whole", zig.harness(target, 1), here)
            whole.write(here / "image")
            text = emulate(whole.name, here, target.reading(FLOAT16), self._timeout, plugin_options(target, window))
            error = whole.check(here / "image")
        seen = parse(text, error)
        if len(seen.starts) != whole.parts or len(seen.parts) != 2 * whole.parts:
            raise ToolError(f"{whole.name}: {len(seen.starts)} parts were traced, but it has {whole.parts}")
        computed = scheduling.compute_parts(seen, self._disassembler.sequences(seen), self._engine, whole.name)
        cold, warm = seen.parts[: whole.parts], seen.parts[whole.parts :]
        parts = tuple(self._part(*each) for each in zip(computed, warm, cold, strict=True))
        return ProgramMeasurement(
            meter=self.name,
            kind=self.kind,
            warm=_sum([part.warm for part in parts]),
            cold=_sum([part.cold for part in parts]),
            parts=parts,
            max_error=error,
            details={"engine": self._engine.name, "instructions": sum(core.instructions for core in computed)},
        )

    def _part(self, core: scheduling.Compute, warm: Traffic, cold: Traffic) -> PartLatency:
        clock = self._target.clock_mhz
        near, far = memory_cycles(warm, self._target), memory_cycles(cold, self._target)
        details = {
            "instructions": core.instructions,
            "compute_cycles": round(core.cycles, 1),
            "warm_stream_cycles": round(near.stream, 1),
            "warm_latency_cycles": round(near.latency, 1),
            "cold_stream_cycles": round(far.stream, 1),
            "cold_latency_cycles": round(far.latency, 1),
        }
        return PartLatency(near.modelled(core.cycles, clock), far.modelled(core.cycles, clock), details)


def _sum(latencies: Sequence[Latency]) -> Latency:
    return Latency(
        sum(each.us for each in latencies),
        sum(each.low_us for each in latencies),
        sum(each.high_us for each in latencies),
    )
