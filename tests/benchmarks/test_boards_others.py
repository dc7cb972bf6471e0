"""Copies, fills and reads of the cores beside the X60: the model puts bandwidths together as their boards did."""

from __future__ import annotations

import pytest

from benchmarks.boards.others import STREAMS, modelled

NEAR = 0.25


@pytest.mark.slow
@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: f"{stream.target}-{stream.kind}")
def test_streams_from_dram_come_near_what_was_measured(stream):
    assert abs(modelled(stream).error) < NEAR


def test_every_core_that_others_measured_has_its_streams():
    found = {(stream.target, stream.kind) for stream in STREAMS}
    for target in ("riscv64-u74", "aarch64", "aarch64-a55", "armv7"):
        assert {(target, kind) for kind in ("copy", "fill", "read")} <= found
