"""The multi-choice knapsack: one choice for every layer, the Pareto front of (params, latency, error) over all plans.

Latency and params of a plan are sums over its layers; error is taken to be. Layers are added one by one and partial
plans that another one beats in all three are dropped, which loses nothing. While the partial plans are few the result
is exact; beyond that they are put into boxes (`lrfdse.search.plans.boxes`) and the front says how far it may be off.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lrfdse.ir.latency import Regime
from lrfdse.search.plans.boxes import Floats, Ints, Room, States, add_layer, finest_delta
from lrfdse.search.plans.pareto import nondominated, nondominated_by_group
from lrfdse.search.plans.tables import Choice, LayerTable, PlanFront

_MOST_PRODUCTS = 4_000_000
"""Partial plans times choices up to which a layer is added without boxes: some 100 MB. Chosen; results/knapsack.md
has times."""

_BOXES_A_STATE = 80
"""Boxes of the finest grid tried, filled or not, for each state that may be kept. Chosen; results/knapsack.md has
the gaps that are left."""

_DELTA_POWER = 0.6
"""Boxes on a surface of two dimensions number about delta^-2 where it is rough, fewer where it is thin. Chosen
between."""

_OVERSHOOT = 1.5
"""How far a layer's boxes may outnumber the limit before it is added again with wider ones. Chosen."""

_ROUNDING = 1e-12
"""Relative slack of latency bounds on partial sums, which round differently from the sum of a whole plan."""


def plans(
    tables: Sequence[LayerTable],
    *,
    min_params: int | None = None,
    max_params: int | None = None,
    max_latency: float | None = None,
    max_error: float | None = None,
    limit: int = 300_000,
    needs_min: bool = True,
) -> PlanFront:
    """Return the Pareto front of all plans that meet the constraints.

    Parameters
    ----------
    tables
        One table a layer.
    min_params, max_params
        Bounds of the plan's parameters, inclusive.
    max_latency
        Bound of the plan's latency in microseconds, inclusive.
    max_error
        Bound of the sum of errors, inclusive. Many layers have very many plans that nobody wants: leaving them out
        leaves the boxes to the others, and the gap gets smaller.
    limit
        Partial plans kept after each layer. While their exact number is at most this the front is exact; beyond,
        boxes are sized so that about this many are left.
    needs_min
        Whether a plan is kept that is beaten only by plans with fewer than `min_params`. Not, where those are on a
        front of their own.

    Returns
    -------
    PlanFront
        Empty when no plan meets the constraints. Time grows with layers times choices times `limit`.
    """
    return _plans(tuple(tables), _Bounds.of(min_params, max_params, max_latency, max_error), limit, needs_min)


def plans_by_regime(
    warm_tables: Sequence[LayerTable],
    cold_tables: Sequence[LayerTable],
    warm_max_params: int,
    *,
    max_params: int | None = None,
    max_latency: float | None = None,
    max_error: float | None = None,
    limit: int = 300_000,
) -> PlanFront:
    """Return the front over both cache regimes: plans whose weights fit the cache are charged warm, others cold.

    Parameters
    ----------
    warm_tables, cold_tables
        The same layers and choices with the latencies of either regime.
    warm_max_params
        Parameters that fit the last-level cache: its bytes over the bytes of one weight.
    max_params, max_latency, max_error, limit
        As for `plans`.

    Returns
    -------
    PlanFront
        Its `tables` are the warm ones; `regimes` says how each plan is charged.

    Raises
    ------
    ValueError
        The tables differ in more than latency.
    """
    warm_tables, cold_tables = tuple(warm_tables), tuple(cold_tables)
    _check_same_plans(warm_tables, cold_tables)
    pairs = [(w, c) for a, b in zip(warm_tables, cold_tables, strict=True) for w, c in _paired(a, b)]
    # A cold plan is then beaten only by plans that are feasible in one of the regimes and no slower there.
    never_faster_cold = all(w.latency_us <= c.latency_us for w, c in pairs)
    warm_limit = warm_max_params if max_params is None else min(warm_max_params, max_params)
    warm = plans(warm_tables, max_params=warm_limit, max_latency=max_latency, max_error=max_error, limit=limit)
    cold = plans(
        cold_tables,
        min_params=warm_max_params + 1,
        max_params=max_params,
        max_latency=max_latency,
        max_error=max_error,
        limit=limit,
        needs_min=not never_faster_cold,
    )
    charged: list[Regime] = ["warm"] * len(warm)
    charged.extend(["cold"] * len(cold))
    both = PlanFront(
        warm_tables,
        np.concatenate([warm.params, cold.params]),
        np.concatenate([warm.latency_us, cold.latency_us]),
        np.concatenate([warm.error, cold.error]),
        np.concatenate([warm.choices, cold.choices]),
        tuple(charged),
        max(warm.gap, cold.gap),
    )
    return both.taken(nondominated(both.params, both.latency_us, both.error))


def uniform(
    tables: Sequence[LayerTable], kind: str = "svd", ratios: Iterable[float] = (2, 4, 8)
) -> list[dict[str, str]]:
    """Return the plans that compress every layer by the same ratio: the baselines a search has to beat.

    Each layer takes its choice of the given kind with the most parameters that has at most 1/ratio of the dense
    layer's; a layer without such a choice stays dense. Ratios that give the same plan give it once.

    Parameters
    ----------
    tables
        One table a layer.
    kind
        Text before the colon of a choice: "svd" or "tt".
    ratios
        Compression ratios, each >= 1.
    """
    found: list[dict[str, str]] = []
    for ratio in ratios:
        if not ratio >= 1:
            raise ValueError(f"compression ratios are at least 1, but one is {ratio}")
        plan = {t.layer: _largest(t, kind, t.dense.params / ratio).text for t in tables}
        if plan not in found:
            found.append(plan)
    return found


def _largest(table: LayerTable, kind: str, most: float) -> Choice:
    fitting = [c for c in table.choices if c.text.startswith(f"{kind}:") and c.params <= most]
    return max(fitting, key=lambda c: (c.params, -c.error, -c.latency_us), default=table.dense)


def _paired(warm: LayerTable, cold: LayerTable) -> list[tuple[Choice, Choice]]:
    return list(zip(warm.choices, cold.choices, strict=True))


def _check_same_plans(warm: tuple[LayerTable, ...], cold: tuple[LayerTable, ...]) -> None:
    for a, b in zip(warm, cold, strict=False):
        if a.layer != b.layer or len(a.choices) != len(b.choices):
            raise ValueError(
                f"warm and cold tables must list the same choices, but layers {a.layer} and {b.layer} differ"
            )
        for w, c in _paired(a, b):
            if replace(w, latency_us=c.latency_us) != c:
                raise ValueError(
                    f"warm and cold tables of layer {a.layer} must differ in latency only, but got {w} and {c}"
                )
    if len(warm) != len(cold):
        raise ValueError(f"warm and cold tables must be of the same layers, but are {len(warm)} and {len(cold)}")


@dataclass(frozen=True, slots=True, eq=False)
class _Columns:
    """One layer's choices as arrays, and where they stand in the table."""

    layer: int
    positions: Ints
    params: Ints
    latency: Floats
    error: Floats

    @classmethod
    def of(cls, layer: int, table: LayerTable, all_params: bool) -> _Columns:
        """Return the columns without beaten choices; choices with other params stay where params may be a need."""
        params = np.array([c.params for c in table.choices], np.int64)
        latency = np.array([c.latency_us for c in table.choices], np.float64)
        error = np.array([c.error for c in table.choices], np.float64)
        kept = (nondominated_by_group if all_params else nondominated)(params, latency, error)
        return cls(layer, kept.astype(np.int64), params[kept], latency[kept], error[kept])


@dataclass(frozen=True, slots=True)
class _Bounds:
    """The constraints, all inclusive."""

    min_params: float
    max_params: float
    max_latency: float
    max_error: float

    @classmethod
    def of(
        cls, min_params: int | None, max_params: int | None, max_latency: float | None, max_error: float | None
    ) -> _Bounds:
        """Return the bounds with those left out made boundless."""
        most = (math.inf if bound is None else float(bound) for bound in (max_params, max_latency, max_error))
        return cls(0.0 if min_params is None else float(min_params), *most)


def _plans(tables: tuple[LayerTable, ...], bounds: _Bounds, limit: int, needs_min: bool) -> PlanFront:
    """Return the front; without `needs_min`, plans that a plan with too few params beats are left out too."""
    if not tables:
        raise ValueError("no tables: a plan needs at least one layer")
    if limit < 1:
        raise ValueError(f"the limit of partial plans is at least 1, not {limit}")
    # However wide the boxes are, they do not span the least params.
    limit = max(limit, 2)
    least = bounds.min_params
    needs_min = needs_min and least > sum(min(c.params for c in t.choices) for t in tables)
    columns = [_Columns.of(i, table, needs_min) for i, table in enumerate(tables)]
    # Small layers first: what boxes cost is a share of the partial sum, which then stays small for longest.
    columns.sort(key=lambda c: (int(c.params.max()), c.layer))

    min_rest = sum(int(c.params.min()) for c in columns)
    spread_rest = sum(int(c.params.max() - c.params.min()) for c in columns)
    min_latency = float(sum(c.latency.min() for c in columns))
    zero = np.zeros(1)
    states = States(np.zeros(1, np.int64), zero, zero, zero + min_rest, zero + min_latency, np.zeros(1, np.int64))
    room = Room(
        bounds.max_params,
        bounds.max_latency * (1 + _ROUNDING),
        bounds.max_error * (1 + _ROUNDING),
        least if needs_min else -math.inf,
        least - spread_rest,
    )
    parents: list[Ints] = []
    delta, worst = 0.0, 1.0
    for column in columns:
        spread_rest -= int(column.params.max() - column.params.min())
        # Rounded coordinates lie below the true params by the factor `worst` at most.
        room = replace(room, min_params=(least - spread_rest) / worst)
        grown = None
        if delta == 0 and len(states) * len(column.params) <= _MOST_PRODUCTS:
            grown = _exact(states, column, room)
        if grown is None or len(grown) > limit:
            delta = max(delta, finest_delta(states, column.params, column.latency, room, _BOXES_A_STATE * limit))
            grown = add_layer(states, column.params, column.latency, column.error, room, delta)
            while len(grown) > _OVERSHOOT * limit:
                delta *= (len(grown) / limit) ** _DELTA_POWER
                grown = add_layer(states, column.params, column.latency, column.error, room, delta)
            worst *= 1 + delta
            delta *= max(1.0, len(grown) / limit) ** _DELTA_POWER
        states = grown
        parents.append(states.parent)
        if not len(states):
            break
    return _front(tables, columns, states, parents, bounds, worst - 1 if needs_min else None)


def _exact(states: States, column: _Columns, room: Room) -> States:
    """Return the partial plans with one more layer, those left out that another one beats."""
    count = len(column.params)
    low_params = np.add.outer(states.low_params, column.params - column.params.min()).ravel()
    low_latency = np.add.outer(states.low_latency, column.latency - column.latency.min()).ravel()
    total = np.add.outer(states.error, column.error).ravel()
    fits = (low_params <= room.max_params) & (low_latency <= room.max_latency) & (low_params >= room.min_params)
    parent = np.flatnonzero(fits & (total <= room.max_error))
    source, choice = np.divmod(parent, count)
    params = states.params[source] + column.params[choice]
    latency = states.latency[source] + column.latency[choice]
    error = total[parent]
    short = low_params[parent] < room.free_params
    free, needy = np.flatnonzero(~short), np.flatnonzero(short)
    kept = np.concatenate(
        [
            needy[nondominated_by_group(params[needy], latency[needy], error[needy])],
            free[nondominated(params[free], latency[free], error[free])],
        ]
    )
    chosen = parent[kept]
    return States(params[kept], latency[kept], error[kept], low_params[chosen], low_latency[chosen], chosen)


def _front(
    tables: tuple[LayerTable, ...],
    columns: list[_Columns],
    states: States,
    parents: list[Ints],
    bounds: _Bounds,
    worst_gap: float | None,
) -> PlanFront:
    """Return the front of the complete plans, summed anew in the tables' order, with the gap that the boxes left."""
    gap = 0.0
    choices = np.zeros((len(states), len(tables)), np.int32)
    if len(states):
        off = max(np.max(states.params / states.low_params), np.max(states.latency / states.low_latency)) - 1
        gap = float(off) if off > _ROUNDING else 0.0
        at = np.arange(len(states))
        for column, parent in zip(reversed(columns), reversed(parents), strict=True):
            at, choice = np.divmod(parent[at], len(column.params))
            choices[:, column.layer] = column.positions[choice]
    params, latency, error = np.zeros(len(states), np.int64), np.zeros(len(states)), np.zeros(len(states))
    for layer, table in enumerate(tables):
        taken = choices[:, layer]
        params += np.array([c.params for c in table.choices], np.int64)[taken]
        latency += np.array([c.latency_us for c in table.choices])[taken]
        error += np.array([c.error for c in table.choices])[taken]
    fits = np.flatnonzero(
        (params >= bounds.min_params)
        & (params <= bounds.max_params)
        & (latency <= bounds.max_latency)
        & (error <= bounds.max_error)
    )
    if worst_gap is not None:
        # What a plan is short of the least params does not show in those that are left.
        gap = max(gap, worst_gap)
    kept = fits[nondominated(params[fits], latency[fits], error[fits])]
    return PlanFront(tables, params[kept], latency[kept], error[kept], choices[kept], (), gap)
