"""Copies, fills and reads of the cores beside the X60: the model puts bandwidths together as their boards did."""

from __future__ import annotations

import pytest

from benchmarks.boards.instructions import Compared, published
from benchmarks.boards.models import TIMED, Predicted, at_clock
from benchmarks.boards.others import STREAMS, modelled
from benchmarks.boards.page_others import models_section, peaks_section
from benchmarks.whole_model.models import named
from lrfdse.targets.catalog import load_target

NEAR = 0.25


@pytest.mark.slow
@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: f"{stream.target}-{stream.kind}")
def test_streams_from_dram_come_near_what_was_measured(stream):
    assert abs(modelled(stream).error) < NEAR


def test_every_core_that_others_measured_has_its_streams():
    found = {(stream.target, stream.kind) for stream in STREAMS}
    for target in ("riscv64-u74", "aarch64", "aarch64-a55", "armv7"):
        assert {(target, kind) for kind in ("copy", "fill", "read")} <= found


def test_at_another_clock_dram_is_as_fast_and_caches_take_as_many_cycles():
    target = load_target("aarch64")
    faster = at_clock(target, 1800)
    assert faster.clock_mhz * faster.dram_bytes_per_cycle == pytest.approx(
        target.clock_mhz * target.dram_bytes_per_cycle
    )
    assert faster.dram_latency / faster.clock_mhz == pytest.approx(target.dram_latency / target.clock_mhz)
    assert faster.last_level_bytes_per_cycle == target.last_level_bytes_per_cycle
    assert at_clock(target, target.clock_mhz) == target


def test_timed_models_are_there_and_only_the_same_arithmetic_counts_as_like():
    named([timed.model for timed in TIMED])
    for timed in TIMED:
        load_target(timed.target)
    assert {timed.arithmetic for timed in TIMED if timed.is_like} == {"float32"}
    found = [Predicted(timed, timed.milliseconds * (1.5 if timed.is_like else 9.0)) for timed in TIMED]
    text = "\n".join(models_section(found))
    assert "1.50 in the median, 1.50 to 1.50" in text
    assert text.count("| 9.00 |") == len([timed for timed in TIMED if not timed.is_like])


def test_every_core_with_a_published_fma_is_among_the_peaks():
    rows = [Compared(row, row.cycles, 1.3 * row.cycles) for row in published()]
    text = "\n".join(peaks_section(rows))
    for target in ("riscv64", "aarch64", "aarch64-a55", "aarch64-a53", "armv7"):
        assert f"| {target} |" in text
    assert "Within 25%: 0 of" in text
