"""Cores as float16: what stays of them, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrfdse.errors import PlanError
from lrfdse.factorize.chain import dense_weight
from lrfdse.ir.halves import halved


def chain(seed: int, sizes: tuple[float, float, float]) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = ((1, 3, 4, 5), (5, 2, 3, 4), (4, 4, 2, 1))
    return [size * rng.standard_normal(shape) for size, shape in zip(sizes, shapes, strict=True)]


@given(st.integers(0, 2**32 - 1), st.floats(-30, 30), st.floats(-30, 30))
def test_sizes_of_cores_do_not_matter_where_that_of_the_product_is_usual(seed, first, second) -> None:
    cores = chain(seed, (2.0**first, 2.0**second, 2.0 ** (-first - second)))
    found = halved(cores)
    for core in found:
        np.testing.assert_array_equal(core.astype(np.float16).astype(np.float64), core)
    # Each element is off by 2^-11 of itself at most, and sums of three products of positive terms by thrice as much.
    wanted = dense_weight([np.abs(core) for core in cores])
    error = np.abs(dense_weight(found) - dense_weight(cores))
    assert (error <= 3.01 * 2.0**-11 * wanted + 2.0**-20).all()


def test_cores_of_usual_size_are_rounded_to_the_nearest() -> None:
    core = np.random.default_rng(0).standard_normal((1, 30, 40, 1))
    (found,) = halved([core])
    np.testing.assert_array_equal(found, core.astype(np.float16).astype(np.float64))


def test_zeros_stay_zeros() -> None:
    cores = chain(0, (1.0, 0.0, 1.0))
    assert not dense_weight(halved(cores)).any()


def test_what_is_beyond_the_range_is_refused_with_its_size() -> None:
    with pytest.raises(PlanError, match=r"weights of up to 7e\+04 are beyond float16, whose largest number is 65504"):
        halved([np.full((1, 2, 2, 1), 7e4)])
    # Two cores share it.
    assert np.isfinite(dense_weight(halved([np.full((1, 2, 2, 1), 7e4), np.ones((1, 1, 1, 1))]))).all()
