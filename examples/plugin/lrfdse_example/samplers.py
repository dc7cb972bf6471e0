"""A sampler: the plans of best score so far, each with one layer changed."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence

from lrfdse.search.samplers.protocol import Sampler, Space, Told
from lrfdse.search.study.queue import Plan

PARENTS = 4
TRIES = 20
"""For each plan that is wanted, before the rest of the space is walked through."""


def propose(space: Space, told: Sequence[Told], known: Collection[Plan], seed: int, count: int) -> list[Plan]:
    """Return at most `count` plans that are not in `known`; equal arguments give equal plans."""
    draw = random.Random(f"{seed} {len(told)} {len(known)}")
    choices = list(space.choices.values())
    parents = sorted(told, key=lambda each: -each.values[2])[:PARENTS]
    taken, plans = set(known), list[Plan]()

    def take(plan: Plan) -> None:
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
