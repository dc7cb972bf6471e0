"""Tuning: from the schedule that the estimate likes best, one step changed at a time, to the one that measures best."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lrfdse.errors import KernelError
from lrfdse.ir.kernel import Artifact, KernelSpec, Schedule
from lrfdse.ir.latency import Measurement
from lrfdse.kernels.build import compile_kernel
from lrfdse.kernels.data import example
from lrfdse.kernels.schedules import changed, changes
from lrfdse.targets.target import Target

if TYPE_CHECKING:
    from lrfdse.meters.meter import Meter


SYMBOL = "lrfdse_kernel"
"""Name of the C function while a kernel is being measured."""


_ALTERNATIVES = 8
"""Schedules considered for each step. Chosen, not measured."""


_FAILURES = 8
"""Schedules that may fail before the kernel is given up. Chosen, not measured."""


_SEED = 0
"""Latency does not depend on the values; the example only has to be the same every time."""


def best_kernel(
    spec: KernelSpec, target: Target, meter: Meter, tries: int = 4, symbol: str = SYMBOL
) -> tuple[Artifact, Measurement]:
    """Measure the schedule of the best estimates, then changes of one step each, and return the fastest kernel.

    A change that helps stays, and the following ones come on top of it. The meter decides on spilled registers, too:
    outside of the inner loops they cost little. A schedule that does not compile, crashes or computes wrong numbers is
    passed over. The choice depends on the kernel, the target and the meter alone.

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
    The artifact of the least latency, and its measurement. Warm latency counts twice as much as cold, relatively: a
    layer is compressed so that its weights stay in a cache.

    Raises
    ------
    KernelError
        No schedule of the kernel works; the message holds every reason.
    """
    failures: list[str] = []
    best: tuple[Artifact, Measurement] | None = None
    measured = 0

    def attempt(schedule: Schedule) -> bool:
        """Measure a schedule and return whether it is the best so far."""
        nonlocal best, measured
        try:
            artifact = compile_kernel(spec, schedule, target, symbol)
            arrays, expected = example(artifact, _SEED)
            measurement = meter.measure(artifact, arrays, expected)
        except KernelError as error:
            failures.append(f"{schedule}: {error}")
            return False
        measured += 1
        if best is not None and _latency(measurement) >= _latency(best[1]):
            return False
        best = artifact, measurement
        return True

    current, rest = changes(spec, target, _ALTERNATIVES)
    attempt(current)
    for change in rest:
        if measured >= tries or len(failures) > _FAILURES:
            break
        trial = changed(current, change)
        if attempt(trial):
            current = trial
    if best is None:
        raise KernelError(f"no schedule of {spec} works on {target.name}: {'; '.join(failures)}")
    return best


def _latency(measurement: Measurement) -> float:
    return measurement.warm.us**2 * measurement.cold.us
