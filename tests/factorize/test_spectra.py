from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrfdse.factorize.grams import grams
from lrfdse.factorize.quadrature import squared_spectrum
from lrfdse.factorize.spectra import (
    bond_tails,
    effective_rank,
    normalized_effective_rank,
    separated,
    unfolding,
    whitened_bond_tails,
    work,
)
from lrfdse.ir.factors import Moments

DIVISORS = {12: (1, 2, 3, 4, 6, 12), 18: (1, 2, 3, 6, 9, 18), 64: (1, 2, 4, 8, 16, 32, 64)}


def _svd_tails(weight, bond, rank):
    """Tails by NumPy's SVD of the unfolding, built index by index."""
    (m, n), (a, b) = weight.shape, bond
    rows = [(i, j) for i in range(a) for j in range(b)]
    columns = [(i, j) for i in range(m // a) for j in range(n // b)]
    matrix = np.array([[weight[i * (m // a) + k, j * (n // b) + q] for k, q in columns] for i, j in rows])
    squared = np.linalg.svd(matrix, compute_uv=False) ** 2
    return np.array([squared[r:].sum() for r in range(rank + 1)]) / (weight**2).sum()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([1e-200, 1e-3, 1.0, 1e150]))
def test_tails_are_those_of_the_svd(seed, scale):
    weight = np.random.default_rng(seed).standard_normal((12, 18))
    bonds = {(a, b): min(a * b, 12 * 18 // (a * b)) for a, b in itertools.product(DIVISORS[12], DIVISORS[18])}
    found = bond_tails(weight * scale, bonds, seed)
    assert set(found) == set(bonds)
    for bond, rank in bonds.items():
        assert found[bond].shape == (rank + 1,)
        np.testing.assert_allclose(found[bond], _svd_tails(weight, bond, rank), atol=1e-12)


def test_ranks_are_cut_at_the_limit_and_padded_beyond_the_bound():
    weight = np.random.default_rng(0).standard_normal((12, 18))
    found = bond_tails(weight, {(3, 2): 2, (2, 1): 5}, 0)
    np.testing.assert_allclose(found[3, 2], _svd_tails(weight, (3, 2), 2), atol=1e-12)
    np.testing.assert_allclose(found[2, 1][:3], _svd_tails(weight, (2, 1), 2), atol=1e-12)
    assert (found[2, 1][2:] == 0).all()


def test_exactly_low_rank_weights_have_no_tail():
    rng = np.random.default_rng(1)
    weight = rng.standard_normal((64, 3)) @ rng.standard_normal((3, 64))
    tails = bond_tails(weight, {(64, 1): 20}, 0)[64, 1]
    assert tails[2] > 1e-3 and (tails[3:] < 1e-13).all()


def test_kronecker_product_has_rank_one_at_its_bond():
    rng = np.random.default_rng(2)
    weight = np.kron(rng.standard_normal((4, 6)), rng.standard_normal((3, 3)))
    assert bond_tails(weight, {(4, 6): 3}, 0)[4, 6][1] < 1e-13
    assert bond_tails(weight, {(2, 6): 3}, 0)[2, 6][1] > 1e-3


def _with_spectrum(values, columns, seed):
    rng = np.random.default_rng(seed)
    u, _ = np.linalg.qr(rng.standard_normal((len(values), len(values))))
    v, _ = np.linalg.qr(rng.standard_normal((columns, len(values))))
    return (u * values) @ v.T


SPECTRA = {
    "slow": np.arange(1, 1201) ** -0.3,
    "power": np.arange(1, 1201) ** -1.0,
    "steep on a floor": np.exp(-np.arange(1200) / 60) + 0.02,
    "flat": np.ones(1200),
    "two levels": np.where(np.arange(1200) < 250, 1.0, 0.1),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECTRA)
def test_density_of_a_spectrum_gives_its_tails(name):
    values = SPECTRA[name]
    matrix = _with_spectrum(values, 1400, 3)
    squared = squared_spectrum(matrix.astype(np.float32), float((values**2).sum()), np.random.default_rng(0))
    assert (np.diff(squared) <= 0).all()
    exact = np.cumsum((values**2)[::-1])[::-1]
    near = np.cumsum(squared[::-1])[::-1]
    assert near[0] == pytest.approx(exact[0], rel=1e-3)
    kept = exact > 1e-3 * exact[0]
    off = np.abs(near[kept] / exact[kept] - 1)
    # Beside a step of the spectrum the density is smoothed.
    assert np.quantile(off, 0.5) < 0.02 and np.quantile(off, 0.9) < 0.05 and off.max() < 0.3
    # Where a truncation discards almost nothing, that is seen.
    assert (near[~kept] <= 2e-3 * exact[0]).all()


@pytest.mark.slow
def test_density_of_an_exactly_low_rank_matrix_ends_with_its_rank():
    values = np.where(np.arange(900) < 40, 1.0, 0.0)
    squared = squared_spectrum(_with_spectrum(values, 1000, 4).astype(np.float32), 40.0, np.random.default_rng(0))
    np.testing.assert_allclose(squared[:40], 1.0, rtol=1e-4)
    assert (squared[40:] == 0).all()


@pytest.mark.slow
def test_large_unfoldings_agree_with_exact_ones_and_depend_on_the_seed_alone():
    weight = np.random.default_rng(5).standard_normal((160, 8)) @ np.random.default_rng(6).standard_normal((8, 320))
    weight += 0.3 * np.random.default_rng(7).standard_normal(weight.shape)
    bonds = {(160, 1): 160, (16, 16): 200, (8, 32): 100, (40, 5): 200}
    exact = bond_tails(weight, bonds)
    near, again, other = (bond_tails(weight, bonds, seed, gram_side=100, plain_side=100) for seed in (0, 0, 1))
    for bond in bonds:
        np.testing.assert_allclose(near[bond], exact[bond], atol=0.01)
        assert (np.diff(near[bond]) <= 0).all()
        assert np.array_equal(near[bond], again[bond])
    assert not np.array_equal(near[160, 1], other[160, 1])


def test_grams_are_those_of_every_unfolding():
    weight = np.random.default_rng(8).standard_normal((12, 18))
    bonds = list(itertools.product(DIVISORS[12], DIVISORS[18]))
    found = dict(grams(weight, bonds))
    assert set(found) == set(bonds)
    for bond in bonds:
        matrix = unfolding(weight, bond)
        rows, columns = matrix.shape
        np.testing.assert_allclose(found[bond], matrix @ matrix.T if rows <= columns else matrix.T @ matrix, atol=1e-12)


def test_work_is_told_bond_by_bond():
    told = []
    bonds = {(4, 1): 2, (3, 2): 3, (2, 9): 4}
    bond_tails(np.random.default_rng(9).standard_normal((12, 18)), bonds, progress=told.append)
    assert sum(told) == pytest.approx(work((12, 18), bonds)) and len(told) == len(bonds)


@pytest.mark.parametrize("gram_side", [1024, 10])
def test_tails_lie_between_zero_and_one_and_fall(gram_side):
    weight = np.random.default_rng(4).standard_normal((64, 64)).astype(np.float32)
    for tails in bond_tails(weight, {(64, 1): 4, (8, 8): 4, (16, 2): 4}, 0, gram_side=gram_side).values():
        assert tails[0] == pytest.approx(1.0, abs=1e-6)
        assert ((tails >= 0) & (tails <= 1)).all() and (np.diff(tails) <= 0).all()


def test_zero_weight():
    assert (bond_tails(np.zeros((12, 18)), {(3, 2): 4}, 0)[3, 2] == np.zeros(5)).all()
    assert effective_rank(np.zeros((12, 18))) == 0.0


def test_unfolding_of_the_whole_and_of_the_transpose():
    weight = np.arange(12.0).reshape(3, 4)
    assert np.array_equal(unfolding(weight, (3, 1)), weight)
    assert np.array_equal(unfolding(weight, (1, 4)), weight.T)


@pytest.mark.parametrize("shape", [(30, 20), (20, 30)])
def test_effective_rank(shape):
    weight = np.random.default_rng(5).standard_normal(shape)
    share = np.linalg.svd(weight, compute_uv=False)
    share /= share.sum()
    expected = np.exp(-(share * np.log(share)).sum())
    assert effective_rank(weight) == pytest.approx(expected, rel=1e-9)
    assert normalized_effective_rank(1e-30 * weight) == pytest.approx(expected / 20, rel=1e-9)
    assert effective_rank(np.ones(shape)) == pytest.approx(1.0, abs=1e-5)


def _moments(x):
    return Moments(len(x), x.mean(axis=0), x.T @ x / len(x))


@pytest.mark.parametrize("samples", [5, 300])
def test_whitened_tails_of_plain_svd_are_those_of_the_outputs(samples):
    rng = np.random.default_rng(6)
    weight, x = rng.standard_normal((12, 18)), rng.standard_normal((samples, 18)) @ rng.standard_normal((18, 18)) + 3
    found = whitened_bond_tails(weight, _moments(x), {(12, 1): 8, (1, 18): 8, (3, 2): 4})
    squared = np.linalg.svd((x - x.mean(axis=0)) @ weight.T, compute_uv=False) ** 2
    squared = np.append(squared, np.zeros(12))
    expected = np.array([squared[r:].sum() for r in range(9)]) / squared.sum()
    np.testing.assert_allclose(found[12, 1], expected, atol=1e-9)
    np.testing.assert_allclose(found[1, 18], expected, atol=1e-9)
    assert list(found) == [(12, 1), (1, 18), (3, 2)] and found[3, 2].shape == (5,)


def test_whitened_tails_are_exact_under_a_separable_covariance():
    rng = np.random.default_rng(7)
    first, rest = (root @ root.T for root in (rng.standard_normal((3, 3)), rng.standard_normal((6, 6))))
    weight, covariance = rng.standard_normal((12, 18)), np.kron(first, rest)
    found = whitened_bond_tails(weight, Moments(10, np.zeros(18), covariance), {(4, 3): 9})[4, 3]
    whitened = weight @ np.kron(np.linalg.cholesky(first), np.linalg.cholesky(rest))
    np.testing.assert_allclose(found, _svd_tails(whitened, (4, 3), 9), atol=1e-10)


def test_separated_is_the_nearest_kronecker_product():
    rng = np.random.default_rng(8)
    root = rng.standard_normal((12, 30)) * np.linspace(0.2, 2, 12)[:, None]
    covariance = root @ root.T
    first, rest = separated(covariance, 3)
    rearranged = covariance.reshape(3, 4, 3, 4).transpose(0, 2, 1, 3).reshape(9, 16)
    s = np.linalg.svd(rearranged, compute_uv=False)
    assert np.sum((covariance - np.kron(first, rest)) ** 2) == pytest.approx(np.sum(s[1:] ** 2), rel=1e-3)
    assert np.linalg.eigvalsh(first)[0] > 0 and np.linalg.eigvalsh(rest)[0] > 0


def test_whitened_tails_of_padded_layers_and_of_constant_inputs():
    rng = np.random.default_rng(9)
    weight, x = rng.standard_normal((11, 17)), rng.standard_normal((200, 17))
    padded = np.pad(weight, [(0, 1), (0, 1)])
    found = whitened_bond_tails(padded, _moments(x), {(12, 1): 5, (3, 2): 4})
    np.testing.assert_allclose(found[12, 1], whitened_bond_tails(weight, _moments(x), {(11, 1): 5})[11, 1], atol=1e-10)
    none = whitened_bond_tails(padded, _moments(np.ones((4, 17))), {(3, 2): 4, (12, 1): 2})
    assert all((tails == 0).all() for tails in none.values())
