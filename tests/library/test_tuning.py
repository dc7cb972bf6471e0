"""Schedules chosen by the meter."""

from __future__ import annotations

import pytest

from lrfdse.ir.factorization import Step
from lrfdse.ir.operators import Softmax
from lrfdse.ir.products import Convolution, FullyConnected
from lrfdse.ir.window import Window
from lrfdse.kernels.operators.build import schedules_of
from lrfdse.library.tuning import tuned
from lrfdse.meters.whole import open_whole_meter
from lrfdse.targets.catalog import load_target

pytestmark = pytest.mark.slow

LAYER = FullyConnected(Step(batch=4, out=24, inner=40, columns=1))
IMAGES = Convolution(Window(1, (9, 9), (3, 3), pads=(1, 1, 1, 1)), 8, 16)


class Spy:
    """A meter that notes what it measures."""

    def __init__(self, target):
        self.meter = open_whole_meter("model", target)
        self.name, self.kind, self.measured = "model", "modelled", []

    def measure(self, whole):
        found = self.meter.measure(whole)
        self.measured.append([part.warm.us for part in found.parts[1:]])
        return found


@pytest.mark.parametrize(("batch_bytes", "programs"), [(1 << 20, 1), (1, 2)])
def test_the_fastest_candidate_of_each_operator_is_chosen(batch_bytes, programs):
    target = load_target("riscv64")
    spy, events = Spy(target), []
    operators = [LAYER, Softmax(3, 8), IMAGES, LAYER]
    chosen = tuned(operators, target, spy, events.append, batch_bytes)
    assert len(spy.measured) == programs
    times = [us for each in spy.measured for us in each]
    candidates = [(operator, schedule) for operator in (LAYER, IMAGES) for schedule in schedules_of(operator, target)]
    assert len(times) == len(candidates) > 4
    assert set(chosen) == {LAYER, IMAGES}
    for operator, schedule in chosen.items():
        taken = dict(pair for pair in zip(candidates, times, strict=True) if pair[0][0] == operator)
        assert taken[operator, schedule] == min(taken.values())


def test_operators_without_a_choice_are_left_alone():
    target = load_target("riscv64")
    assert tuned([Softmax(3, 8)], target, Spy(target), lambda event: None) == {}


def test_rows_that_would_share_a_cache_set_cost_no_more_than_others():
    """Rows of 4096 bytes, side by side in a first level of few ways, beside rows that are 64 bytes shorter."""
    target = load_target("riscv64")
    layers = [FullyConnected(Step(batch=128, out=256, inner=inner, columns=1)) for inner in (1008, 1024)]
    spy = Spy(target)
    tuned(layers, target, spy, lambda event: None)
    (times,) = spy.measured
    first = len(schedules_of(layers[0], target))
    plain, crowded = (us / layer.macs for us, layer in zip((times[0], times[first]), layers, strict=True))
    assert crowded < 1.1 * plain
