"""Which plans of a front are evaluated first."""

from __future__ import annotations

import numpy as np
import pytest

from lrfdse.search.plans.knapsack import plans
from lrfdse.search.plans.spread import spread
from lrfdse.search.plans.tables import Choice, LayerTable, PlanFront


@pytest.fixture(scope="module")
def front() -> PlanFront:
    rng = np.random.default_rng(2)
    tables = []
    for layer in range(4):
        made = [Choice("dense", 10_000, 50.0, 0.0)]
        for rank in range(1, 14):
            factor = rng.uniform(0.6, 1.6)
            made.append(
                Choice(f"svd:r={rank}", 300 * rank, float(2 + 2 * rank * factor), float(0.5 / rank**2 / factor))
            )
        tables.append(LayerTable(f"fc{layer}", tuple(made)))
    return plans(tables)


def _points(front: PlanFront) -> np.ndarray:
    error = np.maximum(front.error, front.error[front.error > 0].min())
    logs = np.log(np.stack([front.params, front.latency_us, error], axis=1))
    return (logs - logs.min(axis=0)) / np.ptp(logs, axis=0)


def test_extremes_come_first(front: PlanFront) -> None:
    first = spread(front, 3)
    assert front.error[first].min() == front.error.min()
    assert front.params[first].min() == front.params.min()
    assert front.latency_us[first].min() == front.latency_us.min()


def test_larger_count_only_appends(front: PlanFront) -> None:
    longest = spread(front, 40)
    assert len(set(longest)) == 40
    for count in range(41):
        assert spread(front, count) == longest[:count]


def test_every_plan_is_near_one_that_is_taken(front: PlanFront) -> None:
    points, taken = _points(front), spread(front, 30)
    distance = np.linalg.norm(points[:, None] - points[taken][None], axis=2)
    radius = distance.min(axis=1).max()
    between = np.linalg.norm(points[taken][:, None] - points[taken][None], axis=2)
    late = between[4:, :][between[4:, :] > 0]
    assert radius <= late.min() + 1e-9


def test_small_and_empty_fronts() -> None:
    one = plans([LayerTable("fc", (Choice("dense", 5, 1.0, 0.0),))])
    assert spread(one, 10) == [0]
    assert spread(one, 0) == []
    assert spread(plans(one.tables, max_params=1), 5) == []
