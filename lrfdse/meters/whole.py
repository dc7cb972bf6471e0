"""Opening the meter of whole programs, and running a program once without one."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

from lrfdse.base.temporary import temporary_folder
from lrfdse.errors import InputError
from lrfdse.meters.emulator import emulate
from lrfdse.meters.meter import auto_meter
from lrfdse.meters.whole_host import WholeHostMeter
from lrfdse.meters.whole_model import WholeModelMeter
from lrfdse.toolchain import zig

if TYPE_CHECKING:
    from lrfdse.ir.latency import MeterKind, ProgramMeasurement
    from lrfdse.meters.block import Whole
    from lrfdse.targets.target import Target


class WholeMeter(Protocol):
    """Obtains the latency of whole programs on one target, part by part."""

    name: ClassVar[str]
    kind: ClassVar[MeterKind]

    def measure(self, whole: Whole) -> ProgramMeasurement:
        """Run a program, check its outputs, and return its latency."""


def open_whole_meter(name: str, target: Target, *, timeout: float = 1800.0) -> WholeMeter:
    """Return a meter of whole programs for `target`.

    Parameters
    ----------
    name
        "host", "model", or "auto", see `lrfdse.meters.meter.auto_meter`.
    target
        The machine.
    timeout
        Seconds after which a program counts as hung.

    Raises
    ------
    InputError
        There is no such meter for whole models, or it and the target do not fit.
    ToolError
        A tool is missing or too old; the message names the command that installs it.
    """
    name = auto_meter(target) if name == "auto" else name
    if name == "host":
        return WholeHostMeter(target, timeout)
    if name == "model":
        return WholeModelMeter(target, timeout)
    raise InputError(f"meter {name!r} does not measure whole models: host and model do")


def run_once(whole: Whole, target: Target, *, timeout: float = 1800.0) -> float:
    """Run a program on an emulated target without timing it and return the largest relative error of an output.

    Raises
    ------
    KernelError
        The outputs are wrong, or the program crashed, hung, or wrote where it must not.
    ToolError
        A tool is missing or failed.
    """
    with temporary_folder() as here:
        zig.link_object(whole.name, whole.object_code, "lrf_whole", zig.harness(target, 1), here)
        whole.write(here / "image")
        emulate(whole.name, here, target, timeout, None)
        return whole.check(here / "image")
