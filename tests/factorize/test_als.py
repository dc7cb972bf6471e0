"""Fits to outputs against dense least squares, closed forms and the properties that the method promises."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrfdse.factorize.als import Sweep, fit_outputs
from lrfdse.factorize.chain import dense_weight
from lrfdse.factorize.fit import Fitter
from lrfdse.factorize.linalg import conjugate_gradients, shrunk, solve_semidefinite
from lrfdse.factorize.objective import OutputError
from lrfdse.factorize.thresholds import CoreBudget, Thresholds
from lrfdse.factorize.tt import tt_svd
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.factors import Moments


def moments_of(x):
    return Moments(len(x), x.mean(axis=0), x.T @ x / len(x))


def covariance(rng, size, samples):
    """Of inputs with a fast spectrum and correlations."""
    x = rng.standard_normal((samples, size)) @ (
        np.exp(-np.arange(size) / 3)[:, None] * rng.standard_normal((size, size))
    )
    return np.cov(x.T, bias=True).reshape(size, size)


def root_of(moment):
    values, vectors = np.linalg.eigh(moment)
    return vectors * np.sqrt(np.maximum(values, 0))


@st.composite
def paths(draw, max_cores=4, modes=4, ranks=6):
    d = draw(st.integers(2, max_cores))
    sizes = [draw(st.lists(st.integers(1, modes), min_size=d, max_size=d)) for _ in range(2)]
    return Factorization(
        *map(tuple, sizes), tuple(draw(st.lists(st.integers(1, ranks), min_size=d - 1, max_size=d - 1)))
    )


def core_by_lstsq(error, cores, k):
    """Best core k with the others held, from the dense design matrix column by column."""
    root, shape = root_of(error.covariance), cores[k].shape
    columns = []
    for index in np.ndindex(*shape):
        unit = np.zeros(shape)
        unit[index] = 1.0
        columns.append((dense_weight([*cores[:k], unit, *cores[k + 1 :]]) @ root).ravel())
    found = np.linalg.lstsq(np.array(columns).T, (error.weight @ root).ravel(), rcond=None)[0]
    return [*cores[:k], found.reshape(shape), *cores[k + 1 :]]


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize(
    ("m", "n", "ranks"),
    [
        ((3, 4), (2, 5), (3,)),
        ((6, 1), (2, 5), (2,)),
        ((1, 6), (5, 2), (2,)),
        ((6, 1), (1, 10), (2,)),
        ((2, 3, 2), (3, 2, 2), (2, 3)),
        ((1, 4, 1), (3, 1, 3), (2, 2)),
        ((2, 1, 3, 2), (2, 3, 1, 2), (2, 3, 2)),
    ],
)
def test_one_update_is_the_dense_least_squares_solution(m, n, ranks, direct):
    budget = CoreBudget() if direct else CoreBudget(direct_unknowns=0, steps=400, tolerance=1e-12)
    rng = np.random.default_rng(0)
    shape = Factorization(m, n, ranks)
    weight = rng.standard_normal((shape.outputs, shape.inputs))
    error = OutputError.of(weight, covariance(rng, shape.inputs, 200) + 0.1 * np.eye(shape.inputs))
    sweep = Sweep(error, list(tt_svd(weight, shape)), 0.0, Thresholds(core=budget))
    for k in range(len(m)):
        expected = error(core_by_lstsq(error, sweep.cores, k))
        before = error(sweep.cores)
        sweep.update(k)
        assert error(sweep.cores) == pytest.approx(expected, rel=1e-8)
        assert expected < before
        if k < len(m) - 1:
            held = dense_weight(sweep.cores)
            sweep.pass_right(k)
            np.testing.assert_allclose(dense_weight(sweep.cores), held, atol=1e-12)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(paths(), st.integers(0, 2**32 - 1), st.sampled_from([1, 3, 200]))
def test_sweeps_never_raise_the_error_and_never_end_above_tt_svd(path, seed, samples):
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((path.outputs, path.inputs))
    error = OutputError.of(weight, covariance(rng, path.inputs, samples))
    whole = np.vdot(error.product, weight)
    found = [error(tt_svd(weight, path))] + [error(fit_outputs(error, path, sweeps, 0.0)) for sweeps in range(4)]
    assert all(later <= earlier + 1e-10 * whole for earlier, later in itertools.pairwise(found))
    cores = fit_outputs(error, path)
    assert [core.shape for core in cores] == list(path.core_shapes)
    assert all(np.isfinite(core).all() for core in cores)


@settings(max_examples=30, deadline=None)
@given(paths(max_cores=3, modes=3), st.integers(0, 2**32 - 1))
def test_full_rank_is_exact(path, seed):
    rng = np.random.default_rng(seed)
    full = Factorization(path.out_modes, path.in_modes, (100,) * len(path.ranks))
    weight = rng.standard_normal((path.outputs, path.inputs))
    cores = fit_outputs(OutputError.of(weight, covariance(rng, path.inputs, 50)), full)
    np.testing.assert_allclose(dense_weight(cores), weight, atol=1e-10)
    assert [core.shape for core in cores] == list(full.core_shapes)


@pytest.mark.parametrize("samples", [9, 500])
@pytest.mark.parametrize(
    ("m", "n"), [((18, 1), (1, 25)), ((1, 18), (25, 1)), ((18, 1, 1), (1, 5, 5)), ((1, 3, 6), (25, 1, 1))]
)
def test_svd_paths_reach_the_closed_form(m, n, samples):
    """A path through the bond of the plain SVD whose other ranks are full is that SVD."""
    rng = np.random.default_rng(1)
    weight, cov = rng.standard_normal((18, 25)), covariance(rng, 25, samples)
    ranks = (5, 100)[: len(m) - 1]
    error = OutputError.of(weight, cov)
    reached = error(fit_outputs(error, Factorization(m, n, ranks), sweeps=200, gain=1e-12))
    s = np.linalg.svd(weight @ root_of(cov), compute_uv=False)
    assert reached == pytest.approx(float(np.sum(s[5:] ** 2)), rel=1e-6, abs=1e-9 * float(np.sum(s**2)))


def test_two_core_fit_beats_tt_svd_where_inputs_are_correlated():
    rng = np.random.default_rng(2)
    weight, x = rng.standard_normal((24, 40)), rng.standard_normal((400, 6)) @ rng.standard_normal((6, 40))
    moments = moments_of(x + 0.05 * rng.standard_normal(x.shape) + 2.0)
    path = Factorization((4, 6), (5, 8), (4,))
    aware, plain = Fitter(weight, moments).fit(path), Fitter(weight, moments, "svd").fit(path)
    assert aware.output_error < 0.6 * plain.output_error
    assert plain.weight_error <= aware.weight_error
    difference = weight - dense_weight(aware.cores)
    reference = weight @ root_of(moments.covariance)
    expected = np.linalg.norm(difference @ root_of(moments.covariance)) / np.linalg.norm(reference)
    assert aware.output_error == pytest.approx(expected, rel=1e-9)


def test_unseen_directions_stay_as_in_the_start():
    """Inputs beyond the first four never vary: what the fit would do there is free, and float32 must bear it."""
    rng = np.random.default_rng(3)
    weight = rng.standard_normal((12, 12))
    cov = np.zeros((12, 12))
    cov[:4, :4] = covariance(rng, 4, 100)
    cores = fit_outputs(OutputError.of(weight, cov), Factorization((3, 4), (3, 4), (5,)))
    assert max(np.abs(core).max() for core in cores) < 100
    single = [core.astype(np.float32).astype(np.float64) for core in cores]
    error = OutputError.of(weight, cov)
    assert error(single) <= error(cores) + 1e-6 * np.vdot(error.product, weight)


@pytest.mark.parametrize("path", [Factorization((3, 4), (2, 5), (3,)), Factorization((3, 2, 2), (1, 5, 2), (2, 2))])
def test_degenerate_data_and_weights(path):
    rng = np.random.default_rng(4)
    weight = rng.standard_normal((12, 10))
    one_sample = Fitter(weight, moments_of(rng.standard_normal((1, 10)))).fit(path)
    assert one_sample.output_error == pytest.approx(0.0, abs=1e-6)
    x = rng.standard_normal((50, 10))
    x[:, 3:7] = 2.0
    constant = Fitter(weight, moments_of(x)).fit(path)
    assert constant.output_error <= Fitter(weight, moments_of(x), "svd").fit(path).output_error + 1e-12
    approximated = x @ dense_weight(constant.cores).T + constant.bias_shift
    y = x @ weight.T
    measured = np.linalg.norm(y - approximated) / np.linalg.norm(y - y.mean(axis=0))
    assert measured == pytest.approx(constant.output_error, rel=1e-6)
    zero = Fitter(np.zeros((12, 10)), moments_of(x)).fit(path)
    assert zero.output_error == 0.0 and not dense_weight(zero.cores).any()


def test_padding_fits_the_layer_within():
    rng = np.random.default_rng(5)
    weight, x = rng.standard_normal((11, 13)), rng.standard_normal((300, 13)) * np.linspace(0.1, 2, 13)
    path = Factorization((3, 4), (2, 7), (3,))
    aware, plain = Fitter(weight, moments_of(x)).fit(path), Fitter(weight, moments_of(x), "svd").fit(path)
    assert aware.output_error < plain.output_error
    approximated = np.pad(x, [(0, 0), (0, 1)]) @ dense_weight(aware.cores).T
    y = x @ weight.T
    measured = np.linalg.norm(y - approximated[:, :11] - aware.bias_shift) / np.linalg.norm(y - y.mean(axis=0))
    assert measured == pytest.approx(aware.output_error, rel=1e-9)


def test_a_spent_budget_ends_the_fit_after_a_whole_sweep():
    rng = np.random.default_rng(6)
    weight = rng.standard_normal((16, 16))
    error = OutputError.of(weight, covariance(rng, 16, 100))
    path = Factorization((4, 4), (4, 4), (6,))
    start, one, full = (error(fit_outputs(error, path, sweeps)) for sweeps in (0, 1, 12))
    assert error(fit_outputs(error, path, budget=0.0)) == pytest.approx(one)
    assert full < one < start


@pytest.mark.parametrize("rank", [3, 8])
def test_semidefinite_systems(rank):
    rng = np.random.default_rng(7)
    factor, rows = rng.standard_normal((8, rank)), rng.standard_normal((2, 8))
    matrix = factor @ factor.T
    np.testing.assert_allclose(solve_semidefinite(matrix, rows), rows @ np.linalg.pinv(matrix), rtol=1e-6, atol=1e-9)
    rows = rows @ matrix
    x, product = conjugate_gradients(lambda v: v @ matrix, rows, 200, 1e-12)
    np.testing.assert_allclose(product, rows, atol=1e-8)
    np.testing.assert_allclose(x @ matrix, rows, atol=1e-8)
    assert not solve_semidefinite(np.zeros((8, 8)), rows).any()


@pytest.mark.slow
def test_shrinkage_brings_few_samples_nearer_to_the_truth_and_leaves_many_alone():
    rng = np.random.default_rng(8)
    scales = np.exp(-np.arange(40) / 10)
    truth = np.diag(scales**2)
    for samples in (10, 40, 100_000):
        x = rng.standard_normal((samples, 40)) * scales
        seen = np.cov(x.T, bias=True)
        nearer = shrunk(seen, samples)
        assert np.trace(nearer) == pytest.approx(np.trace(seen))
        np.testing.assert_allclose(
            np.linalg.eigh(nearer)[1].T @ seen @ np.linalg.eigh(nearer)[1] * (1 - np.eye(40)), 0, atol=1e-9
        )
        if samples < 1000:
            assert np.linalg.norm(nearer - truth) < np.linalg.norm(seen - truth)
            assert np.linalg.eigvalsh(nearer)[0] > 0
        else:
            np.testing.assert_allclose(nearer, seen, atol=1e-3)
    np.testing.assert_allclose(shrunk(3 * np.eye(5), 10), 3 * np.eye(5))
    assert not shrunk(np.zeros((5, 5)), 1).any()


@pytest.mark.parametrize("samples", [20, 40])
def test_a_fit_on_few_samples_serves_inputs_it_has_not_seen(samples):
    rng = np.random.default_rng(9)
    mix = rng.standard_normal((60, 60)) * np.arange(1, 61)[:, None] ** -0.8
    weight, x = rng.standard_normal((30, 60)), rng.standard_normal((samples, 60)) @ mix
    path = Factorization((5, 6), (6, 10), (12,))
    unseen = OutputError.of(weight, mix.T @ mix)
    careful = unseen(Fitter(weight, moments_of(x)).fit(path).cores)
    greedy = unseen(fit_outputs(OutputError.of(weight, np.cov(x.T, bias=True)), path))
    assert careful < 0.8 * greedy
    assert careful < 0.5 * unseen(tt_svd(weight, path))
