"""The text form of factorizations and schedules: what is read back, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrfdse.errors import InputError
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.kernel import Schedule, StepSchedule


@st.composite
def factorizations(draw):
    modes = draw(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=4))
    ranks = tuple(draw(st.integers(1, 9)) for _ in modes[1:])
    direction = draw(st.sampled_from(["rl", "lr"])) if ranks else "rl"
    repair = draw(st.integers(0, 9)) if not ranks else 0
    return Factorization(tuple(m for m, _ in modes), tuple(n for _, n in modes), ranks, direction, repair)


@given(factorizations())
def test_what_is_written_is_read_back(factorization):
    read = Factorization.parse(str(factorization), factorization.outputs, factorization.inputs)
    assert read == factorization


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tt", "unknown factorization 'tt': write `dense`"),
        ("svd:r=-1", "unknown factorization"),
        ("tt:m=3x,n=2x2,r=2", "unknown factorization"),
        ("tt:m=3x4,n=2x2,r=2,up", "unknown factorization"),
        ("svd:r=0", "'svd:r=0': modes and ranks must be positive"),
        ("dense+r=0", "'dense+r=0': the rank of a repair must be positive"),
        ("dense+r=-3", "unknown factorization"),
        ("svd:r=2+r=3", "unknown factorization"),
        ("tt:m=0x4,n=2x2,r=2", "modes and ranks must be positive"),
        ("tt:m=3x4,n=2x2x2,r=2", "as many output modes as input modes"),
        ("tt:m=3x4,n=2x2,r=2x2", "one rank fewer"),
        ("tt:m=3x3,n=2x2,r=2", "of 9 outputs and 4 inputs: too few for a layer of 12 outputs and 4 inputs"),
    ],
)
def test_a_users_text_that_is_wrong_is_one_line(text, said):
    with pytest.raises(InputError) as caught:
        Factorization.parse(text, 12, 4)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "shape", [((2, 3), (4,), ()), ((2, 3), (4, 5), ()), ((2,), (4,), (1,)), ((2, 0), (4, 5), (1,))]
)
def test_an_impossible_shape_is_a_defect_of_the_caller(shape):
    with pytest.raises(ValueError, match="modes"):
        Factorization(*shape)


def test_a_repair_stands_beside_a_dense_layer_alone():
    with pytest.raises(ValueError, match="beside a dense layer"):
        Factorization((2, 3), (4, 5), (3,), repair=2)
    with pytest.raises(ValueError, match="positive rank"):
        Factorization((2,), (4,), repair=-1)


def test_a_repair_costs_what_its_three_products_do():
    f = Factorization.parse("dense+r=4", 24, 30)
    assert not f.is_dense and not f.is_svd and f.unrepaired == Factorization.dense(24, 30)
    assert f.params == f.macs() == 24 * 30 + 4 * (24 + 30) and f.macs(5) == 5 * f.macs()
    # While the dense product is taken, what the others gave waits.
    assert f.peak(2) == 2 * (30 + 24 + 24)


schedules = st.builds(
    StepSchedule, st.sampled_from(["out", "inner", "columns"]), *(st.integers(1, 64) for _ in range(4))
)


@given(st.lists(schedules, min_size=1, max_size=4))
def test_a_schedule_is_read_back(steps):
    assert Schedule.parse(str(Schedule(tuple(steps)))) == Schedule(tuple(steps))


@pytest.mark.parametrize("text", ["", "out", "out:8:1x1", "rows:8:1x1:u1", "out:8:1x1:u1|"])
def test_a_schedule_of_another_form_is_refused(text):
    with pytest.raises(InputError, match="is no step of a schedule"):
        Schedule.parse(text)
