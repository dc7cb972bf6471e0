from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrfdse.errors import InputError
from lrfdse.ir.factorization import Factorization, Step
from lrfdse.ir.kernel import KernelSpec, Schedule, StepSchedule
from lrfdse.ir.storage import FLOAT32, INT8
from lrfdse.kernels.blocks import Runs
from lrfdse.kernels.bounds import lower_bound_cycles, operator_bound_cycles
from lrfdse.kernels.build import compile_kernel
from lrfdse.kernels.data import example
from lrfdse.kernels.estimate import cycles
from lrfdse.kernels.layout import Tiling, cover, tilings
from lrfdse.kernels.lines import stops
from lrfdse.kernels.schedules import alternatives, candidates, changed, changes, schedules
from lrfdse.meters.meter import open_meter
from lrfdse.targets.catalog import load_target
from lrfdse.targets.target import CacheLevel
from tests.plugins.targets import families

TEXTS = ["dense", "svd:r=5", "svd:r=32", "tt:m=15x20,n=28x28,r=8", "tt:m=5x6x10,n=7x16x7,r=5x11,lr"]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("target", families())
@pytest.mark.parametrize("rows", [1, 5])
def test_schedules_fit_their_steps_and_differ(text, target, rows) -> None:
    machine = load_target(target)
    spec = KernelSpec(300, 784, Factorization.parse(text, 300, 784), rows, True, False)
    found = schedules(spec, machine, 4)
    assert 2 <= len(found) <= 4
    assert len(set(found)) == len(found)
    for schedule in found:
        for tile in tilings(spec, schedule):
            s = tile.schedule
            sums = s.out_tile * s.column_tile * tile.chains
            assert sums * -(-s.lanes // machine.lanes) <= machine.vector_registers
            assert s.lanes <= machine.lanes * max(machine.groups)


def test_one_schedule_when_one_is_asked_for() -> None:
    spec = KernelSpec(300, 784, Factorization.dense(300, 784), 1, True, False)
    target = load_target("riscv64")
    assert schedules(spec, target, 1) == schedules(spec, target, 4)[:1]


def test_long_dot_products_of_few_rows_lie_along_the_inner_axis() -> None:
    spec = KernelSpec(300, 784, Factorization.svd(300, 784, 5), 1, True, False)
    first, second = schedules(spec, load_target("host"), 1)[0].steps
    assert (first.axis, second.axis) == ("inner", "out")


def test_halves_are_tried_where_loads_of_whole_registers_hold_arithmetic_up() -> None:
    """At one row an FMA needs a load of its own; where a load serves four FMAs, whole registers take fewer of both."""
    target = load_target("aarch64-a55")
    dense = Step(1, 300, 784, 1)
    assert {s.lanes for s in candidates(dense, target)} == {2, 4}
    assert {s.lanes for s in candidates(dense, load_target("aarch64"))} == {4}
    assert alternatives(dense, target, 1)[0][1].lanes == 2
    assert alternatives(Step(16, 80, 80, 1), target, 1)[0][1].lanes == 4


@pytest.mark.slow
def test_halves_are_right_and_faster_at_one_row() -> None:
    target = load_target("aarch64-a55")
    spec = KernelSpec(30, 96, Factorization.dense(30, 96), 1, False, False)
    meter = open_meter("model", target)
    measured = {}
    for lanes in (2, 4):
        artifact = compile_kernel(spec, Schedule((StepSchedule("out", lanes, 8, 1, 2),)), target, "kernel")
        measured[lanes] = meter.measure(artifact, *example(artifact, 0))
    assert max(m.max_error for m in measured.values()) < 1e-5
    assert measured[2].warm.us < 0.9 * measured[4].warm.us


def test_changes_are_of_one_step_each_and_the_most_promising_come_first() -> None:
    spec = KernelSpec(300, 784, Factorization.parse(TEXTS[4], 300, 784), 5, True, False)
    first, found = changes(spec, load_target("riscv64"), 8)
    assert found
    assert [c.promise for c in found] == sorted((c.promise for c in found), reverse=True)
    assert min(c.promise for c in found) > 0
    for change in found:
        other = changed(first, change)
        assert [i for i, (a, b) in enumerate(zip(first.steps, other.steps, strict=True)) if a != b] == [change.step]
        assert len(tilings(spec, other)) == len(first.steps)


def test_scalar_targets_get_scalar_schedules() -> None:
    spec = KernelSpec(300, 784, Factorization.parse(TEXTS[3], 300, 784), 1, True, False)
    for schedule in schedules(spec, load_target("riscv64-u74"), 4):
        assert all((s.axis, s.lanes) == ("out", 1) for s in schedule.steps)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 200), st.integers(1, 33), st.integers(1, 9), st.sampled_from([None, 0.0, 0.1, 10.0]))
def test_cover_reaches_every_element_and_none_outside(size, lanes, vectors, twice) -> None:
    reached: set[int] = set()
    computed = 0
    spans = cover(size, lanes, vectors, twice)
    for span in spans:
        for block in range(span.count):
            start = span.start + block * span.stride
            if span.last is not None and block == span.count - 1:
                assert span.last < start
                start = span.last
            for offset in span.offsets:
                reached |= set(range(start + offset, start + offset + span.valid))
                computed += 1
    assert reached == set(range(size))
    least = -(-size // lanes)
    assert least <= computed <= least * (1 + (twice or 0.0))
    if twice is not None and twice >= 1 and size >= vectors * lanes:
        assert len(spans) == 1, "where so much may be computed twice, all tiles are alike"


def test_packed_weights_are_little_larger_than_the_cores() -> None:
    """The last vector of an axis may repeat its neighbour, no more."""
    target = load_target("riscv64")
    f = Factorization.dense(300, 784)
    spec = KernelSpec(300, 784, f, 1, False, False)
    for schedule in schedules(spec, target, 4):
        (step,) = schedule.steps
        size = Tiling.of(f.steps()[0], step).weight_size
        longest = 300 if step.axis == "inner" else 784
        assert f.params <= size < f.params + longest * step.lanes


def test_lower_bounds() -> None:
    in_order = load_target("riscv64")
    assert in_order.in_order
    target = dataclasses.replace(in_order, in_order=False)
    spec = KernelSpec(256, 128, Factorization.dense(256, 128), 1, True, True)
    size, macs = 4 * 256 * 128, 256 * 128
    cache, dram = size / target.last_level_bytes_per_cycle, size / target.dram_bytes_per_cycle
    assert lower_bound_cycles(spec, target, "cold") == pytest.approx(dram)
    assert lower_bound_cycles(spec, target, "warm") == pytest.approx(cache)
    # An in-order core does not compute while it reads from the last level.
    assert lower_bound_cycles(spec, in_order, "cold") == pytest.approx(dram + cache)
    assert lower_bound_cycles(spec, in_order, "warm") == pytest.approx(macs / target.fma_per_cycle + cache)
    many = KernelSpec(256, 128, Factorization.dense(256, 128), 1000, True, True)
    assert lower_bound_cycles(many, target, "cold") == pytest.approx(macs * 1000 / target.fma_per_cycle)
    large = KernelSpec(1024, 256, Factorization.dense(1024, 256), 1, True, True)
    kept = dataclasses.replace(target, last_level=CacheLevel(512, 16, replacement="bimodal"))
    none = dataclasses.replace(target, last_level=CacheLevel(512, 16))
    size = 4 * 1024 * 256
    by_cache, by_dram = size / target.last_level_bytes_per_cycle, (size - 512 * 1024) / target.dram_bytes_per_cycle
    assert lower_bound_cycles(large, kept, "warm") == pytest.approx(max(by_cache, by_dram))
    assert lower_bound_cycles(large, none, "warm") == pytest.approx(size / target.dram_bytes_per_cycle)
    small = KernelSpec(32, 32, Factorization.dense(32, 32), 1, True, True)
    assert lower_bound_cycles(small, in_order, "warm") == pytest.approx(32 * 32 / target.fma_per_cycle)


def test_bounds_of_operators_count_each_byte_once() -> None:
    in_order = load_target("riscv64")
    target = dataclasses.replace(in_order, in_order=False)
    read_rate, fill_rate = target.last_level_bytes_per_cycle, target.last_level_fill_bytes_per_cycle
    assert fill_rate is not None and target.dram_fill_bytes_per_cycle is not None
    assert operator_bound_cycles(8000, 32 * 1024, 32 * 1024, in_order) == 1000, "what fits the first level is free"
    near = 64 * 1024
    assert operator_bound_cycles(80_000, near, near, in_order) == pytest.approx(10_000 + near / read_rate)
    assert operator_bound_cycles(8000, near, near, in_order) == pytest.approx(near / fill_rate + near / read_rate)
    assert operator_bound_cycles(8000, near, near, target) == pytest.approx(near / fill_rate + near / read_rate)
    far, beyond = 1024 * 1024, 512 * 1024
    stored = far / fill_rate + beyond / target.dram_fill_bytes_per_cycle
    assert operator_bound_cycles(8000, 0, far, in_order) == pytest.approx(stored)
    fetched = beyond / target.dram_bytes_per_cycle
    assert operator_bound_cycles(8000, far, 0, in_order) == pytest.approx(fetched + far / read_rate)
    assert operator_bound_cycles(8000, far, 0, target) == pytest.approx(max(fetched, far / read_rate))


def test_what_exceeds_the_last_level_comes_again_from_dram() -> None:
    machine = load_target("riscv64")
    tiling = Tiling.of(Step(960, 240, 240, 1), StepSchedule.parse("out:8:3x8:u2"))
    larger = dataclasses.replace(machine, last_level=CacheLevel(4096, 16, replacement="bimodal"))
    slower = 1 / machine.dram_bytes_per_cycle - 1 / machine.last_level_bytes_per_cycle
    assert stops(tiling, machine) - stops(tiling, larger) == pytest.approx(9 * 4 * 960 * 240 * slower)


def test_an_in_order_core_stops_for_what_its_first_level_does_not_hold() -> None:
    machine = load_target("riscv64")

    def stopped(step: Step, schedule: str) -> float:
        return stops(Tiling.of(step, StepSchedule.parse(schedule)), machine) * machine.last_level_bytes_per_cycle

    assert stopped(Step(8, 40, 64, 1), "out:8:2x8:u1") == 0, "10 KiB of weights and 2 KiB of data"
    once = stopped(Step(8, 320, 784, 1), "out:8:2x8:u1")
    data, weights = 4 * 8 * 784, 4 * 320 * 784
    assert once == pytest.approx(weights + 20 * data), "a panel of 49 KiB drives the data out before the next"
    assert stopped(Step(8, 320, 784, 1), "out:8:2x4:u1") == pytest.approx(2 * weights + 20 * data)
    assert stopped(Step(1, 320, 64, 1), "out:8:5x1:u1") == pytest.approx(4 * 64 * 321), "data of 256 bytes stay"


def test_inputs_that_windows_share_are_read_once() -> None:
    machine = load_target("riscv64")
    tiling = Tiling.of(Step(56, 64, 147, 1), StepSchedule.parse("out:8:4x4:u2"))
    covered = 7 * 117 * 3
    moved = stops(tiling, machine, runs=Runs(covered=covered)) * machine.last_level_bytes_per_cycle
    assert moved == pytest.approx(4 * (64 * 147 + covered)), "10 KiB of data stay beside a panel of 18 KiB"


def test_an_in_order_core_waits_for_every_line_where_a_tile_reads_more_rows_than_its_prefetcher_follows() -> None:
    # The meter gives 2.67 and 0.90 ms for the two on the A55.
    machine, step = load_target("aarch64-a55"), Step(16, 256, 1024, 1)
    many, few = (
        stops(Tiling.of(step, StepSchedule.parse(text)), machine) for text in ("out:4:1x16:u2", "out:4:2x8:u2")
    )
    assert many > 5 * few
    assert alternatives(step, machine, 1, copies=True)[0][1].column_tile < 16


def test_estimates_of_an_in_order_core_hold_its_stops() -> None:
    machine = load_target("riscv64")
    tiling = Tiling.of(Step(8, 320, 784, 1), StepSchedule.parse("out:8:2x4:u2"))
    without = cycles(tiling, dataclasses.replace(machine, in_order=False))
    assert cycles(tiling, machine) == pytest.approx(without + stops(tiling, machine))


def test_tiles_of_single_registers_come_first_on_the_x60() -> None:
    # The meter gives 17.2 and 19.9 cycles a step along the inner axis, of which the FMAs are 16.
    machine, step = load_target("riscv64"), Step(4, 64, 64, 1)
    single, double = (
        cycles(Tiling.of(step, StepSchedule.parse(tile)), machine) for tile in ("out:8:4x4:u4", "out:16:2x4:u4")
    )
    assert single < double


def test_in_order_cores_get_blocks_where_a_weight_panel_exceeds_half_of_their_first_level() -> None:
    machine = load_target("riscv64")
    large, small = Step(128, 256, 1024, 1), Step(128, 256, 64, 1)
    best = alternatives(large, machine, 1, copies=True)[0][1]
    assert 0 < 4 * best.inner_block * best.out_tile * best.lanes <= 512 * machine.l1.kib
    for step, target, storage in (
        (small, machine, FLOAT32),
        (Step(1, 256, 1024, 1), machine, FLOAT32),
        (large, machine, INT8),
        (large, dataclasses.replace(machine, in_order=False), FLOAT32),
    ):
        found = alternatives(step, target, 8, copies=True, storage=storage)
        assert not any(schedule.inner_block for _, schedule in found)


def test_rows_are_read_as_they_lie_where_few_panels_meet_them_and_they_do_not_crowd() -> None:
    machine = load_target("riscv64")

    def found(outputs: int, inputs: int) -> list[StepSchedule]:
        step = Step(196, outputs, inputs, 1)
        return [schedule for _, schedule in alternatives(step, machine, 8, copies=True) if schedule.inner_block]

    assert found(64, 384)[0].in_place
    assert not found(1280, 384)[0].in_place, "one copy serves forty panels"
    crowded = found(64, 2048)
    assert crowded and not any(s.in_place for s in crowded), "rows 8 KiB apart lie in one set"


def test_a_schedule_of_rows_as_they_lie_reads_as_it_is_written() -> None:
    text = "out:8:4x4:u4:b192x1x196i"
    assert str(StepSchedule.parse(text)) == text and StepSchedule.parse(text).in_place
    with pytest.raises(InputError, match="no step of a schedule"):
        StepSchedule.parse("out:8:4x4:u4i")


@pytest.mark.slow
def test_blocks_are_right_and_faster_where_rows_meet_many_weights() -> None:
    machine = load_target("riscv64")
    spec = KernelSpec(96, 1024, Factorization.dense(96, 1024), 32, False, False)
    meter = open_meter("model", machine)
    taken = []
    for text in ("out:8:2x8:u4", "out:8:4x4:u4:b128x1x32"):
        artifact = compile_kernel(spec, Schedule.parse(text), machine, "kernel")
        measured = meter.measure(artifact, *example(artifact, 0))
        assert measured.max_error < 1e-5
        taken.append(measured.warm.us)
    assert taken[1] < 0.9 * taken[0]


def test_tiles_whose_operands_cannot_be_loaded_ahead_are_estimated_slower() -> None:
    """Of 30 sums two registers are left for two weights, none for the next: the model meter says 41 cycles."""
    machine, step = load_target("riscv64"), Step(128, 256, 1024, 1)
    full, spare = (
        cycles(Tiling.of(step, StepSchedule.parse(text)), machine) for text in ("out:8:2x15:u1", "out:8:2x13:u2")
    )
    assert spare < full
