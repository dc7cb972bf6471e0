"""The contract of every fitting method, over random paths, data and sizes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrfdse.errors import InputError
from lrfdse.factorize.chain import dense_weight
from lrfdse.factorize.fit import Fitter
from lrfdse.factorize.methods import METHODS
from lrfdse.ir.factorization import Factorization

NAMES = sorted(METHODS.names())


@st.composite
def layers(draw):
    """A layer's sizes and a path for it: unit modes, ranks above the bonds, primes, padding, both directions."""
    d = draw(st.integers(2, 4))
    sizes = st.sampled_from([1, 1, 2, 3, 4, 5])
    m, n = (tuple(draw(sizes) for _ in range(d)) for _ in range(2))
    ranks = tuple(draw(st.integers(1, 7)) for _ in range(d - 1))
    path = Factorization(m, n, ranks, draw(st.sampled_from(["rl", "lr"])))
    outputs = draw(st.integers(max(1, path.outputs - 2), path.outputs))
    inputs = draw(st.integers(max(1, path.inputs - 2), path.inputs))
    return outputs, inputs, path


def data(seed, outputs, inputs, samples):
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((inputs, inputs)) * np.exp(-np.arange(inputs) / 4)[:, None]
    return rng.standard_normal((outputs, inputs)), rng.standard_normal((samples, inputs)) @ mix + 1.5


def true_errors(kit, weight, x, y, factors):
    """Relative weight and output errors from the rows themselves."""
    outputs, inputs = weight.shape
    padded = np.pad(x, [(0, 0), (0, factors.factorization.inputs - inputs)])
    found = kit.by_steps(factors.factorization, factors.cores, padded)[:, :outputs] + factors.bias_shift
    dense = dense_weight(factors.cores)[:outputs, :inputs]
    return np.linalg.norm(weight - dense) / np.linalg.norm(weight), np.linalg.norm(y - found) / np.linalg.norm(
        y - y.mean(axis=0)
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40, deadline=None)
@given(layers(), st.integers(0, 2**32 - 1), st.sampled_from([3, 40]), st.booleans(), st.booleans())
def test_reported_errors_are_true(kit, moments_of, name, layer, seed, samples, cumulative, weighted):
    outputs, inputs, path = layer
    weight, x = data(seed, outputs, inputs, samples)
    rng = np.random.default_rng(seed)
    fed = np.tanh(x + 0.3 * rng.standard_normal(x.shape)) if cumulative else x
    y = x @ weight.T
    factor = rng.standard_normal((outputs, 2))
    weighting = factor @ factor.T if weighted else None
    moments = moments_of(fed, y if cumulative else None)
    factors = Fitter(weight, moments, name, weighting).fit(path)
    assert [core.shape for core in factors.cores] == list(path.core_shapes)
    assert all(core.dtype == np.float64 and np.isfinite(core).all() for core in factors.cores)
    weight_error, output_error = true_errors(kit, weight, fed, y, factors)
    assert factors.weight_error == pytest.approx(weight_error, abs=1e-7)
    # Errors come from second moments, whose rounding is squared away.
    assert factors.output_error == pytest.approx(output_error, rel=1e-6, abs=1e-5)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(layers(), st.integers(0, 2**32 - 1), st.booleans())
def test_never_above_tt_svd_on_outputs(moments_of, layer, seed, weighted):
    """Many samples, so that the shrinkage, which is part of the objective of trains, is next to nothing."""
    outputs, inputs, path = layer
    weight, x = data(seed, outputs, inputs, 20_000)
    weighting = np.diag(np.linspace(0.5, 4, outputs)) if weighted else None
    aware = Fitter(weight, moments_of(x), "als", weighting)
    plain = Fitter(weight, moments_of(x), "svd")
    whole = np.linalg.norm((x - x.mean(axis=0)) @ weight.T) ** 2 / len(x)
    assert aware.loss(aware.fit(path).cores) <= aware.loss(plain.fit(path).cores) + 0.01 * whole


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("outputs", "inputs", "path"),
    [
        (1, 1, Factorization((1, 1), (1, 1), (1,))),
        (1, 1, Factorization((1, 2), (2, 1), (3,))),
        (7, 13, Factorization((7, 1), (1, 13), (20,))),
        (7, 13, Factorization((1, 7), (13, 1), (2,), "lr")),
        (7, 13, Factorization((1, 7), (1, 13), (3,))),
        (11, 13, Factorization((3, 4), (2, 7), (50,))),
    ],
)
def test_edges(moments_of, name, outputs, inputs, path):
    weight, x = data(0, outputs, inputs, 200)
    factors = Fitter(weight, moments_of(x), name).fit(path)
    assert [core.shape for core in factors.cores] == list(path.core_shapes)
    if path.ranks[0] >= 7:
        np.testing.assert_allclose(dense_weight(factors.cores)[:outputs, :inputs], weight, atol=1e-9)
    assert 0 <= factors.output_error <= 1 + 1e-9
    zero = Fitter(np.zeros((outputs, inputs)), moments_of(x), name).fit(path)
    assert zero.weight_error == zero.output_error == 0.0 and not dense_weight(zero.cores).any()


@pytest.mark.parametrize("name", NAMES)
def test_without_moments_every_method_is_tt_svd(name):
    weight = np.random.default_rng(1).standard_normal((12, 20))
    path = Factorization((3, 4), (4, 5), (4,))
    found, plain = Fitter(weight, None, name).fit(path), Fitter(weight, None, "svd").fit(path)
    assert found.output_error is None and found.bias_shift is None
    np.testing.assert_array_equal(dense_weight(found.cores), dense_weight(plain.cores))


@pytest.mark.parametrize("name", NAMES)
def test_every_method_says_where_it_comes_from(name):
    assert len(METHODS.get(name).source) > 10


def test_diagonal_scaling_is_the_scaled_truncated_svd(moments_of):
    weight, x = data(2, 9, 14, 300)
    scales = np.sqrt(np.mean(x**2, axis=0)) ** 0.5
    u, s, vt = np.linalg.svd(weight * scales, full_matrices=False)
    expected = (u[:, :4] * s[:4]) @ vt[:4] / scales
    for path in (Factorization.svd(9, 14, 4), Factorization((1, 9), (14, 1), (4,))):
        found = Fitter(weight, moments_of(x), "asvd").fit(path)
        np.testing.assert_allclose(dense_weight(found.cores), expected, atol=1e-9)


def test_diagonal_scaling_of_a_train_is_exact_where_scales_are_separable(moments_of):
    rng = np.random.default_rng(3)
    weight = rng.standard_normal((12, 20))
    scales = np.kron([0.1, 1.0, 3.0, 0.5], [2.0, 1.0, 0.2, 0.7, 1.1])
    x = rng.choice([-1.0, 1.0], (64, 20)) * scales
    found = dense_weight(Fitter(weight, moments_of(x), "asvd").fit(Factorization((3, 4), (4, 5), (4,))).cores)
    root = np.sqrt(scales)
    plain = Fitter(weight * root, None, "svd").fit(Factorization((3, 4), (4, 5), (4,)))
    np.testing.assert_allclose(found * root, dense_weight(plain.cores), atol=1e-9)


@pytest.mark.slow
def test_whitening_is_exact_where_the_covariance_is_separable(moments_of):
    """Up to the lift of a hundredth that keeps the inverse small."""
    rng = np.random.default_rng(4)
    first, rest = (
        root @ root.T + np.eye(len(root)) for root in (rng.standard_normal((4, 4)), rng.standard_normal((5, 5)))
    )
    x = rng.standard_normal((200_000, 20)) @ np.linalg.cholesky(np.kron(first, rest)).T
    weight, path = rng.standard_normal((12, 20)), Factorization((3, 4), (4, 5), (4,))
    moments = moments_of(x)
    white = Fitter(weight, moments, "svd-whitened").fit(path).output_error
    fitted = Fitter(weight, moments, "als").fit(path).output_error
    assert fitted <= white <= 1.01 * fitted
    assert white < 0.95 * Fitter(weight, moments, "svd").fit(path).output_error


def test_iteration_agrees_with_the_closed_form_on_svd_paths_whatever_is_asked(moments_of):
    """With a weighting and other outputs than the layer's own, too."""
    from lrfdse.factorize.als import fit_outputs
    from lrfdse.factorize.objective import OutputError

    weight, x = data(5, 10, 16, 5000)
    rng = np.random.default_rng(5)
    fed = x + 0.4 * rng.standard_normal(x.shape)
    weighting = np.cov(rng.standard_normal((10, 30)))
    path = Factorization.svd(10, 16, 4)
    fitter = Fitter(weight, moments_of(fed, x @ weight.T), "auto", weighting, beta=0.7)
    problem = fitter.problem
    error = OutputError.of(problem.target(path), problem.covariance, problem.damped_weighting)
    closed, iterated = error(fitter.fit(path).cores), error(fit_outputs(error, path, sweeps=300, gain=1e-12))
    assert iterated == pytest.approx(closed, rel=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(moments_of, bad):
    weight, x = data(6, 4, 6, 50)
    broken = weight.copy()
    broken[1, 2] = bad
    with pytest.raises(InputError, match=r"weights of layer 'fc1' must be finite, but 1 of 24"):
        Fitter(broken, moments_of(x), name="fc1")
    x[3, 4] = bad
    with np.errstate(invalid="ignore"), pytest.raises(InputError, match="moments of the layer must be finite"):
        Fitter(weight, moments_of(x))


def test_an_unknown_method_is_refused():
    with pytest.raises(InputError, match=r"unknown fitting method 'svdd': choose from auto, als, "):
        Fitter(np.eye(3), None, "svdd")
