"""Fourier transforms as products; which of them are refused."""

from __future__ import annotations

import numpy as np
import pytest

from lrfdse.errors import InputError
from lrfdse.program.lower import program
from tests.program.models import Graph
from tests.program.test_lower import compared, kinds


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(
    ("parts", "how"), [(1, {}), (2, {}), (1, {"inverse": 1}), (2, {"inverse": 1}), (1, {"onesided": 1})]
)
def test_transforms_of_an_axis(axis, parts, how):
    g = Graph()
    x = g.op("Transpose", g.op("Relu", g.input("x", [6, 7, 5, parts])), perm=[2, 0, 1, 3])
    made = compared(g.model(g.op("DFT", x, axis=axis, **how)))
    assert kinds(made)["FullyConnected"] == 1 and "Foreign" not in kinds(made)


@pytest.mark.parametrize("length", [4, 7, 12])
def test_transforms_of_another_length_cut_or_fill_up_with_zeros(length):
    g = Graph()
    x = g.input("x", [2, 7, 1])
    compared(g.model(g.op("DFT", x, g.constant(np.array(length, np.int64)), axis=1, onesided=1)))


@pytest.mark.parametrize(("step", "length"), [(4, 16), (16, 16), (10, 9)])
@pytest.mark.parametrize("windowed", [False, True])
@pytest.mark.parametrize("how", [{}, {"onesided": 0}])
def test_transforms_of_frames(step, length, windowed, how):
    g = Graph()
    numbers = [g.constant(np.array(number, np.int64)) for number in (step, length)]
    window = g.constant(np.hanning(length).astype(np.float32)) if windowed else ""
    made = compared(g.model(g.op("STFT", g.input("x", [2, 100, 1]), numbers[0], window, numbers[1], **how)))
    assert kinds(made)["FullyConnected"] == 1 and "Foreign" not in kinds(made)


def test_what_is_computed_or_takes_a_matrix_beyond_measure_is_refused():
    g = Graph()
    size = g.constant(np.array(16, np.int64))
    made = g.op("STFT", g.input("x", [1, 100, 1]), size, g.input("w", [16]), size)
    with pytest.raises(InputError, match=r"STFT \(in this form: 'STFT_0'\)$"):
        program(g.model(made))
    g = Graph()
    long = g.op("DFT", g.input("x", [1, 2**14, 1]), axis=1)
    with pytest.raises(InputError, match=r"DFT \(in this form: 'DFT_0'\)$"):
        program(g.model(long))
