"""Dominance against comparison of all pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrfdse.search.plans.pareto import nondominated, nondominated_by_group

_POINTS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)), max_size=80)


def _arrays(points: list[tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    table = np.array(points, np.int64).reshape(-1, 3)
    return table[:, 0], table[:, 1] / 4, table[:, 2] / 4


@given(_POINTS)
@settings(max_examples=300, deadline=None)
def test_front_equals_all_pairs(points: list[tuple[int, int, int]]) -> None:
    front = [
        p for p in set(points) if not any(q != p and all(a <= b for a, b in zip(q, p, strict=True)) for q in points)
    ]
    kept = nondominated(*_arrays(points))
    assert [points[i] for i in kept] == sorted(front)
    assert all(points.index(points[i]) == i for i in kept)


@given(_POINTS)
@settings(max_examples=200, deadline=None)
def test_front_by_group_equals_all_pairs(points: list[tuple[int, int, int]]) -> None:
    front = [
        p for p in set(points) if not any(q != p and q[0] == p[0] and q[1] <= p[1] and q[2] <= p[2] for q in points)
    ]
    assert [points[i] for i in nondominated_by_group(*_arrays(points))] == sorted(front)


@pytest.mark.parametrize("spread", [1.0, 0.05])
def test_large_front_equals_staircase(spread: float) -> None:
    """Enough points to reach the coarse grid; the oracle keeps a staircase, one point at a time."""
    rng = np.random.default_rng(7)
    ray = rng.dirichlet([1, 1, 1], size=12_000)
    first, second, third = (ray + spread * rng.random((12_000, 3))).T
    staircase: list[tuple[float, float]] = []
    expected = []
    for i in np.argsort(first, kind="stable"):
        if not any(b <= second[i] and c <= third[i] for b, c in staircase):
            expected.append(int(i))
            staircase = [s for s in staircase if not (second[i] <= s[0] and third[i] <= s[1])]
            staircase.append((second[i], third[i]))
    assert nondominated(first, second, third).tolist() == expected
