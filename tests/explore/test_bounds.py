"""What bounds a layer's kernels: the larger part of what the meter counted."""

from __future__ import annotations

import pytest

from lrfdse.explore.layers.bounds import bound_of
from lrfdse.ir.latency import Latency, Measurement
from lrfdse.targets.catalog import load_target

US = Latency(1.0, 1.0, 1.0)


def kernel(compute, stream, waiting, **details):
    counted = {"compute_cycles": compute}
    for regime in ("warm", "cold"):
        counted |= {f"{regime}_stream_cycles": stream, f"{regime}_latency_cycles": waiting}
    return Measurement("model", US, US, 0.0, counted | details)


@pytest.mark.parametrize(
    ("parts", "weight_bytes", "warm", "cold"),
    [
        ((100, 60, 39), 1000, "compute", "compute"),
        ((100, 60, 41), 1000, "cache", "dram"),
        # More than the last-level cache holds comes from DRAM every time.
        ((100, 60, 41), 1 << 30, "dram", "dram"),
    ],
)
def test_the_larger_part_of_the_cycles_is_the_bound(parts, weight_bytes, warm, cold):
    target = load_target("riscv64")
    found = [bound_of([kernel(*parts)], regime, weight_bytes, target) for regime in ("warm", "cold")]
    assert found == [warm, cold]


def test_uses_count_together():
    target = load_target("riscv64")
    assert bound_of([kernel(100, 10, 0), kernel(10, 200, 0)], "cold", 1000, target) == "dram"
    assert bound_of([kernel(100, 10, 0), kernel(10, 50, 0)], "cold", 1000, target) == "compute"


def test_a_meter_that_does_not_tell_has_none():
    target = load_target("host")
    assert bound_of([Measurement("host", US, US, 0.0, {"repeats": 9})], "warm", 1000, target) is None
    assert bound_of([], "warm", 1000, target) is None
