"""What every fitting method must do.

A plug-in's author writes::

    class TestMine(MethodContract):
        @pytest.fixture
        def name(self):
            return "mine"
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from lrfdse.factorize.chain import dense_weight
from lrfdse.factorize.fit import Fitter
from lrfdse.factorize.methods import METHODS
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.factors import Moments

if TYPE_CHECKING:
    from lrfdse.ir.factorization import Array

PATHS = (
    Factorization((7, 1), (1, 13), (3,)),
    Factorization((1, 7), (13, 1), (3,), "lr"),
    Factorization((7, 1), (1, 13), (20,)),
    Factorization((1, 7), (1, 13), (3,)),
    Factorization((3, 4), (2, 7), (4,)),
    Factorization((3, 4), (2, 7), (50,)),
    Factorization((1, 3, 3), (2, 7, 1), (4, 5), "lr"),
)
"""Factorizations of a layer of 7 outputs and 13 inputs: SVDs, trains, unit modes, padding, ranks beyond the full."""

FULL = Factorization((7, 1), (1, 13), (7,)), Factorization((3, 4), (2, 7), (50,))
"""Two of full rank, which can hold any weight of the layer."""

every_path = pytest.mark.parametrize("path", PATHS, ids=str)


class MethodContract:
    """Tests of one fitting method; a subclass gives the fixture `name`."""

    @pytest.fixture
    def name(self) -> str:
        """Return the name under which the method is registered."""
        raise NotImplementedError("give the fixture `name`")

    @pytest.fixture
    def weight(self) -> Array:
        """Return a layer's weight, shape (7, 13)."""
        return np.random.default_rng(0).standard_normal((7, 13))

    @pytest.fixture
    def moments(self) -> Moments:
        """Return the moments of what the layer reads: 200 rows of unequal, correlated inputs with a mean."""
        rng = np.random.default_rng(1)
        mix = rng.standard_normal((13, 13)) * np.exp(-np.arange(13) / 4)[:, None]
        rows = rng.standard_normal((200, 13)) @ mix + 1.5
        return Moments(len(rows), rows.mean(axis=0), rows.T @ rows / len(rows))

    def test_it_says_where_it_comes_from(self, name: str) -> None:
        """The source names a paper or a derivation, and whether data are looked at is known."""
        method = METHODS.get(name)
        assert len(method.source) > 10, "source must name a paper and an equation, or where it is derived"
        assert type(method.needs_moments) is bool

    @every_path
    def test_cores_have_the_shapes_of_the_factorization(
        self, name: str, weight: Array, moments: Moments, path: Factorization
    ) -> None:
        """Cores are finite, float64 and of the shapes asked for, and the errors lie where errors can."""
        factors = Fitter(weight, moments, name).fit(path)
        assert [core.shape for core in factors.cores] == list(path.core_shapes)
        assert all(core.dtype == np.float64 and np.isfinite(core).all() for core in factors.cores)
        assert factors.output_error is not None
        assert 0 <= factors.output_error <= 1 + 1e-9, "keeping nothing would be better"

    @pytest.mark.parametrize("path", FULL, ids=str)
    def test_full_rank_gives_the_weight_itself(
        self, name: str, weight: Array, moments: Moments, path: Factorization
    ) -> None:
        """Where the factorization can hold the weight, it does."""
        factors = Fitter(weight, moments, name).fit(path)
        np.testing.assert_allclose(dense_weight(factors.cores)[:7, :13], weight, atol=1e-8)

    @every_path
    def test_equal_problems_have_equal_fits(
        self, name: str, weight: Array, moments: Moments, path: Factorization
    ) -> None:
        """A fit depends on its arguments alone, and leaves them as they were."""
        before = weight.copy(), moments.second.copy()
        first, second = (Fitter(weight, moments, name).fit(path) for _ in range(2))
        for one, other in zip(first.cores, second.cores, strict=True):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(weight, before[0])
        np.testing.assert_array_equal(moments.second, before[1])

    @every_path
    def test_a_weight_of_zeros_stays_zero(self, name: str, moments: Moments, path: Factorization) -> None:
        """Nothing is made of nothing."""
        factors = Fitter(np.zeros((7, 13)), moments, name).fit(path)
        assert not dense_weight(factors.cores).any()

    @every_path
    def test_inputs_that_never_vary_do_no_harm(
        self, name: str, weight: Array, moments: Moments, path: Factorization
    ) -> None:
        """Inputs that are always zero, and data that are all zeros, give finite cores."""
        silent = moments.second.copy()
        silent[:4], silent[:, :4] = 0.0, 0.0
        mean = np.where(np.arange(13) < 4, 0.0, moments.mean)
        for seen in (Moments(200, mean, silent), Moments(200, np.zeros(13), np.zeros((13, 13)))):
            factors = Fitter(weight, seen, name).fit(path)
            assert all(np.isfinite(core).all() for core in factors.cores)

    @every_path
    def test_without_data_there_is_a_fit(self, name: str, weight: Array, path: Factorization) -> None:
        """Without calibration data the weight alone is fitted."""
        factors = Fitter(weight, None, name).fit(path)
        assert factors.output_error is None
        assert 0 <= factors.weight_error <= 1 + 1e-9
