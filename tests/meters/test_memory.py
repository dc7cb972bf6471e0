"""The cache model of the plugin against counts made by hand, and what its traffic costs."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from lrfdse.ir.latency import Latency
from lrfdse.meters.memory import memory_cycles
from lrfdse.meters.trace import Traffic, record
from lrfdse.targets.catalog import load_target
from lrfdse.targets.target import CacheLevel

SUM = """
void kernel(float *x, float *w, float *y) {
    (void)x;
    float sum = 0;
    for (int i = 0; i < %d; i++) sum += w[i];
    y[0] = sum;
}
"""


def _traced(compile_c, target, kib):
    floats = kib * 256
    w = np.full(floats, 0.5, dtype=np.float32)
    artifact = compile_c(SUM % floats, target, (1, floats, 1))
    return record(artifact, target, [np.zeros(1, np.float32), w], np.array([0.5 * floats]), timeout=600)


@pytest.fixture
def target():
    return dataclasses.replace(load_target("aarch64"), l1=CacheLevel(16, 4), last_level=CacheLevel(64, 8))


AROUND = 8
"""Lines of stack, pointers and result that a call touches besides its weights."""


def test_weights_that_fit_l1_are_read_once(compile_c, target):
    trace = _traced(compile_c, target, 8)
    assert 128 <= trace.cold.llc_misses <= 128 + AROUND
    assert trace.cold.l1_misses == trace.cold.llc_misses
    assert trace.warm.l1_misses == trace.warm.llc_misses == 0


def test_weights_that_fit_the_last_level_come_from_there(compile_c, target):
    trace = _traced(compile_c, target, 32)
    assert 512 <= trace.cold.llc_misses <= 512 + AROUND
    assert 512 <= trace.warm.l1_misses <= 512 + AROUND
    assert trace.warm.llc_misses == 0


def test_weights_that_fit_nowhere_come_from_dram_each_time(compile_c, target):
    trace = _traced(compile_c, target, 128)
    assert 2048 <= trace.warm.llc_misses <= 2048 + AROUND
    assert trace.warm.llc_prefetched >= 2048 - AROUND


def test_vector_elements_of_one_line_are_one_access(compile_c):
    trace = _traced(compile_c, load_target("riscv64"), 8)
    assert 128 <= trace.cold.accesses <= 128 + 3 * AROUND


def test_far_apart_misses_are_not_prefetched(compile_c, target):
    stride = SUM.replace("i++", "i += 1024")
    w = np.full(64 * 1024, 0.5, dtype=np.float32)
    artifact = compile_c(stride % w.size, target, (1, w.size, 1))
    trace = record(artifact, target, [np.zeros(1, np.float32), w], np.array([32.0]), timeout=600)
    assert 64 <= trace.cold.llc_misses - trace.cold.llc_prefetched <= 64 + AROUND


def test_an_out_of_order_core_waits_once_for_misses_in_flight(compile_c, target):
    """A loop body of six instructions or fewer reads two lines: with 16 in flight, at least four reads overlap."""
    stride = SUM.replace("i++", "i += 1024")
    w = np.full(64 * 1024, 0.5, dtype=np.float32)
    artifact = compile_c(stride % w.size, target, (1, w.size, 1), ("-fno-unroll-loops", "-fno-vectorize"))
    case = artifact, target, [np.zeros(1, np.float32), w], np.array([32.0])
    waits = {}
    for window in (0, 16, 100_000):
        trace = record(*case, timeout=600, window=window)
        waits[window] = trace.cold.llc_misses - trace.cold.llc_prefetched
        assert (trace.cold.l1_prefetched == trace.cold.l1_misses) == (window > 0)
    assert waits[100_000] == 1
    assert 1 < waits[16] <= waits[0] // 2


def test_written_lines_are_written_back(compile_c, target):
    source = "void kernel(float *x, float *w, float *y) { for (int i = 0; i < 32768; i++) y[i] = *x + *w; }"
    artifact = compile_c(source, target, (1, 1, 32768))
    one = np.ones(1, np.float32)
    trace = record(artifact, target, [one, one], np.full(32768, 2.0), timeout=600)
    assert 2048 - 1024 - AROUND <= trace.cold.llc_writebacks <= 2048
    assert 2048 - AROUND <= trace.warm.llc_writebacks <= 2048 + AROUND


def test_bandwidth_of_the_busiest_level_and_latency_of_the_rest():
    target = dataclasses.replace(
        load_target("riscv64"),
        line=64,
        last_level_bytes_per_cycle=16.0,
        dram_bytes_per_cycle=4.0,
        last_level_latency=20.0,
        dram_latency=200.0,
    )
    hits = Traffic(accesses=500, l1_misses=100, l1_prefetched=90, llc_misses=0, llc_prefetched=0, llc_writebacks=0)
    cost = memory_cycles(hits, target)
    assert (cost.stream, cost.latency) == (100 * 64 / 16, 10 * 20)
    assert (cost.low(1000), cost.high(1000)) == (1000 + 200, 1000 + 400 + 200)
    assert cost.low(100) == 400 + 200
    assert cost.modelled(1000, 100.0) == Latency(12.0, 12.0, 16.0)
    misses = Traffic(
        accesses=500, l1_misses=100, l1_prefetched=90, llc_misses=100, llc_prefetched=94, llc_writebacks=20
    )
    cost = memory_cycles(misses, target)
    assert (cost.stream, cost.latency) == (120 * 64 / 4, 6 * 200 + 4 * 20)


@pytest.mark.parametrize("copying", [0.5, 0.8, 1.2])
def test_a_copy_takes_what_copying_takes_be_it_more_or_less_than_reading_and_storing(copying):
    """Reading and storing alone: 1 / 2 + 1 / 1 cycles a byte."""
    target = dataclasses.replace(
        load_target("aarch64"),
        dram_bytes_per_cycle=2.0,
        dram_fill_bytes_per_cycle=1.0,
        dram_copy_bytes_per_cycle=copying,
    )
    copied = Traffic(2000, 2000, 2000, 2000, 2000, 1000, l1_store_misses=1000, llc_store_misses=1000)
    assert memory_cycles(copied, target).stream == pytest.approx(1000 * 64 / copying)
    read_too = dataclasses.replace(copied, l1_misses=2500, llc_misses=2500, llc_prefetched=2500)
    assert memory_cycles(read_too, target).stream == pytest.approx(1000 * 64 / copying + 500 * 64 / 2)
    without = dataclasses.replace(target, dram_copy_bytes_per_cycle=None)
    assert memory_cycles(copied, without).stream == pytest.approx(1000 * 64 * 1.5)
