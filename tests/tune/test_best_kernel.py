"""The choice among schedules, with meters that only pretend to measure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from lrfdse import tune
from lrfdse.catalog import load_target
from lrfdse.design import Artifact, Factorization, KernelSpec, Latency, Measurement
from lrfdse.errors import KernelError, ToolError
from lrfdse.kernels import schedules
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


def test_the_least_sum_of_warm_and_cold_wins() -> None:
    times = [(10.0, 10.0), (1.0, 30.0), (8.0, 9.0)]
    meter = FakeMeter(lambda call, _: times[call])
    artifact, measurement = best_kernel(SPEC, TARGET, meter, tries=3)
    assert len(meter.seen) == 3
    assert artifact is meter.seen[2]
    assert measurement.warm.us == 8.0


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


def test_schedules_that_spill_wait_behind_those_that_do_not(monkeypatch) -> None:
    ranked = schedules(SPEC, TARGET, 4)
    monkeypatch.setattr(tune, "spills", lambda artifact: 5 if artifact.schedule in ranked[:2] else 0)
    meter = FakeMeter(lambda call, _: (1.0, 1.0))
    best_kernel(SPEC, TARGET, meter, tries=2)
    assert [a.schedule for a in meter.seen] == ranked[2:4]


def test_a_kernel_that_spills_is_better_than_none(monkeypatch) -> None:
    monkeypatch.setattr(tune, "spills", lambda artifact: 3)
    meter = FakeMeter(lambda call, _: (1.0, 1.0))
    best_kernel(SPEC, TARGET, meter, tries=2)
    assert len(meter.seen) == 2
