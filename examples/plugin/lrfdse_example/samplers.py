"""A sampler: the plans of best score so far, each with one layer changed."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence

from lrfdse.search.plans.tables import PlanKey
from lrfdse.search.samplers.protocol import Observation, Sampler, Space

PARENTS = 4
TRIES = 20
"""For each plan that is wanted, before the rest of the space is walked through."""


def propose(
    space: Space, observed: Sequence[Observation], known: Collection[PlanKey], seed: int, count: int
) -> list[PlanKey]:
    """Return at most `count` plans that are not in `known`; equal arguments give equal plans."""
    draw = random.Random(f"{seed} {len(observed)} {len(known)}")
    choices = list(space.choices.values())
    parents = sorted(observed, key=lambda each: -each.values[2])[:PARENTS]
    taken, plans = set(known), list[PlanKey]()

    def take(plan: PlanKey) -> None:
        if plan not in taken and len(plans) < count:
            taken.add(plan)
            plans.append(plan)

    for _ in range(TRIES * count):
        plan = list(draw.choice(parents).plan) if parents else [draw.choice(texts) for texts in choices]
        layer = draw.randrange(len(choices))
        plan[layer] = draw.choice(choices[layer])
        take(tuple(plan))
    for rest in space.plans():
        if len(plans) == count:
            break
        take(rest)
    return plans


NEIGHBOURS = Sampler("neighbours", propose)
