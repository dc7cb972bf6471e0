"""Factorizations against NumPy in float64, the theory's bounds, and properties over random shapes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrfdse.factorize import linalg
from lrfdse.factorize.chain import dense_weight
from lrfdse.factorize.difference import squared_difference
from lrfdse.factorize.fit import Fitter
from lrfdse.factorize.problem import Problem
from lrfdse.factorize.thresholds import Thresholds
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.factors import Moments


def bond_tails(weight, factorization):
    """Squared singular values beyond each bond's rank, by NumPy's SVD of each unfolding."""
    m, n = factorization.out_modes, factorization.in_modes
    tails = []
    for k in range(1, len(m)):
        a, b = int(np.prod(m[:k])), int(np.prod(n[:k]))
        unfolding = weight.reshape(a, len(weight) // a, b, -1).transpose(0, 2, 1, 3).reshape(a * b, -1)
        s = np.linalg.svd(unfolding, compute_uv=False)
        tails.append(float(np.sum(s[factorization.ranks[k - 1] :] ** 2)))
    return tails


def moments_of(x):
    return Moments(len(x), x.mean(axis=0), x.T @ x / len(x))


@st.composite
def factorizations(draw, max_cores=4):
    d = draw(st.integers(2, max_cores))
    modes = [draw(st.lists(st.integers(1, 4), min_size=d, max_size=d)) for _ in range(2)]
    ranks = draw(st.lists(st.integers(1, 6), min_size=d - 1, max_size=d - 1))
    return Factorization(tuple(modes[0]), tuple(modes[1]), tuple(ranks), draw(st.sampled_from(["rl", "lr"])))


@settings(max_examples=80, deadline=None)
@given(factorizations(), st.integers(0, 2**32 - 1))
def test_tt_svd_error_lies_between_the_largest_tail_and_the_sum(factorization, seed):
    weight = np.random.default_rng(seed).standard_normal((factorization.outputs, factorization.inputs))
    factors = Fitter(weight).fit(factorization)
    assert [core.shape for core in factors.cores] == list(factorization.core_shapes)
    tails = bond_tails(weight, factorization)
    squared = np.sum((weight - dense_weight(factors.cores)) ** 2)
    assert max(tails) - 1e-9 <= squared <= sum(tails) + 1e-9
    assert factors.weight_error == pytest.approx(np.sqrt(squared) / np.linalg.norm(weight), abs=1e-9)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(factorizations(), st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_steps_compute_the_dense_product(kit, factorization, seed, rows):
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((factorization.outputs, factorization.inputs))
    factors = Fitter(weight).fit(factorization)
    x = rng.standard_normal((rows, factorization.inputs))
    np.testing.assert_allclose(
        kit.by_steps(factors.factorization, factors.cores, x), x @ dense_weight(factors.cores).T, atol=1e-9
    )
    assert sum(step.macs for step in factorization.steps(rows)) == factorization.macs(rows)
    assert sum(core.size for core in factors.cores) == factorization.params


@pytest.mark.parametrize("text", ["tt:m=4x3,n=2x5,r=8", "tt:m=2x2x3,n=5x1x2,r=10x6", "svd:r=10"])
def test_full_rank_is_exact(text):
    weight = np.random.default_rng(1).standard_normal((12, 10))
    factors = Fitter(weight).fit(Factorization.parse(text, 12, 10))
    np.testing.assert_allclose(dense_weight(factors.cores), weight, atol=1e-12)


def test_error_falls_with_rank():
    weight = np.random.default_rng(2).standard_normal((24, 30))
    fitter = Fitter(weight)
    errors = [fitter.fit(Factorization((4, 6), (5, 6), (r,))).weight_error for r in range(1, 21)]
    assert all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(errors))


def test_plain_svd_is_the_best_of_its_rank():
    weight = np.random.default_rng(3).standard_normal((20, 33))
    factors = Fitter(weight).fit(Factorization.svd(20, 33, 7))
    s = np.linalg.svd(weight, compute_uv=False)
    assert factors.weight_error == pytest.approx(np.sqrt(np.sum(s[7:] ** 2) / np.sum(s**2)))


@pytest.mark.parametrize("samples", [12, 400])
def test_whitened_svd_reaches_the_theoretical_output_error(samples):
    """Few samples make the covariance singular: the closed form must hold there too."""
    rng = np.random.default_rng(4)
    weight = rng.standard_normal((18, 25))
    x = rng.standard_normal((samples, 25)) @ np.diag(np.exp(-np.arange(25) / 4)) + rng.standard_normal(25)
    factors = Fitter(weight, moments_of(x)).fit(Factorization.svd(18, 25, 5))
    y = (x - x.mean(axis=0)) @ weight.T
    s = np.linalg.svd(y, compute_uv=False)
    assert factors.output_error == pytest.approx(np.sqrt(np.sum(s[5:] ** 2) / np.sum(s**2)), rel=1e-6)
    approximated = x @ dense_weight(factors.cores).T + factors.bias_shift
    measured = np.linalg.norm(x @ weight.T - approximated) / np.linalg.norm(y)
    assert measured == pytest.approx(factors.output_error, rel=1e-6)


def test_output_error_of_a_tensor_train_is_what_the_data_give():
    rng = np.random.default_rng(5)
    weight, x = rng.standard_normal((12, 20)), rng.standard_normal((200, 20)) + 3.0
    factors = Fitter(weight, moments_of(x)).fit(Factorization((3, 4), (4, 5), (4,)))
    reference = x @ weight.T
    approximated = x @ dense_weight(factors.cores).T + factors.bias_shift
    centred = reference - reference.mean(axis=0)
    expected = np.linalg.norm(reference - approximated) / np.linalg.norm(centred)
    assert factors.output_error == pytest.approx(expected, rel=1e-9)


def test_whitened_svd_is_no_worse_than_plain_svd_on_outputs_and_no_better_on_weights():
    rng = np.random.default_rng(6)
    weight, x = rng.standard_normal((30, 40)), rng.standard_normal((500, 40)) * np.linspace(0.01, 3, 40)
    aware, plain = Fitter(weight, moments_of(x)), Fitter(weight, moments_of(x), "svd")
    for rank in (1, 4, 12):
        f = Factorization.svd(30, 40, rank)
        assert aware.fit(f).output_error <= plain.fit(f).output_error + 1e-12
        assert plain.fit(f).weight_error <= aware.fit(f).weight_error + 1e-12


def test_both_ways_to_write_an_svd_give_the_same_matrix():
    rng = np.random.default_rng(7)
    weight, x = rng.standard_normal((9, 14)), rng.standard_normal((100, 14))
    fitter = Fitter(weight, moments_of(x))
    first = fitter.fit(Factorization.svd(9, 14, 3))
    second = fitter.fit(Factorization((1, 9), (14, 1), (3,), "lr"))
    np.testing.assert_allclose(dense_weight(first.cores), dense_weight(second.cores), atol=1e-12)


def test_padded_factorization_approximates_the_unpadded_weight():
    weight = np.random.default_rng(8).standard_normal((11, 13))
    factors = Fitter(weight).fit(Factorization((3, 4), (2, 7), (6,)))
    np.testing.assert_allclose(dense_weight(factors.cores)[:11, :13], weight, atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1)])
def test_degenerate_layers(shape):
    weight = np.random.default_rng(9).standard_normal(shape)
    factors = Fitter(weight).fit(Factorization.svd(*shape, 1))
    np.testing.assert_allclose(dense_weight(factors.cores), weight, atol=1e-12)


def test_a_zero_weight_has_no_error():
    factors = Fitter(np.zeros((6, 8))).fit(Factorization.svd(6, 8, 2))
    assert factors.weight_error == 0.0


def test_constant_inputs_are_absorbed_by_the_bias():
    rng = np.random.default_rng(10)
    weight, x = rng.standard_normal((6, 8)), np.tile(rng.standard_normal(8), (50, 1))
    factors = Fitter(weight, moments_of(x)).fit(Factorization.svd(6, 8, 1))
    np.testing.assert_allclose(x @ dense_weight(factors.cores).T + factors.bias_shift, x @ weight.T, atol=1e-9)


def test_randomized_leading_svd_agrees_with_the_full_one():
    rng = np.random.default_rng(11)
    matrix = rng.standard_normal((120, 40)) @ np.diag(0.8 ** np.arange(40)) @ rng.standard_normal((40, 90))
    exact = linalg.leading_svd(matrix, 8)[1]
    u, s, vt = linalg.leading_svd(matrix, 8, Thresholds(direct_side=16))
    np.testing.assert_allclose(s, exact, rtol=1e-6)
    assert np.linalg.norm(matrix - u * s @ vt) <= np.linalg.norm(matrix - matrix @ vt.T @ vt) + 1e-9


def _trains(outputs, inputs):
    return [
        Factorization.svd(outputs, inputs, 5),
        Factorization((4, outputs // 4), (inputs // 6, 6), (7,)),
        Factorization((1, 4, outputs // 4), (6, 1, inputs // 6), (3, 9), "lr"),
        Factorization((outputs, 1), (3, inputs // 3), (3,)),
    ]


def test_large_weights_are_fitted_in_single_precision_as_well_as_small_ones():
    weight = _decaying(48, 60)
    exact = [Fitter(weight).fit(shape) for shape in _trains(48, 60)]
    for side in (1536, 8):
        fitter = Fitter(weight.astype(np.float32), thresholds=Thresholds(large=64, gram_side=side))
        assert fitter.weight.dtype == np.float32
        for shape, best in zip(_trains(48, 60), exact, strict=True):
            found = fitter.fit(shape)
            error = np.linalg.norm(weight - dense_weight(found.cores)) / np.linalg.norm(weight)
            assert found.weight_error == pytest.approx(error, rel=1e-3)
            assert error <= 1.02 * best.weight_error + 1e-6
            assert all(core.dtype == np.float64 for core in found.cores)


def _decaying(rows, columns):
    rng = np.random.default_rng(11)
    left = rng.standard_normal((rows, rows)) * np.arange(1, rows + 1) ** -1.0
    return left @ rng.standard_normal((rows, columns))


@pytest.mark.parametrize("shape", [(48, 60), (47, 58), (33, 55)])
def test_difference_is_that_of_the_dense_matrix(shape):
    rng = np.random.default_rng(12)
    weight = rng.standard_normal(shape)
    for train in _trains(48, 60):
        cores = [rng.standard_normal(size) for size in train.core_shapes]
        expected = float(np.sum((weight - dense_weight(cores)[: shape[0], : shape[1]]) ** 2))
        assert squared_difference(weight, cores, Thresholds(chunk=50)) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("weighted", [False, True])
def test_few_samples_stand_for_their_covariance(weighted):
    rng = np.random.default_rng(13)
    weight, x = rng.standard_normal((12, 40)), rng.standard_normal((8, 40)) + 1
    moments = Moments(len(x), x.mean(axis=0), x.T @ x / len(x))
    weighting = np.diag(rng.uniform(0.5, 2.0, 12)) if weighted else None
    shape, difference = Factorization((3, 4), (8, 5), (4,)), rng.standard_normal((12, 40))
    usual = Problem(weight, moments, weighting)
    assert usual.error(shape).root is None
    fitted = Fitter(weight, moments, weighting=weighting).fit(shape)
    few = Problem(weight, moments, weighting, thresholds=Thresholds(costly=1))
    assert few.error(shape).root.shape == (40, 7)
    for size in ((12, 40), (14, 42)):
        one, other = few.error(shape).padded(*size), usual.error(shape).padded(*size)
        padded = np.pad(difference, [(0, size[0] - 12), (0, size[1] - 40)])
        np.testing.assert_allclose(one.product, other.product, atol=1e-9)
        np.testing.assert_allclose(one.weighed(padded), other.weighed(padded), atol=1e-9)
        assert one.of_difference(padded) == pytest.approx(other.of_difference(padded), rel=1e-9)
    again = Fitter(weight, moments, weighting=weighting, thresholds=Thresholds(costly=1)).fit(shape)
    assert again.output_error == pytest.approx(fitted.output_error, rel=0.1)


def test_layers_beyond_reach_of_sweeps_get_the_better_closed_form():
    rng = np.random.default_rng(14)
    weight, x = rng.standard_normal((12, 40)), rng.standard_normal((90, 40)) * np.linspace(0.1, 3, 40)
    moments = Moments(len(x), x.mean(axis=0), x.T @ x / len(x))
    shape = Factorization((3, 4), (8, 5), (4,))
    found = Fitter(weight, moments, thresholds=Thresholds(swept=100)).fit(shape)
    others = [Fitter(weight, moments, method).fit(shape).output_error for method in ("svd", "svd-whitened")]
    assert found.output_error <= min(others) * 1.05
