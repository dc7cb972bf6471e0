from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lrfdse.ir.factorization import Factorization
from lrfdse.ir.space import Cost, Funnel, SearchSpace
from lrfdse.space.front import front
from lrfdse.space.lattice import bonds, padded_size

_SLOW_FIXTURES = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _points(candidates):
    return np.array([(c.cost.params, c.cost.padded_flops, c.error_bound) for c in candidates]).reshape(-1, 3)


def _assert_same(candidates, expected):
    # One design a cost pair and error; the order of equal params is not part of the contract.
    found = sorted(map(tuple, _points(candidates).tolist()))
    assert len(found) == len(expected)
    assert np.allclose(np.array(found).reshape(-1, 3), np.array(expected).reshape(-1, 3), rtol=1e-12, atol=1e-12)


@st.composite
def spaces(draw):
    directions = draw(st.sampled_from([("rl",), ("lr",), ("rl", "lr")]))
    return SearchSpace(
        max_cores=draw(st.integers(2, 4)),
        unit_modes=draw(st.booleans()),
        directions=directions,
        dense_ranks_to=draw(st.integers(0, 4)),
        rank_step=draw(st.integers(1, 4)),
        lane_ranks=draw(st.booleans()),
        aligned=draw(st.booleans()),
        min_ratio=draw(st.sampled_from([1.0, 1.5, 2.0])),
    )


@_SLOW_FIXTURES
@given(
    size=st.sampled_from([(6, 6), (4, 12), (12, 4), (8, 9), (10, 6), (7, 8), (5, 7), (8, 8)]),
    rows=st.integers(1, 3),
    lanes=st.sampled_from([1, 2, 4, 8]),
    space=spaces(),
    seed=st.integers(0, 10**6),
)
def test_front_is_that_of_brute_force(brute_front, random_tails, size, rows, lanes, space, seed):
    tails = random_tails(*size, seed)
    candidates, funnel = front(*size, rows, lanes, space, tails)
    assert funnel == Funnel((("surrogate front", len(candidates)),), 0.0)
    _assert_same(candidates, brute_front(*size, rows, lanes, space, tails))


@pytest.mark.parametrize("cores", [5, 6])
@pytest.mark.parametrize("aligned", [False, True])
def test_chains_longer_than_four_cores(brute_front, random_tails, cores, aligned):
    space = SearchSpace(max_cores=cores, dense_ranks_to=3, rank_step=2, min_ratio=1.0, aligned=aligned)
    tails = random_tails(8, 4, 5)
    candidates, _ = front(8, 4, 1, 2, space, tails, tolerance=0.0)
    _assert_same(candidates, brute_front(8, 4, 1, 2, space, tails))


@pytest.mark.slow
@pytest.mark.parametrize("tolerance", [0.03, 0.2])
@pytest.mark.parametrize("max_cores", [4, 5])
def test_gap_is_kept_end_to_end(random_tails, tolerance, max_cores):
    size = (24, 24) if max_cores == 5 else (36, 48)
    tails = random_tails(*size, 3)
    space = SearchSpace(max_cores=max_cores, dense_ranks_to=6, rank_step=4)
    exact, funnel = front(*size, 1, 8, space, tails, tolerance=0.0)
    near, merged = front(*size, 1, 8, space, tails, tolerance=tolerance)
    assert (funnel.gap, merged.gap) == (0.0, tolerance)
    exact, near = _points(exact), _points(near)
    assert 0 < len(near) < len(exact)
    ratio = (near[None] / exact[:, None]).max(axis=2).min(axis=1)
    assert 1.0 < ratio.max() <= 1 + tolerance + 1e-12
    # What is found with a tolerance is feasible, so nothing of it may beat the exact front.
    assert not (near[None] < exact[:, None] * (1 - 1e-12)).all(axis=2).any()


def test_designs_carry_their_cost_and_are_canonical(random_tails):
    candidates, _ = front(20, 24, 2, 8, SearchSpace(), random_tails(20, 24, 0))
    texts = [str(c.factorization) for c in candidates]
    assert len(set(texts)) == len(texts)
    assert any(text.startswith("svd:") for text in texts)
    assert any(text.endswith(",lr") for text in texts)
    for candidate in candidates:
        assert candidate.cost == Cost.of(candidate.factorization, 2, 8)
        assert Factorization.parse(str(candidate.factorization), 20, 24) == candidate.factorization
        assert candidate.factorization.is_svd == str(candidate.factorization).startswith("svd:")
    assert [c.cost.params for c in candidates] == sorted(c.cost.params for c in candidates)


def test_directions_of_equal_cost_print_right_to_left(random_tails):
    # One lane and square symmetric modes: both directions of (m, n) = (k, k) x (k, k) cost the same.
    tails = {bond: np.ones(len(tail)) for bond, tail in random_tails(16, 16, 0).items()}
    tails[4, 4] = np.linspace(0.9, 0.0, 17)
    candidates, _ = front(16, 16, 1, 1, SearchSpace(max_cores=2), tails)
    assert {c.factorization.direction for c in candidates} == {"rl"}


def test_svd_is_there_without_unit_modes(random_tails):
    tails = random_tails(7, 11, 1)
    candidates, _ = front(7, 11, 1, 4, SearchSpace(unit_modes=False, min_ratio=1.0), tails)
    assert [str(c.factorization) for c in candidates] == ["svd:r=1", "svd:r=2", "svd:r=3", "svd:r=4"]


def test_zero_weight_costs_the_least():
    space = SearchSpace(dense_ranks_to=4)
    tails = {bond: np.zeros(rank + 1) for bond, rank in bonds(12, 16, space).items()}
    candidates, _ = front(12, 16, 1, 1, space, tails)
    points = _points(candidates)
    assert (points[:, 2] == 0).all()
    assert (np.diff(points[:, 0]) > 0).all() and (np.diff(points[:, 1]) < 0).all()


def test_padding_merges_both_lattices(brute_front, random_tails):
    size, larger = (11, 13), (padded_size(11), padded_size(13))
    assert larger == (12, 14)
    space = SearchSpace(max_cores=3, dense_ranks_to=3, rank_step=2, min_ratio=1.0, pad_to_smooth=True)
    tails, padded = random_tails(*size, 1), random_tails(*larger, 2)
    candidates, _ = front(*size, 1, 4, space, tails, padded_tails=padded)
    grown = [c for c in candidates if (c.factorization.outputs, c.factorization.inputs) == larger]
    plain = [c for c in candidates if (c.factorization.outputs, c.factorization.inputs) == size]
    assert grown and plain and len(grown) + len(plain) == len(candidates)
    assert not any(c.factorization.is_svd for c in grown)
    assert all(c.cost.params <= 11 * 13 and c.cost.flops < 2 * 11 * 13 for c in candidates)
    own = {point[:2] for point in brute_front(*size, 1, 4, space, tails)}
    assert {(c.cost.params, c.cost.padded_flops) for c in plain} <= own


def test_padding_needs_its_own_tails(random_tails):
    with pytest.raises(ValueError, match="padded_tails"):
        front(11, 13, 1, 4, SearchSpace(pad_to_smooth=True), random_tails(11, 13, 1))


def test_tails_must_reach_every_feasible_rank(random_tails):
    tails = random_tails(12, 16, 1)
    bond, rank = next(iter(bonds(12, 16, SearchSpace()).items()))
    with pytest.raises(ValueError, match=f"rank {rank} at the bond {bond[0]}x{bond[1]}"):
        front(12, 16, 1, 1, SearchSpace(), tails | {bond: tails[bond][:rank]})
    tails.pop(bond)
    with pytest.raises(ValueError, match="missing"):
        front(12, 16, 1, 1, SearchSpace(), tails)


def test_counts_are_carried_on(random_tails):
    counts = Funnel((("raw designs", 7),))
    candidates, funnel = front(6, 6, 1, 1, SearchSpace(), random_tails(6, 6, 1), counts=counts)
    assert funnel.stages == (("raw designs", 7), ("surrogate front", len(candidates)))


def test_no_design_no_front(random_tails):
    candidates, _ = front(2, 2, 1, 1, SearchSpace(), random_tails(2, 2, 1))
    assert candidates == []
