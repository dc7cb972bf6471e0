"""Which plans of a front to evaluate when the budget does not reach for all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lrfdse.search.plans.tables import PlanFront


def spread(front: PlanFront, count: int) -> list[int]:
    """Return positions of at most `count` plans that cover the front, the most telling first.

    First the least error, the fewest params and the lowest latency, then the knee (nearest to the ideal corner), then
    one by one the plan farthest from all taken so far (Gonzalez, "Clustering to minimize the maximum intercluster
    distance", 1985: at most twice the covering radius of the best choice). Distances are Euclidean in the logarithms
    of params, latency and error, each scaled to the front's own span. A larger count only appends.

    Parameters
    ----------
    front
        The front; its order breaks ties.
    count
        Plans to evaluate.
    """
    if count <= 0 or not len(front):
        return []
    points = np.stack([_scaled(front.params), _scaled(front.latency_us), _scaled(front.error)], axis=1)
    first = [
        int(np.argmin(front.error)),
        int(np.argmin(front.params)),
        int(np.argmin(front.latency_us)),
        int(np.argmin(np.sum(points**2, axis=1))),
    ]
    taken = list(dict.fromkeys(first))[:count]
    distance = np.min([_distance(points, plan) for plan in taken], axis=0)
    while len(taken) < min(count, len(front)):
        distance[taken[-1]] = -1.0
        taken.append(int(np.argmax(distance)))
        distance = np.minimum(distance, _distance(points, taken[-1]))
    return taken


def _scaled(values: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return logarithms scaled to [0, 1]; zero counts as the smallest positive value."""
    positive = values[values > 0]
    if not len(positive):
        return np.zeros(len(values))
    logs = np.log(np.maximum(values, positive.min()))
    span = float(np.ptp(logs))
    return np.asarray((logs - logs.min()) / span if span > 0 else np.zeros(len(logs)), np.float64)


def _distance(points: NDArray[np.float64], plan: int) -> NDArray[np.float64]:
    return np.asarray(np.sum((points - points[plan]) ** 2, axis=1), np.float64)
