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


def _stores(compile_c, target, kib):
    """Traffic of a loop that writes so many KiB."""
    floats = 256 * kib
    source = f"void kernel(float *x, float *w, float *y) {{ for (int i = 0; i < {floats}; i++) y[i] = *x + *w; }}"
    artifact = compile_c(source, target, (1, 1, floats))
    one = np.ones(1, np.float32)
    return record(artifact, target, [one, one], np.full(floats, 2.0), timeout=600)


def test_misses_of_stores_are_counted_apart(compile_c, target):
    trace = _stores(compile_c, target, 32)
    assert 512 <= trace.cold.l1_store_misses <= 512 + AROUND
    assert trace.cold.llc_store_misses <= trace.cold.l1_store_misses <= trace.cold.l1_misses
    assert _traced(compile_c, target, 32).cold.l1_store_misses <= AROUND


def test_stores_that_displace_nothing_leave_in_the_first_level_what_is_there(compile_c, target):
    """Of twice the first level's size, it keeps the first half; with allocation it keeps none of it."""
    past = dataclasses.replace(target, l1=CacheLevel(16, 4, allocates_stores=False))
    assert 256 - AROUND <= _stores(compile_c, past, 32).warm.l1_store_misses <= 256 + AROUND
    assert 512 - AROUND <= _stores(compile_c, target, 32).warm.l1_store_misses <= 512 + AROUND
    assert _stores(compile_c, past, 8).warm.l1_store_misses == 0


def test_an_in_order_core_does_not_wait_for_stores(compile_c, target):
    """Each store is 4 KiB beyond the one before, further than prefetchers look."""
    source = (
        "void kernel(float *x, float *w, float *y) { for (int i = 0; i < 65536; i++) y[i / 64 + i % 64 * 1024] = *x; }"
    )
    artifact = compile_c(source, target, (1, 1, 65536))
    one = np.zeros(1, np.float32)
    trace = record(artifact, target, [one, one], np.zeros(65536), timeout=600)
    assert trace.cold.l1_store_misses >= 4096
    assert trace.cold.l1_misses - trace.cold.l1_prefetched <= AROUND
    assert trace.cold.llc_misses - trace.cold.llc_prefetched <= AROUND


@pytest.mark.parametrize(
    ("replacement", "least", "most"), [("lru", 0.99, 1.0), ("random", 0.5, 0.95), ("bimodal", 0.4, 0.65)]
)
def test_what_a_loop_over_twice_the_cache_finds_there(compile_c, target, replacement, least, most):
    kept = dataclasses.replace(target, last_level=CacheLevel(64, 8, replacement=replacement))
    trace = _traced(compile_c, kept, 128)
    assert least * 2048 <= trace.warm.llc_misses <= most * 2048 + AROUND
    assert trace.warm.llc_misses - trace.warm.llc_prefetched <= AROUND


def test_other_cores_take_their_share(compile_c, target):
    shared = dataclasses.replace(target, last_level=CacheLevel(64, 8, share=0.25))
    assert _traced(compile_c, target, 32).warm.llc_misses == 0
    assert _traced(compile_c, shared, 32).warm.llc_misses >= 512 - AROUND


def test_without_a_prefetcher_every_line_is_waited_for(compile_c, target):
    none = dataclasses.replace(target, prefetch_lines=0)
    trace = _traced(compile_c, none, 32)
    assert trace.cold.llc_prefetched <= AROUND


PLAIN = {
    "line": 64,
    "last_level_bytes_per_cycle": 16.0,
    "dram_bytes_per_cycle": 4.0,
    "last_level_latency": 20.0,
    "dram_latency": 200.0,
}
HITS = Traffic(accesses=500, l1_misses=100, l1_prefetched=90, llc_misses=0, llc_prefetched=0, llc_writebacks=0)


def test_bandwidth_of_the_busiest_level_and_latency_of_the_rest():
    target = dataclasses.replace(load_target("riscv64-p670"), **PLAIN)
    cost = memory_cycles(HITS, target)
    assert (cost.stream, cost.latency) == (100 * 64 / 16, 10 * 20)
    assert (cost.low(1000), cost.high(1000)) == (1000 + 200, 1000 + 400 + 200)
    assert cost.low(100) == 400 + 200
    assert cost.modelled(1000, 100.0) == Latency(12.0, 12.0, 16.0)
    misses = Traffic(
        accesses=500, l1_misses=100, l1_prefetched=90, llc_misses=100, llc_prefetched=94, llc_writebacks=20
    )
    cost = memory_cycles(misses, target)
    assert (cost.stream, cost.latency) == (120 * 64 / 4, 6 * 200 + 4 * 20)


def test_an_in_order_core_stops_for_what_it_reads_from_the_last_level():
    target = dataclasses.replace(load_target("riscv64-p670"), **PLAIN, in_order=True)
    cost = memory_cycles(HITS, target)
    assert (cost.stream, cost.latency) == (0, 100 * 64 / 16 + 10 * 20)
    assert cost.low(1000) == cost.high(1000) == 1000 + 400 + 200


def test_filling_reading_and_copying_have_rates_of_their_own():
    target = dataclasses.replace(
        load_target("riscv64-p670"),
        **PLAIN,
        in_order=True,
        last_level_fill_bytes_per_cycle=8.0,
        dram_fill_bytes_per_cycle=6.4,
        dram_copy_bytes_per_cycle=2.0,
    )
    read = Traffic(100, 100, 100, 100, 100, 0)
    fill = Traffic(100, 100, 100, 100, 100, 100, l1_store_misses=100, llc_store_misses=100)
    copy = Traffic(200, 200, 200, 200, 200, 100, l1_store_misses=100, llc_store_misses=100)
    half = Traffic(100, 100, 100, 50, 50, 50, l1_store_misses=100, llc_store_misses=50)
    stop = 100 * 64 / 16
    assert (memory_cycles(read, target).stream, memory_cycles(read, target).latency) == (100 * 64 / 4, stop)
    assert (memory_cycles(fill, target).stream, memory_cycles(fill, target).latency) == (100 * 64 / 6.4, 0)
    assert (memory_cycles(copy, target).stream, memory_cycles(copy, target).latency) == (100 * 64 / 2, stop)
    assert memory_cycles(half, target).stream == 50 * 64 / 8 + 50 * 64 / 6.4


def test_rates_that_a_target_leaves_out():
    """Filling the last level is as fast as reading it; a line that is stored to DRAM is read and written."""
    target = dataclasses.replace(load_target("riscv64-p670"), **PLAIN)
    fill = Traffic(100, 100, 100, 100, 100, 100, l1_store_misses=100, llc_store_misses=100)
    assert memory_cycles(fill, target).stream == 2 * 100 * 64 / 4
    near = Traffic(100, 100, 100, 0, 0, 0, l1_store_misses=100)
    assert memory_cycles(near, target).stream == 100 * 64 / 16
