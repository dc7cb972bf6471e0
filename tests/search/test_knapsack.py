"""The knapsack against enumeration of every plan."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lrfdse.search.plans.knapsack import plans, plans_by_regime, uniform
from lrfdse.search.plans.tables import Choice, LayerTable, PlanFront

pytestmark = pytest.mark.slow

Point = tuple[float, float, float]

# Latencies and errors in 64ths: sums are exact in any order, so fronts can be compared for equality.
_SIXTY_FOURTHS = st.integers(1, 40).map(lambda k: k / 64)


@st.composite
def layer_tables(draw: st.DrawFn, most_layers: int = 4, most_choices: int = 6) -> list[LayerTable]:
    tables = []
    for layer in range(draw(st.integers(1, most_layers))):
        dense = Choice("dense", draw(st.integers(1, 12)), draw(_SIXTY_FOURTHS), 0.0)
        rest = [
            Choice(f"svd:r={rank}", draw(st.integers(1, 12)), draw(_SIXTY_FOURTHS), draw(st.integers(0, 40)) / 64)
            for rank in range(1, draw(st.integers(1, most_choices)))
        ]
        tables.append(LayerTable(f"fc{layer}", tuple(draw(st.permutations([dense, *rest])))))
    return tables


def every_point(tables: list[LayerTable]) -> list[Point]:
    return [
        (sum(c.params for c in plan), sum(c.latency_us for c in plan), sum(c.error for c in plan))
        for plan in itertools.product(*(t.choices for t in tables))
    ]


def brute_front(points: list[Point]) -> list[Point]:
    distinct = sorted(set(points))
    return [p for p in distinct if not any(q != p and all(a <= b for a, b in zip(q, p, strict=True)) for q in distinct)]


def points(front: PlanFront) -> list[Point]:
    return list(zip(front.params.tolist(), front.latency_us.tolist(), front.error.tolist(), strict=True))


def random_tables(layers: int, choices: int, seed: int) -> list[LayerTable]:
    """Tables shaped like real ones: params over two decades, error falling with params, latency loosely tied to it."""
    rng = np.random.default_rng(seed)
    tables = []
    for layer in range(layers):
        dense = int(rng.integers(50_000, 500_000))
        made = [Choice("dense", dense, dense / 5e3, 0.0)]
        for rank in range(1, choices):
            share = 0.5 * float(rank / choices) ** 1.5 + 0.004
            scatter = rng.uniform(0.7, 1.4, size=2)
            made.append(
                Choice(
                    f"svd:r={rank}",
                    int(dense * share),
                    float(dense / 4e3 * share * scatter[0]) + 1,
                    float(0.3 * (1 - share) ** 3 * scatter[1] / rank),
                )
            )
        tables.append(LayerTable(f"fc{layer}", tuple(made)))
    return tables


@given(layer_tables())
@settings(max_examples=150, deadline=None)
def test_front_equals_enumeration(tables: list[LayerTable]) -> None:
    front = plans(tables)
    assert front.gap == 0
    assert points(front) == brute_front(every_point(tables))
    for i, point in enumerate(points(front)):
        chosen = [t.choices[t.find(front.texts(i)[t.layer])] for t in tables]
        assert point == (sum(c.params for c in chosen), sum(c.latency_us for c in chosen), sum(c.error for c in chosen))


@given(
    layer_tables(),
    st.none() | st.integers(1, 50),
    st.none() | st.integers(1, 50),
    st.none() | st.integers(1, 120).map(lambda k: k / 64),
    st.none() | st.integers(0, 120).map(lambda k: k / 64),
)
@settings(max_examples=300, deadline=None)
def test_constraints_equal_enumeration(
    tables: list[LayerTable], least: int | None, most: int | None, slowest: float | None, worst: float | None
) -> None:
    allowed = [
        p
        for p in every_point(tables)
        if (least is None or p[0] >= least)
        and (most is None or p[0] <= most)
        and (slowest is None or p[1] <= slowest)
        and (worst is None or p[2] <= worst)
    ]
    front = plans(tables, min_params=least, max_params=most, max_latency=slowest, max_error=worst)
    assert front.gap == 0
    assert points(front) == brute_front(allowed)


@given(layer_tables(), st.integers(1, 45), st.data())
@settings(max_examples=150, deadline=None)
def test_regimes_equal_enumeration(warm: list[LayerTable], fits: int, data: st.DataObject) -> None:
    slower = data.draw(st.booleans())
    cold = [
        LayerTable(
            t.layer,
            tuple(
                Choice(c.text, c.params, (c.latency_us if slower else 0) + data.draw(_SIXTY_FOURTHS), c.error)
                for c in t.choices
            ),
        )
        for t in warm
    ]
    charged = [w if w[0] <= fits else c for w, c in zip(every_point(warm), every_point(cold), strict=True)]
    front = plans_by_regime(warm, cold, fits)
    assert points(front) == brute_front(charged)
    assert front.regimes == tuple("warm" if p <= fits else "cold" for p in front.params)


@given(
    layer_tables(most_layers=4),
    st.integers(1, 30),
    st.none() | st.integers(1, 50),
    st.none() | st.integers(0, 120).map(lambda k: k / 64),
)
@settings(max_examples=150, deadline=None)
def test_forced_boxes_keep_their_gap(
    tables: list[LayerTable], limit: int, most: int | None, worst: float | None
) -> None:
    front = plans(tables, limit=limit, max_params=most, max_error=worst)
    found = points(front)
    assert set(found) <= set(every_point(tables))
    assert most is None or all(p[0] <= most for p in found)
    reach = (1 + front.gap) * (1 + 1e-9)
    for p, t, e in brute_front(every_point(tables)):
        if (most is None or p * reach <= most) and (worst is None or e <= worst):
            assert any(q[0] <= p * reach and q[1] <= t * reach and q[2] <= e for q in found)


def layer_of(name: str, *params: int) -> LayerTable:
    texts = ["dense", *(f"svd:r={rank}" for rank in range(1, len(params)))]
    return LayerTable(name, tuple(Choice(text, size, 1 / 64, 0.0) for text, size in zip(texts, params, strict=True)))


@given(layer_tables(most_layers=4), st.integers(1, 30), st.integers(2, 40))
@example([layer_of("fc0", 1, 11), layer_of("fc1", 1, 2), layer_of("fc2", 11), layer_of("fc3", 1)], 1, 24)
@settings(max_examples=200, deadline=None)
def test_forced_boxes_keep_their_gap_above_least_params(tables: list[LayerTable], limit: int, least: int) -> None:
    front = plans(tables, limit=limit, min_params=least)
    found = points(front)
    assert all(p[0] >= least for p in found)
    reach = (1 + front.gap) * (1 + 1e-9)
    for p, t, e in every_point(tables):
        if p >= least * reach:
            assert any(q[0] <= p * reach and q[1] <= t * reach and q[2] <= e for q in found)


@given(layer_tables(most_layers=4), st.integers(1, 30), st.integers(1, 40), st.data())
@settings(max_examples=200, deadline=None)
def test_forced_boxes_keep_their_gap_in_each_regime(
    warm: list[LayerTable], limit: int, fits: int, data: st.DataObject
) -> None:
    slower = data.draw(st.booleans())
    cold = [
        LayerTable(
            t.layer,
            tuple(
                Choice(c.text, c.params, (c.latency_us if slower else 0) + data.draw(_SIXTY_FOURTHS), c.error)
                for c in t.choices
            ),
        )
        for t in warm
    ]
    front = plans_by_regime(warm, cold, fits, limit=limit)
    found = points(front)
    reach = (1 + front.gap) * (1 + 1e-9)
    small = [p for p in every_point(warm) if p[0] <= fits]
    for p, t, e in small:
        if p * reach <= fits:
            assert any(q[0] <= p * reach and q[1] <= t * reach and q[2] <= e for q in found)
    for p, t, e in every_point(cold):
        if p >= (fits + 1) * reach and not (slower and any(q[2] <= e for q in small)):
            assert any(q[0] <= p * reach and q[1] <= t * reach and q[2] <= e for q in found)


def test_boxes_are_used_and_close_on_larger_tables() -> None:
    tables = random_tables(layers=5, choices=16, seed=3)
    exact, boxed = plans(tables), plans(tables, limit=400)
    assert exact.gap == 0
    assert len(exact) > 400
    assert 0 < boxed.gap < 0.25
    assert 50 < len(boxed) <= 600
    assert plans(tables, limit=400, max_error=0.05).gap < boxed.gap
    reach = 1 + boxed.gap + 1e-9
    for p, t, e in points(exact):
        near = (boxed.params <= p * reach) & (boxed.latency_us <= t * reach) & (boxed.error <= e * (1 + 1e-9))
        assert near.any()


def test_many_layers_stay_within_one_percent_of_a_true_bound() -> None:
    tables = random_tables(layers=20, choices=12, seed=5)
    front = plans(tables, limit=20_000)
    for weights in ((1, 0, 0), (0, 1, 0), (1, 1e3, 1e6), (1, 1e4, 1e7), (1, 10, 1e8)):
        best = sum(
            min(weights[0] * c.params + weights[1] * c.latency_us + weights[2] * c.error for c in t.choices)
            for t in tables
        )
        found = weights[0] * front.params + weights[1] * front.latency_us + weights[2] * front.error
        assert best * (1 - 1e-9) <= found.min() <= best * (1 + front.gap) * (1 + 1e-9)


def test_result_does_not_depend_on_order_of_choices() -> None:
    tables = random_tables(layers=4, choices=8, seed=1)
    turned = [LayerTable(t.layer, tuple(reversed(t.choices))) for t in tables]
    assert [plans(tables).texts(i) for i in range(50)] == [plans(turned).texts(i) for i in range(50)]


def test_uniform_takes_largest_rank_that_fits() -> None:
    first = LayerTable(
        "fc1",
        (
            Choice("dense", 100, 9.0, 0.0),
            Choice("svd:r=1", 12, 1.0, 0.4),
            Choice("svd:r=4", 48, 4.0, 0.1),
            Choice("tt:m=2x5,n=5x2,r=1", 20, 1.0, 0.2),
        ),
    )
    second = LayerTable("fc2", (Choice("dense", 20, 2.0, 0.0), Choice("svd:r=1", 11, 1.0, 0.3)))
    assert uniform([first, second], ratios=(1.5, 2, 4, 8, 50)) == [
        {"fc1": "svd:r=4", "fc2": "svd:r=1"},
        {"fc1": "svd:r=4", "fc2": "dense"},
        {"fc1": "svd:r=1", "fc2": "dense"},
        {"fc1": "dense", "fc2": "dense"},
    ]
    assert uniform([first], kind="tt", ratios=[5]) == [{"fc1": "tt:m=2x5,n=5x2,r=1"}]
    with pytest.raises(ValueError, match="ratios are at least 1"):
        uniform([first], ratios=[0.5])


def test_bad_tables_are_refused() -> None:
    dense = Choice("dense", 10, 1.0, 0.0)
    with pytest.raises(ValueError, match="'dense' occurs twice"):
        LayerTable("fc1", (dense, dense))
    with pytest.raises(ValueError, match="'dense' is missing"):
        LayerTable("fc1", (Choice("svd:r=1", 10, 1.0, 0.0),))
    with pytest.raises(ValueError, match="must be 0"):
        LayerTable("fc1", (Choice("dense", 10, 1.0, 0.5),))
    with pytest.raises(ValueError, match="latency_us must be positive"):
        Choice("dense", 10, float("nan"), 0.0)
    with pytest.raises(ValueError, match="no tables"):
        plans([])
    other = LayerTable("fc1", (Choice("dense", 11, 1.0, 0.0),))
    with pytest.raises(ValueError, match="latency only"):
        plans_by_regime([LayerTable("fc1", (dense,))], [other], 5)
