from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from lrfdse.ir.space import SearchSpace
from lrfdse.space.front import front
from lrfdse.space.thin import thin


@pytest.fixture(scope="module")
def candidates(random_tails):
    found, _ = front(96, 80, 1, 8, SearchSpace(), random_tails(96, 80, 2))
    assert len(found) > 150
    return found


@pytest.mark.parametrize("count", [1, 2, 3, 7, 40, 150])
def test_as_many_as_asked_and_all_of_the_front(candidates, count):
    chosen = thin(candidates, count)
    assert len(chosen) == len(set(chosen)) == count
    assert set(chosen) <= set(candidates)
    assert [c.cost.params for c in chosen] == sorted(c.cost.params for c in chosen)


def test_small_fronts_are_kept_whole(candidates):
    assert set(thin(candidates, len(candidates))) == set(candidates)
    assert thin([], 5) == thin(candidates, 0) == []


def test_order_does_not_matter(candidates):
    shuffled = list(candidates)
    random.Random(0).shuffle(shuffled)
    assert thin(shuffled, 40) == thin(candidates, 40)


def test_ends_and_plain_svds_are_kept(candidates):
    chosen = thin(candidates, 40)
    assert min(candidates, key=lambda c: c.error_bound) in chosen
    assert min(candidates, key=lambda c: c.cost.params) in chosen
    plain = [c for c in candidates if c.factorization.is_svd]
    assert len([c for c in chosen if c.factorization.is_svd]) >= min(10, len(plain)) > 0


def test_cheapest_of_each_error_level_is_kept(candidates):
    # 15 to 18 levels of error share the places that plain SVDs and the ends leave; a level is at most twice as wide
    # as that.
    chosen = thin(candidates, 40)
    bounds = np.array([c.error_bound for c in candidates])
    edges = np.geomspace(bounds.min(), bounds.max() * (1 + 1e-9), 8)
    for low, high in itertools.pairwise(edges):
        level = [c for c in candidates if low <= c.error_bound < high]
        kept = [c for c in chosen if low <= c.error_bound < high]
        if level:
            flops, params = min(c.cost.padded_flops for c in level), min(c.cost.params for c in level)
            assert min(c.cost.padded_flops for c in kept) <= 1.5 * flops
            assert min(c.cost.params for c in kept) <= 1.5 * params
