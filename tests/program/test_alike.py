"""Layers that repeat with other factors and addends are one operator, and compute what they did."""

from __future__ import annotations

import numpy as np
import pytest

from lrfdse.ir.products import Convolution
from tests.program.models import Graph
from tests.program.test_lower import compared


def repeated(numbers, activation):
    """Return a model of convolutions of one shape, each with numbers of its own behind an activation."""
    rng = np.random.default_rng(0)
    g = Graph()
    value = g.input("x", [1, 8, 6, 6])
    for factor, addend in numbers:
        weight = g.constant(rng.standard_normal((8, 8, 3, 3)).astype(np.float32) / 8)
        value = g.op("Conv", value, weight, g.constant(rng.standard_normal(8).astype(np.float32)), pads=[1, 1, 1, 1])
        value = activation(g, value, factor, addend)
    return g.model(value)


def scaled(g, value, factor, addend):
    return g.op("Add", g.op("Mul", g.op("Relu", value), g.number(factor)), g.number(addend))


def shrunk(g, value, factor, addend):
    return g.op("Sub", g.number(addend), g.op("Mul", g.op("HardSwish", value), g.number(factor)))


def clipped(g, value, factor, addend):
    return g.op("Clip", value, g.number(-factor), g.number(addend))


def operators(made):
    return [call.operator for call in made.calls if isinstance(call.operator, Convolution)]


@pytest.mark.parametrize("activation", [scaled, shrunk])
def test_layers_that_differ_in_factors_and_addends_are_one_operator(activation):
    found = operators(compared(repeated([(0.5, 0.25), (2.0, -1.0), (1.5, 0.75)], activation)))
    assert len(found) == 3
    assert len(set(found)) == 1
    assert found[0].epilogue.sources.count("scalar") == 2


def test_a_number_that_all_layers_have_stays():
    found = operators(compared(repeated([(0.5, 0.25), (2.0, 0.25)], scaled)))
    assert len(set(found)) == 1
    assert found[0].epilogue.sources.count("scalar") == 1
    assert 0.25 in [operand.number for each in found[0].epilogue.instructions for operand in each.operands]


@pytest.mark.parametrize(
    ("numbers", "activation"),
    [([(0.5, 0.25)], scaled), ([(0.5, 0.25)] * 2, scaled), ([(0.5, 1.0), (1.0, 2.0)], clipped)],
)
def test_layers_without_others_alike_and_limits_keep_their_numbers(numbers, activation):
    found = operators(compared(repeated(numbers, activation)))
    assert len(set(found)) == len(set(numbers))
    assert not any("scalar" in operator.epilogue.sources for operator in found)
