"""A meter that counts: FLOPs at a fixed rate. It shows the form of a meter; its numbers say nothing of a machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lrfdse.ir.kernel import Artifact
from lrfdse.ir.latency import Latency, Measurement, MeterKind
from lrfdse.meters.meter import open_meter
from lrfdse.targets.target import Target

FLOPS_PER_US = 1000.0
"""One FLOP a nanosecond, whatever the machine."""


class CountedMeter:
    """The FLOPs of a kernel at a fixed rate, after another meter has run it and checked what it computes."""

    name = "counted"
    kind: ClassVar[MeterKind] = "modelled"
    procedure = "by counting FLOPs at one a nanosecond"
    bracket = "both ends are the number itself"
    exclusive = False
    # The meter that checks asks for its own tools when it is opened.
    tools = ()

    def __init__(self, target: Target, timeout: float) -> None:
        self._checker = open_meter("auto", target, timeout=timeout)

    def measure(
        self, artifact: Artifact, arrays: Sequence[NDArray[np.float32]], expected: NDArray[np.float64]
    ) -> Measurement:
        """Return the counted latency of one call; a kernel that does not run or computes wrong numbers has none."""
        checked = self._checker.measure(artifact, arrays, expected)
        spec = artifact.spec
        flops = 2 * spec.factorization.macs(spec.rows)
        us = flops / FLOPS_PER_US
        latency = Latency(us, us, us)
        return dataclasses.replace(
            checked, meter=self.name, warm=latency, cold=latency, details={"flops": flops, "checked_by": checked.meter}
        )

    def versions(self) -> dict[str, str]:
        """Return the versions of the tools that ran the kernel."""
        return self._checker.versions()

    def key(self) -> str:
        """Return what the number depends on besides the kernel; lrfdse adds the code of this package by itself."""
        return f"counted:{FLOPS_PER_US}:{self._checker.key()}"
