"""Adding a layer to very many partial plans: at most one partial plan for a box of (params, latency).

The boxes are a grid of relative width ``delta``. Every state carries, beside its true sums, coordinates rounded down to
the lower corner of its box; boxes and dominance are decided on these. Rounding down and adding a choice are both
monotone, so for every plan that exists there is a state with coordinates and an error no larger than the plan's own;
what the rounding cost is the state's true sums over its coordinates, known at the end and no estimate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_ROUNDING = 1e-12
"""Relative slack for edges of boxes: some thousand roundings of double precision."""


@dataclass(frozen=True, slots=True, eq=False)
class States:
    """Partial plans: shape (n,) each."""

    params: Ints
    latency: Floats
    error: Floats
    low_params: Floats
    """Params of the partial plan plus the least that the layers to come can have, rounded down to its boxes."""
    low_latency: Floats
    """The same of latency."""
    parent: Ints
    """Position in the states of the layer before, times the layer's choices, plus the choice."""

    def __len__(self) -> int:
        return len(self.params)


@dataclass(frozen=True, slots=True)
class Room:
    """What a partial plan must leave to be worth keeping; in coordinates that include the layers to come."""

    max_params: float
    max_latency: float
    max_error: float
    free_params: float
    """Params from which a plan has enough whatever follows; below, params are no cost but a need."""
    min_params: float
    """Params below which a plan cannot reach the least params whatever follows."""


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Boxes of relative width over (params, latency)."""

    low: tuple[float, float]
    step: float
    shape: tuple[int, int]
    free_params: float
    """Lies between rows of boxes, so that no rounding takes a plan that has so many params below it."""
    free_row: int
    """The first row of boxes above it; 0 where all are."""

    @classmethod
    def over(cls, low: tuple[float, float], high: tuple[float, float], delta: float, free_params: float) -> Grid:
        """Return the grid of boxes ``1 + delta`` wide from `low` (or a little below) to `high`, both inclusive.

        Parameters
        ----------
        low, high
            Least and largest (params, latency).
        delta
            Relative width of a box.
        free_params
            Params that lie between two rows of boxes.
        """
        step = float(np.log1p(delta))
        free_row = 0
        if free_params > low[0]:
            free_row = int(np.ceil(np.log(free_params / low[0]) / step))
            low = (free_params * float(np.exp(-free_row * step)), low[1])
        sizes = [int(np.log(h / b) / step) + 2 for b, h in zip(low, high, strict=True)]
        return cls(low, step, (sizes[0], sizes[1]), free_params * (1 - _ROUNDING), free_row)

    def row(self, params: Floats) -> Ints:
        """Return box numbers along params."""
        row = self.index(0, params)
        if self.free_row == 0:
            return row
        is_free = params >= self.free_params
        return np.where(is_free, np.maximum(row, self.free_row), np.minimum(row, self.free_row - 1))

    def index(self, axis: int, values: Floats) -> Ints:
        """Return box numbers along one axis."""
        scaled = np.log(values * (1 / self.low[axis]))
        scaled *= 1 / self.step
        return np.clip(scaled, 0, self.shape[axis] - 1).astype(np.int64)

    def edge(self, axis: int, index: Ints) -> Floats:
        """Return the lower edges of boxes."""
        return np.asarray(self.low[axis] * np.exp(index * self.step), np.float64)


def finest_delta(states: States, params: Ints, latency: Floats, room: Room, most_boxes: int) -> float:
    """Return the relative width at which the grid after the layer has about `most_boxes` boxes.

    Parameters
    ----------
    states
        Partial plans so far.
    params, latency
        Shape (choices,) each: the layer's choices.
    room
        The constraints.
    most_boxes
        Boxes wanted, filled or not.
    """
    low, high = _span(states, params, latency, room)
    return float(np.expm1(np.sqrt(np.log(high[0] / low[0]) * np.log(high[1] / low[1]) / most_boxes))) + 1e-6


def _span(states: States, params: Ints, latency: Floats, room: Room) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the least and the largest coordinates after the layer."""
    low = (float(states.low_params.min()), float(states.low_latency.min()))
    return low, (
        max(low[0], min(float(states.low_params.max() + np.ptp(params)), room.max_params)),
        max(low[1], min(float(states.low_latency.max() + np.ptp(latency)), room.max_latency)),
    )


def add_layer(states: States, params: Ints, latency: Floats, error: Floats, room: Room, delta: float) -> States:
    """Return the partial plans with one more layer, one a box, dominated boxes left out.

    Parameters
    ----------
    states
        Partial plans so far.
    params, latency, error
        Shape (choices,) each: the layer's choices.
    room
        The constraints.
    delta
        Relative width of a box.
    """
    more_params, more_latency = (params - params.min()).astype(np.float64), latency - latency.min()
    grid = Grid.over(*_span(states, params, latency, room), delta, room.free_params)
    least, parent = _fill(states, more_params, more_latency, error, room, grid)
    boxes = np.flatnonzero(_front_of_grid(least.reshape(grid.shape), grid.free_row))
    origin = parent[boxes].astype(np.int64)
    source, choice = np.divmod(origin, len(params))
    row, column = np.divmod(boxes, grid.shape[1])
    low_params = np.minimum(grid.edge(0, row), states.low_params[source] + more_params[choice])
    low_latency = np.minimum(grid.edge(1, column), states.low_latency[source] + more_latency[choice])
    return States(
        states.params[source] + params[choice],
        states.latency[source] + latency[choice],
        least[boxes],
        low_params,
        low_latency,
        origin,
    )


def _fill(
    states: States, more_params: Floats, more_latency: Floats, error: Floats, room: Room, grid: Grid
) -> tuple[Floats, NDArray[np.signedinteger]]:
    """Return for every box the least error and the parent that has it.

    The states are visited from the largest error to the smallest, and of several assignments to one position the last
    one stays: `latest` then holds the state of least error a box, without sorting the products.
    """
    boxes = grid.shape[0] * grid.shape[1]
    # Half the bytes is half the cache misses, and these arrays are read at random.
    narrow: type[np.int32 | np.int64] = np.int32 if len(states) * len(error) < 2**31 else np.int64
    least, parent, latest = np.full(boxes, np.inf), np.zeros(boxes, narrow), np.zeros(boxes, narrow)
    order = np.argsort(-states.error, kind="stable")
    low_params, low_latency, so_far = states.low_params[order], states.low_latency[order], states.error[order]
    count = len(error)
    for choice in range(count):
        first = int(np.searchsorted(-so_far, error[choice] - room.max_error))
        x, y = low_params[first:] + more_params[choice], low_latency[first:] + more_latency[choice]
        e, source = so_far[first:], order[first:]
        fits = (x <= room.max_params) & (y <= room.max_latency) & (x >= room.min_params)
        if not fits.all():
            x, y, e, source = x[fits], y[fits], e[fits], source[fits]
        key = grid.row(x)
        key *= grid.shape[1]
        key += grid.index(1, y)
        serial = np.arange(len(key), dtype=narrow)
        latest[key] = serial
        winner = np.flatnonzero(latest[key] == serial)
        box, total = key[winner], e[winner] + error[choice]
        better = total < least[box]
        box = box[better]
        least[box] = total[better]
        parent[box] = source[winner[better]] * count + choice
    return least, parent


def _front_of_grid(least: Floats, free: int) -> NDArray[np.bool_]:
    """Return which boxes are filled and not dominated: only within their own row before row `free`."""
    front = np.isfinite(least)
    along = np.minimum.accumulate(least, axis=1)
    front[:, 1:] &= along[:, :-1] > least[:, 1:]
    running = np.minimum.accumulate(along[free:], axis=0, out=along[free:])
    front[free + 1 :] &= running[:-1] > least[free + 1 :]
    return front
