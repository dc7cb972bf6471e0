"""Measuring kernels: latency with its provenance, after the kernel's output was checked against a reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from lrfdse.base.registry import Registry
from lrfdse.errors import ToolError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lrfdse.ir.kernel import Artifact
    from lrfdse.ir.latency import Measurement, MeterKind
    from lrfdse.targets.target import Target


class Meter(Protocol):
    """Obtains the latency of kernels on one target.

    Parameters
    ----------
    target
        The machine whose kernels are measured.
    timeout
        Seconds after which a kernel counts as hung.

    Raises
    ------
    InputError
        Meter and target do not fit.
    ToolError
        A tool is missing or too old; the message names the command that installs it.
    """

    name: ClassVar[str]
    """The name under which it is registered."""
    kind: ClassVar[MeterKind]
    """"measured" where the target's own hardware ran the kernel, else "modelled"."""
    procedure: ClassVar[str]
    """How a latency is obtained, as the end of a sentence that begins "the latency is modelled"."""
    bracket: ClassVar[str]
    """What the lower and the upper end of a latency are, as a clause."""
    exclusive: ClassVar[bool]
    """Whether it needs the machine to itself: kernels are then measured one after another."""
    tools: ClassVar[tuple[str, ...]]
    """The programs that it runs, see `missing_tools`."""

    def __init__(self, target: Target, timeout: float) -> None: ...

    def measure(self, artifact: Artifact, arrays: Sequence[NDArray[Any]], expected: NDArray[np.float64]) -> Measurement:
        """Run a kernel, check its output, and return its latency cold and warm.

        Parameters
        ----------
        artifact
            The compiled kernel.
        arrays
            The arrays of the arguments of role input, weight and bias, in the order of the arguments.
        expected
            The reference output, as many elements as the output argument has.

        Raises
        ------
        KernelError
            The output is wrong (its error relative to the largest reference element is above
            `lrfdse.ir.latency.TOLERANCE`), or the kernel crashed, hung, or wrote where it must not.
        ToolError
            A tool failed.
        ValueError
            The arrays do not fit the kernel's arguments.
        """

    def versions(self) -> dict[str, str]:
        """Return the versions of the tools that the number depends on."""

    def key(self) -> str:
        """Return everything that a number depends on besides the kernel, as a digest: part of every cache key."""


METERS: Registry[type[Meter]] = Registry(
    "lrfdse.meters",
    "meter",
    {"host": "lrfdse.meters.host_meter:HostMeter", "model": "lrfdse.meters.model_meter:ModelMeter"},
)
"""The classes of meters by name; a plug-in adds one under the entry-point group "lrfdse.meters"."""


def auto_meter(target: Target) -> str:
    """Return the name of the meter that "auto" stands for: the wall clock for native targets, else the model."""
    return "host" if target.is_native else "model"


def open_meter(name: str, target: Target, *, timeout: float = 60.0) -> Meter:
    """Return a meter for `target`.

    Parameters
    ----------
    name
        A name of `METERS`, or "auto" (see `auto_meter`).
    target
        The machine whose kernels are measured.
    timeout
        Seconds after which a kernel counts as hung.

    Raises
    ------
    InputError
        There is no such meter, meter and target do not fit, or LLVM has no usable model of the target's core.
    ToolError
        A tool is missing or too old, the message names the command that installs it; or a plug-in is broken.
    """
    name = auto_meter(target) if name == "auto" else name
    meter = METERS.get(name)(target, timeout)
    if meter.name != name:
        raise ToolError(f"meter {name!r} calls itself {meter.name!r}: the plug-in must use one name")
    return meter
