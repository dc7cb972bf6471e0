"""Tuning: of the schedules that the estimate likes best, the one that measures best."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lrfdse.design import Artifact, KernelSpec, Measurement, Target
from lrfdse.errors import KernelError
from lrfdse.kernels import compile_kernel, example, schedules, spills

if TYPE_CHECKING:
    from lrfdse.measure import Meter

SYMBOL = "lrfdse_kernel"
"""Name of the C function while a kernel is being measured."""

_SPARE = 2
"""Schedules compiled beyond those measured, so that one that spills can be replaced."""

_SEED = 0
"""Latency does not depend on the values; the example only has to be the same every time."""


def best_kernel(
    spec: KernelSpec, target: Target, meter: Meter, tries: int = 2, symbol: str = SYMBOL
) -> tuple[Artifact, Measurement]:
    """Compile a kernel in a few ways, measure them, and return the fastest with its measurement.

    A schedule that spills registers is measured only where too few others do not. A schedule that does not compile,
    crashes or computes wrong numbers is passed over.

    Parameters
    ----------
    spec
        What the kernel computes.
    target
        The machine.
    meter
        What measures, after it checked the output against the reference.
    tries
        Kernels measured at most, at least 1.
    symbol
        Name of the C function.

    Returns
    -------
    The artifact with the least sum of warm and cold latency, and its measurement.

    Raises
    ------
    KernelError
        No schedule of the kernel works; the message holds every reason.
    """
    failures: list[str] = []
    measured: list[tuple[Artifact, Measurement]] = []
    spilled: list[Artifact] = []

    def measure(artifact: Artifact) -> None:
        arrays, expected = example(artifact, _SEED)
        try:
            measured.append((artifact, meter.measure(artifact, arrays, expected)))
        except KernelError as error:
            failures.append(f"{artifact.schedule}: {error}")

    for schedule in schedules(spec, target, tries + _SPARE):
        if len(measured) == tries:
            break
        try:
            artifact = compile_kernel(spec, schedule, target, symbol)
        except KernelError as error:
            failures.append(f"{schedule}: {error}")
            continue
        if spills(artifact):
            spilled.append(artifact)
        else:
            measure(artifact)
    for artifact in sorted(spilled, key=spills):
        if len(measured) < tries:
            measure(artifact)
    if not measured:
        raise KernelError(f"no schedule of {spec} works on {target.name}: {'; '.join(failures)}")
    return min(measured, key=lambda pair: pair[1].warm.us + pair[1].cold.us)
