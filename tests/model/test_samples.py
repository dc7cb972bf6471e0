"""Where samples lie, against arrays put together by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrfdse.model.samples import Place, Rows, found_place, rolled, rolled_place, sample_axes

sizes = st.lists(st.integers(1, 4), min_size=1, max_size=4)


@given(sizes, st.data())
def test_a_value_is_put_together_again(inner, data):
    """Samples are put along an axis one by one, by concatenation."""
    axis, each, count = data.draw(st.integers(0, len(inner) - 1)), inner[0], data.draw(st.integers(1, 5))
    shape = list(inner)
    shape[axis] = each
    samples = np.random.default_rng(0).standard_normal((count, *shape))
    value, place = np.concatenate(list(samples), axis=axis), Place(axis, each)
    split = place.split(value, count)
    np.testing.assert_array_equal(split.reshape(count, -1), samples.reshape(count, -1))
    np.testing.assert_array_equal(place.joined(split), value)
    for feature in range(-len(shape), 0):
        if len(shape) + feature == axis:
            continue
        rows = Rows.of(value, place, feature, count)
        found = rows.rows(value, count)
        assert found.shape[::2] == (count, shape[feature])
        np.testing.assert_array_equal(rows.value(found), value)
        one = np.moveaxis(samples, feature, -1).reshape(count, -1, shape[feature])
        np.testing.assert_array_equal(np.sort(found, axis=1), np.sort(one, axis=1))


def test_a_place_is_found_by_one_sample_and_several():
    samples = np.random.default_rng(0).standard_normal((3, 5, 4))
    for together, alone, wanted in (
        (samples, samples[:, None], Place(0)),
        (samples.swapaxes(0, 1), samples[:, :, None], Place(1)),
        (samples.reshape(15, 4), samples, Place(0, 5)),
        (samples[0], samples[[0, 0, 0]], Place(None)),
    ):
        assert found_place(together, alone[0], alone[2], 3) == wanted
    mean = samples - samples.mean(axis=0)
    assert found_place(mean, samples[:1], samples[2:], 3) is None
    assert found_place(samples[:, :2], samples[:1], samples[2:], 3) is None
    assert found_place(np.ones(3), np.ones(()), np.ones(()), 3) is None


def test_a_place_is_found_by_samples_that_move_on():
    x = np.random.default_rng(0).standard_normal((4, 6))
    moved = rolled({"x": x, "s": np.ones(2)}, {"x": 0, "s": None})
    np.testing.assert_array_equal(moved["x"], np.roll(x, 1, axis=0))
    for made, wanted in (
        (lambda a: 2 * a, Place(0)),
        (lambda a: a.T, Place(1)),
        (lambda a: a.reshape(-1), Place(0, 6)),
    ):
        assert rolled_place(made(x), made(moved["x"]), 4) == wanted
    assert rolled_place(np.cumsum(x, axis=0), np.cumsum(moved["x"], axis=0), 4) is None


@pytest.mark.parametrize(
    ("shapes", "labels", "runs", "wanted"),
    [
        ([(None, 3)], [("n", "3")], [(1, 3)], [0]),
        ([(None, None, 3)], [("time", "batch", "3")], [(None, None, 3)], [1]),
        ([(None, 3), (2, None, 4)], [("b", "3"), ("2", "b", "4")], [(1, 3), (2, 1, 4)], [0, 1]),
        ([(None, 3), (2, None)], [("atoms", "3"), ("2", "bonds")], [(9, 3), (2, 8)], [None, None]),
        ([(None, 3), (2, None)], [("atoms", "3"), ("2", "bonds")], [(1, 3), (2, 8)], [0, None]),
        ([(None, None)], [("nodes", "nodes")], [(5, 5)], [None]),
        ([(4, 3), (4, 5)], [("4", "3"), ("4", "5")], [(4, 3), (4, 5)], [0, 0]),
        ([(4, 3), (1, 5)], [("4", "3"), ("1", "5")], [(4, 3), (1, 5)], [None, 0]),
        ([(None, 3), ()], [("?", "3"), ()], [(8, 3), ()], [0, None]),
        ([None], [()], [None], [0]),
    ],
)
def test_axes_of_samples_as_declared(shapes, labels, runs, wanted):
    assert sample_axes(shapes, labels, runs) == wanted
