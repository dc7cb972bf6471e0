"""Samplers: new plans only, the same for the same past, and better ones with time."""

from __future__ import annotations

import importlib.util
import itertools

import numpy as np
import pytest

from lrfdse.errors import InputError, ToolError
from lrfdse.search.plans.tables import Choice, LayerTable, PlanKey
from lrfdse.search.samplers.builtin import SAMPLERS, open_sampler
from lrfdse.search.samplers.protocol import Observation, Space


def space(layers: int, choices: int) -> Space:
    texts = ["dense", *(f"svd:r={rank}" for rank in range(1, choices))]
    return Space(
        tuple(
            LayerTable(f"fc{k}", tuple(Choice(t, 10 + i, 1.0 + i, 0.01 * i) for i, t in enumerate(texts)))
            for k in range(layers)
        )
    )


SMALL = space(2, 5)


def observation(of: Space, plan: PlanKey, limit: float = np.inf) -> Observation:
    """Costs are additive; the score falls with the square of every layer's place, so good plans are even ones."""
    places = [texts.index(text) for texts, text in zip(of.choices.values(), plan, strict=True)]
    last = len(next(iter(of.choices.values()))) - 1
    score = 1 - sum((p / last) ** 2 for p in places) / len(places)
    cost = 1 + sum(last - p for p in places)
    return Observation(plan, (float(cost), float(cost), score), {"max_params": cost / limit - 1})


INSTALLED = [
    name for name in SAMPLERS.names() if not (needs := SAMPLERS.get(name).needs) or importlib.util.find_spec(needs)
]


@pytest.mark.parametrize("name", INSTALLED)
def test_the_whole_space_is_proposed_once_each(name: str) -> None:
    propose, past = open_sampler(name).propose, list[Observation]()
    while plans := propose(SMALL, past, [each.plan for each in past], 1, 4):
        assert len(plans) <= 4
        past += [observation(SMALL, plan) for plan in plans]
        assert len(past) <= SMALL.size
    assert sorted(each.plan for each in past) == sorted(itertools.product(*SMALL.choices.values()))


@pytest.mark.parametrize("name", INSTALLED)
def test_plans_depend_on_the_past_and_the_seed_alone(name: str) -> None:
    wide = space(4, 9)
    past = [observation(wide, plan) for plan in itertools.islice(wide.plans(), 0, 3000, 97)]
    known = [each.plan for each in past]
    first = open_sampler(name).propose(wide, past, known, 3, 5)
    assert len(set(first)) == 5
    assert not set(first) & set(known)
    assert open_sampler(name).propose(wide, past, known, 3, 5) == first
    if not SAMPLERS.get(name).whole_space:
        assert any(open_sampler(name).propose(wide, past, known, seed, 5) != first for seed in (4, 5, 6))


# Level switches need tables whose costs say something of the plans; tests/search/test_evolution.py has such.
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in INSTALLED if name not in ("random", "exhaustive", "evolution")])
def test_what_was_evaluated_leads_to_better_plans_than_chance(name: str) -> None:
    """All three objectives agree on one best plan: after as many plans, theirs are nearer to it, over several seeds."""
    wide, gains = space(6, 9), []

    def distance(plan: PlanKey) -> float:
        best = (1, 7, 3, 5, 2, 6)
        places = (texts.index(text) for texts, text in zip(wide.choices.values(), plan, strict=True))
        return float(sum((place - good) ** 2 for place, good in zip(places, best, strict=True)))

    def tell(plans: list[PlanKey]) -> list[Observation]:
        return [Observation(plan, (1 + distance(plan), 1 + distance(plan), -distance(plan))) for plan in plans]

    for seed in range(4):
        start = tell(open_sampler("random").propose(wide, [], [], seed, 20))
        means = {}
        for way in (name, "random"):
            past = list(start)
            for _ in range(12):
                past += tell(open_sampler(way).propose(wide, past, [each.plan for each in past], seed, 5))
            means[way] = np.mean([distance(each.plan) for each in past[-20:]])
        gains.append(means[name] / means["random"])
    assert max(gains) < 0.8


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in INSTALLED if name in ("nsga2", "tpe")])
def test_constraints_draw_proposals_to_what_is_allowed(name: str) -> None:
    wide = space(6, 9)

    def share(limit: float) -> float:
        allowed = total = 0
        for seed in range(3):
            past = [observation(wide, plan, limit) for plan in open_sampler("random").propose(wide, [], [], seed, 25)]
            for _ in range(8):
                plans = open_sampler(name).propose(wide, past, [each.plan for each in past], seed, 5)
                found = [observation(wide, plan, limit) for plan in plans]
                past += found
                allowed += sum(each.values[1] <= 20 for each in found)
                total += len(found)
        return allowed / total

    assert share(20) > share(np.inf) + 0.05


def test_all_plans_in_a_fixed_order() -> None:
    every = list(itertools.product(*SMALL.choices.values()))
    assert open_sampler("exhaustive").propose(SMALL, [], [], 7, 10**9) == every
    assert open_sampler("exhaustive").propose(SMALL, [], every[:3], 7, 2) == every[3:5]
    assert SMALL.size == len(every) == 25


def test_unknown_and_missing_samplers_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="unknown sampler 'nsga9': choose from nsga2, tpe"):
        open_sampler("nsga9")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ToolError, match="pip install torch"):
        open_sampler("gp")
