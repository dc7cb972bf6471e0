"""Loop bodies over the inner axis: what they hold fits, and sets of operands take whole turns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrfdse.ir.kernel import StepSchedule
from lrfdse.kernels.layout import register_group
from lrfdse.kernels.registers import RegisterFile, operands
from lrfdse.targets.catalog import load_target

TARGETS = ["riscv64", "riscv64-x280", "riscv64-u74", "aarch64-a55"]


@pytest.mark.parametrize("target", TARGETS)
@given(
    axis=st.sampled_from(["out", "columns", "inner"]),
    group=st.sampled_from([1, 2, 4]),
    rows=st.integers(1, 16),
    columns=st.integers(1, 16),
    unroll=st.sampled_from([1, 2, 4, 8]),
)
def test_carried_operands_fit_beside_the_sums(target, axis, group, rows, columns, unroll) -> None:
    registers = RegisterFile.of(load_target(target))
    schedule = StepSchedule(axis, registers.lanes * group, rows, columns, unroll)
    body = registers.body(schedule, rows, columns)
    vectors, scalars = operands(schedule, rows, columns)
    assert 1 <= body.unroll <= unroll
    assert body.sets <= body.unroll
    assert body.carried <= body.unroll
    held = (body.sets * rows * columns + body.carried * vectors) * register_group(schedule.lanes, registers.lanes)
    if body.carried:
        assert held + (0 if registers.apart else body.carried * scalars) <= registers.vectors
    if body.rotates:
        assert body.carried >= 2
        assert body.unroll % body.carried == 0


def test_operands_take_turns_where_fmas_hide_the_loads() -> None:
    registers = RegisterFile.of(load_target("riscv64"))
    assert registers.body(StepSchedule("out", 8, 4, 4, 4), 4, 4).rotates
    assert not registers.body(StepSchedule("out", 8, 4, 4, 1), 4, 4).rotates, "one set has no turns"
    assert not registers.body(StepSchedule("out", 8, 7, 1, 2), 7, 1).rotates, "loads take twice as long as FMAs"
    shared = RegisterFile.of(load_target("aarch64-a55"))
    assert not shared.body(StepSchedule("out", 4, 4, 2, 4), 4, 2).rotates
