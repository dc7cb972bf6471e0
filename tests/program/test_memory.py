"""Memory plans: what is alive at one moment never overlaps."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrfdse.ir.operators import Foreign, Softmax
from lrfdse.ir.program import Call, Program, Value
from lrfdse.program.memory import plan


@st.composite
def programs(draw):
    """Calls that read and write arrays at random; each array is written before it is read."""
    values, calls, work = [], [], []
    for _ in range(draw(st.integers(1, 8))):
        read = draw(st.lists(st.integers(0, len(values) - 1), unique=True, max_size=3)) if values else []
        made = []
        for _ in range(draw(st.integers(1, 2))):
            kind = draw(st.sampled_from(["memory", "memory", "output"]))
            made.append(len(values))
            values.append(Value(kind, draw(st.integers(1, 500)), draw(st.sampled_from(["float32", "int8"]))))
        read = [value for value in read if values[value].kind == "memory"]
        ports = (tuple((values[v].size, values[v].element) for v in group) for group in (read, made))
        calls.append(Call(Foreign(b"", "", *ports), (*read, *made)))
        work.append(draw(st.sampled_from([0, 0, 1, 300])))
    return Program(tuple(values), tuple(calls), (), (), {}), work


@given(programs(), st.sampled_from([1, 16, 64]))
def test_nothing_that_is_alive_overlaps(case, alignment):
    program, work = case
    found = plan(program, work, alignment)
    memory = {number for number, value in enumerate(program.values) if value.kind == "memory"}
    assert set(found.offsets) == memory
    assert set(found.work) == {place for place, size in enumerate(work) if size}
    assert all(offset % alignment == 0 for offset in (*found.offsets.values(), *found.work.values()))
    most = 0
    for place in range(len(program.calls)):
        alive = []
        for number in memory:
            uses = [k for k, call in enumerate(program.calls) if number in call.arguments]
            if uses[0] <= place <= uses[-1]:
                alive.append((found.offsets[number], program.values[number].bytes))
        if work[place]:
            alive.append((found.work[place], work[place]))
        alive.sort()
        for (begin, size), (after, _) in pairwise(alive):
            assert begin + size <= after
        assert all(begin + size <= found.size for begin, size in alive)
        most = max(most, sum(-(-size // alignment) * alignment for _, size in alive))
    assert found.bound == most <= found.size


def test_a_chain_takes_its_two_largest_neighbours():
    sizes = [100, 300, 200, 50]
    values = tuple(Value("memory", size, "int8") for size in sizes)
    calls = tuple(
        Call(Foreign(b"", "", ((sizes[k], "int8"),), ((sizes[k + 1], "int8"),)), (k, k + 1)) for k in range(3)
    )
    found = plan(Program(values, calls, (), (), {}), alignment=4)
    assert found.size == found.bound == 500


def test_a_program_without_memory_needs_none():
    values = (Value("input", 4), Value("output", 4))
    found = plan(Program(values, (Call(Softmax(1, 4), (0, 1)),), (), (), {}))
    assert (found.size, found.bound, found.offsets) == (0, 0, {})


@pytest.mark.parametrize(("work", "alignment"), [((1, 2), 64), ((), 48), ((), 0)])
def test_arguments_that_do_not_fit_are_refused(work, alignment):
    values = (Value("input", 4), Value("output", 4))
    with pytest.raises(ValueError, match=r"scratch|power of two"):
        plan(Program(values, (Call(Softmax(1, 4), (0, 1)),), (), (), {}), work, alignment)
