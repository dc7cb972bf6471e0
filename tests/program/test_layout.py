"""Views of flat arrays, held against NumPy's strides."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lrfdse.program.layout import Part, View, compact, dense, order_of, together


def elements(view: View, flat: np.ndarray) -> np.ndarray:
    """Read a view from its definition, place by place."""
    out = np.zeros(view.shape, flat.dtype)
    for index in np.ndindex(*view.shape):
        place = view.offset
        for axis, at in zip(view.axes, index, strict=True):
            for part in reversed(axis):
                place += at % part.size * part.stride
                at //= part.size
        out[index] = flat[place]
    return out


@st.composite
def moved(draw):
    """A view with the array that it should show, made by the same moves."""
    shape = draw(st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=4))
    order = draw(st.permutations(range(len(shape))))
    view = dense(shape, order)
    flat = np.arange(math.prod(shape))
    array = flat.reshape([shape[axis] for axis in order]).transpose(np.argsort(order))
    for move in draw(st.lists(st.sampled_from(["transpose", "slice", "reshape", "expand", "flip"]), max_size=4)):
        if move == "transpose":
            turn = draw(st.permutations(range(array.ndim)))
            view, array = view.transpose(turn), array.transpose(turn)
        elif move == "reshape":
            parts = draw(st.permutations(_split(array.size, draw(st.integers(1, 3)))))
            new = view.reshape(parts)
            if new is not None:
                view, array = new, array.reshape(parts)
        elif move == "expand":
            wide = [2, *(3 if size == 1 else size for size in array.shape)]
            if math.prod(wide) < 3000:
                view, array = view.expand(wide), np.broadcast_to(array, wide)
        else:
            axis = draw(st.integers(0, array.ndim - 1))
            size = array.shape[axis]
            start, step = (
                (size - 1, -1) if move == "flip" else (draw(st.integers(0, size - 1)), draw(st.integers(1, 2)))
            )
            count = len(range(size)[start::step])
            new = view.slice(axis, start, step, count)
            if new is not None:
                view = new
                array = array[tuple(slice(None) if a != axis else slice(start, None, step) for a in range(array.ndim))]
    return view, flat, array


def _split(size, count):
    shape = []
    for _ in range(count):
        factor = next((f for f in (6, 4, 3, 2) if size % f == 0), 1)
        shape.append(factor)
        size //= factor
    return [*shape, size]


@given(moved())
def test_a_view_shows_what_numpy_shows(case):
    view, flat, array = case
    assert view.shape == array.shape and view.size == array.size
    np.testing.assert_array_equal(elements(view, flat), array)


@given(moved())
def test_parts_are_never_of_size_one_and_never_continue_each_other(case):
    for axis in case[0].axes:
        assert all(part.size > 1 for part in axis)
        if all(part.stride for part in axis):
            assert all(a.stride != b.stride * b.size for a, b in pairwise(axis))


@given(moved())
def test_a_compact_view_is_dense_and_in_the_same_order(case):
    view = case[0]
    close = compact(view)
    assert close.is_dense and close.shape == view.shape
    if view.is_dense:
        assert close == view


@given(moved(), st.data())
def test_loops_over_two_views_copy_one_into_the_other(case, data):
    view, flat, array = case
    order = data.draw(st.permutations(range(len(view.shape))))
    target = dense(view.shape, order)
    steps = together(view, target)
    assume(steps is not None)
    assert [abs(s.other) for s in steps] == sorted((abs(s.other) for s in steps), reverse=True)
    copied = np.full(view.size, -1)
    for index in np.ndindex(*(step.size for step in steps)):
        source = view.offset + sum(at * step.one for at, step in zip(index, steps, strict=True))
        copied[sum(at * step.other for at, step in zip(index, steps, strict=True))] = flat[source]
    np.testing.assert_array_equal(elements(target, copied), array)


def test_flattening_an_image_with_channels_innermost_moves_nothing():
    image = dense((1, 3, 4, 5), (0, 2, 3, 1))
    flat = image.reshape((1, 60))
    assert flat.axes[1] == (Part(3, 1), Part(20, 3)) and flat.is_dense
    assert flat.reshape((1, 3, 4, 5)) == image


def test_a_reshape_that_takes_a_new_order_has_no_view():
    turned = dense((4, 6)).transpose((1, 0))
    assert turned.reshape((24,)).axes[0] == (Part(6, 1), Part(4, 6))
    assert turned.reshape((4, 6)) is None


def test_shapes_that_do_not_broadcast_are_refused():
    with pytest.raises(ValueError, match="broadcast"):
        dense((2, 3)).expand((2, 4))


def test_the_order_of_axes():
    assert order_of(dense((1, 3, 4, 5), (0, 2, 3, 1))) == (0, 2, 3, 1)
    assert order_of(dense((2, 1, 5), (2, 0, 1))) == (1, 2, 0)
