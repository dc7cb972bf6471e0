"""Level switches: one layer gets a better choice, another pays for it, and the plan costs no more than before.

The mutation of EvoPress (Sieberling et al., "EvoPress: Accurate dynamic model compression via evolutionary search",
2024), for plans whose layers have two costs. It finds what a sum of errors over layers cannot tell: which layers'
errors do not add. Its selection in stages, first on little data, survivors on more, is replaced by one that is free: of
several switches the one of least predicted error is proposed. Every evaluated plan is a trial of the study, whose
scores must be comparable, so all are scored on the same data.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lrfdse.search.plans.pareto import nondominated
from lrfdse.search.plans.tables import Choice, LayerTable

if TYPE_CHECKING:
    from lrfdse.search.samplers.protocol import Observation

_MOST_SWITCHES = 3
"""Switches between a plan and its parent, at most. EvoPress draws the least of two numbers up to three, too."""
_FARTHEST = 3
"""Levels that one switch raises a layer by, at most. Chosen; results/search.md compares the samplers."""
_TRIES = 40
"""Switches tried for every plan wanted before fewer are returned. Chosen."""


def level_switches(
    tables: Sequence[LayerTable],
    observed: Sequence[Observation],
    known: Collection[tuple[str, ...]],
    seed: int,
    count: int,
    *,
    slack: float = 1.0,
    parents: int = 8,
    pool: int = 4,
) -> list[tuple[str, ...]]:
    """Return at most `count` plans, none of them known, each some level switches away from a good one.

    Parents are plans that no other beats in params, latency and score: half of them the cheapest that break no
    constraint, the others those that break them least. A switch raises one layer by up to three levels of its own
    front, and lowers another, or several, until the plan is back within the parent's params and latency; a plan has
    one to three switches.

    Parameters
    ----------
    tables
        One table a layer; costs are those of the tables.
    observed
        Evaluated plans with their scores and constraints.
    known
        Plans not to return beside those observed.
    seed
        Equal arguments give equal plans.
    count
        Plans wanted.
    slack
        The factor of its parent's params and latency that a plan may have.
    parents
        How many parents there are, at most.
    pool
        Plans drawn for each one returned: the one of least predicted error.

    Returns
    -------
    list of tuple
        Texts in the order of the tables; fewer than `count` where switches lead nowhere new.
    """
    elders = _parents(tables, observed, parents)
    if not elders:
        return []
    rng = np.random.default_rng(seed)
    taken = {each.plan for each in observed} | set(known)
    levels = [_levels(table) for table in tables]
    found: list[tuple[str, ...]] = []
    for turn in range(_TRIES * count):
        if len(found) == count:
            break
        elder = elders[turn % len(elders)]
        drawn = [child for _ in range(pool) if (child := _child(elder, levels, slack, rng)) is not None]
        fresh = [child for child in drawn if _texts(child) not in taken]
        if fresh:
            best = min(fresh, key=lambda child: sum(choice.error for choice in child))
            taken.add(_texts(best))
            found.append(_texts(best))
    return found


def _texts(plan: Sequence[Choice]) -> tuple[str, ...]:
    return tuple(choice.text for choice in plan)


def _parents(tables: Sequence[LayerTable], observed: Sequence[Observation], most: int) -> list[list[Choice]]:
    """Return the choices of the parents; the original model has nothing to switch, so it is none."""
    compressed = [each for each in observed if any(text != "dense" for text in each.plan)]
    latency, params, score = np.array([each.values for each in compressed], np.float64).reshape(-1, 3).T
    front = [compressed[place] for place in nondominated(params, latency, -score)]
    broken = {each.plan: sum(max(0.0, by) for by in each.constraints.values()) for each in front}

    def cost(each: Observation) -> float:
        return math.log(each.values[0]) + math.log(each.values[1])

    within = sorted((each for each in front if broken[each.plan] == 0), key=cost)
    over = (each for each in front if broken[each.plan] > 0)
    outside = sorted(over, key=lambda each: (broken[each.plan], cost(each)))
    few = min(len(outside), most // 2)
    chosen = [*within[: most - few], *outside[: max(few, most - len(within))]]
    return [[table.choices[table.find(text)] for table, text in zip(tables, each.plan, strict=True)] for each in chosen]


def _levels(table: LayerTable) -> list[Choice]:
    """Return the layer's front of params, latency and error: the levels that it can be switched to."""
    params = np.array([choice.params for choice in table.choices], np.int64)
    latency = np.array([choice.latency_us for choice in table.choices], np.float64)
    error = np.array([choice.error for choice in table.choices], np.float64)
    return [table.choices[place] for place in nondominated(params, latency, error)]


def _child(
    elder: Sequence[Choice], levels: Sequence[Sequence[Choice]], slack: float, rng: np.random.Generator
) -> list[Choice] | None:
    """Return a plan some switches away from `elder` and within its costs, or None where a switch led nowhere."""
    most_params = slack * sum(choice.params for choice in elder)
    most_latency = slack * sum(choice.latency_us for choice in elder) * (1 + 1e-12)
    child = list(elder)
    switches = min(rng.integers(1, _MOST_SWITCHES + 1), rng.integers(1, _MOST_SWITCHES + 1))
    for _ in range(switches):
        raised, *others = (int(layer) for layer in rng.permutation(len(child)))
        better = sorted(
            (level for level in levels[raised] if level.error < child[raised].error), key=lambda level: -level.error
        )
        if not better:
            return None
        child[raised] = better[min(int(rng.integers(_FARTHEST)), len(better) - 1)]
        if not _pay(child, others, levels, most_params, most_latency, rng):
            return None
    # What one switch raised the next may have lowered.
    raises = any(now.error < before.error for now, before in zip(child, elder, strict=True))
    return child if raises else None


def _pay(
    child: list[Choice],
    others: Sequence[int],
    levels: Sequence[Sequence[Choice]],
    most_params: float,
    most_latency: float,
    rng: np.random.Generator,
) -> bool:
    """Lower other layers, one after the other, until the plan is within its costs.

    A layer that can pay alone does so half of the time, as little as does it; else it is lowered by some level.
    """
    params = sum(choice.params for choice in child)
    latency = sum(choice.latency_us for choice in child)
    for other in others:
        if params <= most_params and latency <= most_latency:
            return True
        now = child[other]
        worse = [level for level in levels[other] if level.error > now.error and level.params <= now.params]
        enough = [
            level
            for level in worse
            if params - now.params + level.params <= most_params
            and latency - now.latency_us + level.latency_us <= most_latency
        ]
        if enough and rng.integers(2):
            child[other] = min(enough, key=lambda level: (level.error, level.text))
        elif worse:
            child[other] = worse[int(rng.integers(len(worse)))]
        params += child[other].params - now.params
        latency += child[other].latency_us - now.latency_us
    return params <= most_params and latency <= most_latency
