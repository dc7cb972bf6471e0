"""Measuring kernels: latency with its provenance, after the kernel's output was checked against a reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Protocol

from lrfdse.errors import InputError
from lrfdse.measure.toolchain import Missing, missing_tools, require_tools

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lrfdse.design import Artifact, Measurement, MeterName
    from lrfdse.targets.target import Target

__all__ = ["Meter", "Missing", "missing_tools", "open_meter", "require_tools"]


class Meter(Protocol):
    """Obtains the latency of kernels on one target."""

    name: MeterName

    def measure(
        self, artifact: Artifact, arrays: Sequence[NDArray[np.float32]], expected: NDArray[np.float64]
    ) -> Measurement:
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
            The output is wrong (relative error above 1e-4 of the largest reference element), or the kernel crashed,
            hung, or wrote where it must not.
        ToolError
            A tool failed.
        InputError
            The arrays do not fit the kernel's arguments.
        """

    def versions(self) -> dict[str, str]:
        """Return the versions of the tools that the number depends on."""

    def key(self) -> str:
        """Return everything that a number depends on besides the kernel, as a digest: part of every cache key."""


def open_meter(name: Literal["auto", "host", "model"], target: Target, *, timeout: float = 60.0) -> Meter:
    """Return a meter for `target`; "auto" is the model for emulated targets and the wall clock for native ones.

    Parameters
    ----------
    name
        The meter.
    target
        The machine whose kernels are measured.
    timeout
        Seconds after which a kernel counts as hung.

    Raises
    ------
    InputError
        Meter and target do not fit, or LLVM has no usable model of the target's core.
    ToolError
        A tool is missing or too old; the message names the command that installs it.
    """
    if name == "auto":
        name = "host" if target.is_native else "model"
    if name == "host":
        from lrfdse.measure.host_meter import HostMeter

        return HostMeter(target, timeout)
    if name == "model":
        from lrfdse.measure.model_meter import ModelMeter

        return ModelMeter(target, timeout)
    raise InputError(f'meter in ("auto", "host", "model") must hold, but got {name!r}')
