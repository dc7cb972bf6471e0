"""The choice among schedules, with meters that only pretend to measure."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from lrfdse.errors import KernelError, ToolError
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.kernel import Artifact, KernelSpec
from lrfdse.ir.latency import Latency, Measurement
from lrfdse.kernels.schedules import schedules
from lrfdse.targets.catalog import load_target
from lrfdse.tune import best_kernel

TARGET = load_target("host")
SPEC = KernelSpec(40, 96, Factorization.svd(40, 96, 8), 1, True, True)


@dataclass
class FakeMeter:
    """Says what `latency` says of the number of the call and the artifact."""

    latency: Callable[[int, Artifact], tuple[float, float]]
    seen: list[Artifact] = field(default_factory=list)
    name: str = "host"

    def measure(self, artifact, arrays, expected) -> Measurement:
        given = [a for a in artifact.arguments if a.role in ("input", "weight", "bias")]
        assert [a.size for a in arrays] == [a.size for a in given]
        assert expected.shape == (SPEC.rows, SPEC.outputs)
        assert expected.dtype == np.float64
        self.seen.append(artifact)
        warm, cold = self.latency(len(self.seen) - 1, artifact)
        return Measurement("host", Latency(warm, warm, warm), Latency(cold, cold, cold), 0.0)


def test_relative_latency_wins_and_warm_counts_twice() -> None:
    times = [(10.0, 10.0), (4.0, 90.0), (8.0, 12.0)]
    meter = FakeMeter(lambda call, _: times[call])
    artifact, measurement = best_kernel(SPEC, TARGET, meter, tries=3)
    assert len(meter.seen) == 3
    assert artifact is meter.seen[2]
    assert measurement.warm.us == 8.0


def _differing(a: Artifact, b: Artifact) -> int:
    return sum(x != y for x, y in zip(a.schedule.steps, b.schedule.steps, strict=True))


def test_one_step_changes_at_a_time_and_what_helps_stays() -> None:
    times = [5.0, 4.0, 6.0, 3.0]
    meter = FakeMeter(lambda call, _: (times[call], times[call]))
    artifact, _ = best_kernel(SPEC, TARGET, meter, tries=4)
    assert artifact is meter.seen[3]
    for number, base in ((1, 0), (2, 1), (3, 1)):
        assert _differing(meter.seen[number], meter.seen[base]) == 1


def test_the_choice_repeats() -> None:
    def latency(call: int, artifact: Artifact) -> tuple[float, float]:
        one = float(zlib.crc32(str(artifact.schedule).encode()) % 97 + 1)
        return one, one

    first, second = (FakeMeter(latency) for _ in range(2))
    chosen = [best_kernel(SPEC, TARGET, meter, tries=6)[0].schedule for meter in (first, second)]
    assert chosen[0] == chosen[1]
    assert [a.schedule for a in first.seen] == [a.schedule for a in second.seen]


def test_no_more_kernels_are_measured_than_asked_for() -> None:
    meter = FakeMeter(lambda call, _: (1.0, 1.0))
    artifact, _ = best_kernel(SPEC, TARGET, meter, tries=1)
    assert meter.seen == [artifact]
    assert artifact.schedule == schedules(SPEC, TARGET, 1)[0]


def test_a_schedule_that_fails_is_passed_over() -> None:
    def first_crashes(call: int, artifact: Artifact) -> tuple[float, float]:
        if call == 0:
            raise KernelError("crashed")
        return (1.0, 1.0)

    meter = FakeMeter(first_crashes)
    artifact, _ = best_kernel(SPEC, TARGET, meter, tries=1)
    assert artifact is meter.seen[1]


def test_all_failing_is_an_error_with_every_reason() -> None:
    def crash(call: int, artifact: Artifact) -> tuple[float, float]:
        raise KernelError(f"reason {call}")

    with pytest.raises(KernelError, match=r"(?s)reason 0.*reason 1"):
        best_kernel(SPEC, TARGET, FakeMeter(crash), tries=2)


def test_a_missing_tool_is_not_a_failed_kernel() -> None:
    def no_tool(call: int, artifact: Artifact) -> tuple[float, float]:
        raise ToolError("llvm-mca is missing")

    meter = FakeMeter(no_tool)
    with pytest.raises(ToolError, match="llvm-mca is missing"):
        best_kernel(SPEC, TARGET, meter)
    assert len(meter.seen) == 1
