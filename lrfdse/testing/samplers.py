"""What every sampler must do.

A plug-in's author writes::

    class TestMine(SamplerContract):
        @pytest.fixture
        def name(self):
            return "mine"
"""

from __future__ import annotations

import itertools

import pytest

from lrfdse.search.plans.tables import Choice, LayerTable, PlanKey
from lrfdse.search.samplers.builtin import SAMPLERS
from lrfdse.search.samplers.protocol import Observation, Sampler, Space


def space_of(layers: int, choices: int) -> Space:
    """Return a space of so many layers with so many choices each; a later choice is dearer, and its error larger."""
    texts = ["dense", *(f"svd:r={rank}" for rank in range(1, choices))]
    tables = (
        LayerTable(f"fc{k}", tuple(Choice(t, 10 + i, 1.0 + i, 0.01 * i) for i, t in enumerate(texts)))
        for k in range(layers)
    )
    return Space(tuple(tables))


def observation_of(space: Space, plan: PlanKey) -> Observation:
    """Return a plan as evaluated: its costs add over layers, its score falls with the squares of the layers' places."""
    places = [texts.index(text) for texts, text in zip(space.choices.values(), plan, strict=True)]
    last = len(next(iter(space.choices.values()))) - 1
    cost = float(1 + sum(last - place for place in places))
    score = 1 - sum((place / last) ** 2 for place in places) / len(places)
    return Observation(plan, (cost, cost, score), {"max_params": cost / 20 - 1})


class SamplerContract:
    """Tests of one sampler; a subclass gives the fixture `name`."""

    @pytest.fixture
    def name(self) -> str:
        """Return the name under which the sampler is registered."""
        raise NotImplementedError("give the fixture `name`")

    @pytest.fixture
    def sampler(self, name: str) -> Sampler:
        """Return the sampler."""
        return SAMPLERS.get(name)

    def test_it_says_what_it_is(self, name: str, sampler: Sampler) -> None:
        """Its name is the registered one, and a batch holds at least one plan."""
        assert sampler.name == name
        assert sampler.batch is None or sampler.batch >= 1
        assert bool(sampler.needs) == bool(sampler.package), "needs (the module) and package go together"

    def test_the_whole_space_is_proposed_once_each(self, sampler: Sampler) -> None:
        """Asked again and again it gives new plans, until there are none left."""
        space, past = space_of(2, 5), list[Observation]()
        while plans := sampler.propose(space, past, [each.plan for each in past], 1, 4):
            assert len(plans) <= 4, "more plans than were asked for"
            past += [observation_of(space, plan) for plan in plans]
            assert len(past) <= space.size, "plans are proposed twice"
        assert sorted(each.plan for each in past) == sorted(itertools.product(*space.choices.values()))

    def test_plans_depend_on_the_arguments_alone(self, sampler: Sampler) -> None:
        """Equal arguments give equal plans, none of them known: a run that is resumed proposes what it would have."""
        space = space_of(4, 9)
        past = [observation_of(space, plan) for plan in itertools.islice(space.plans(), 0, 3000, 97)]
        known = [each.plan for each in past]
        first = sampler.propose(space, past, known, 3, 5)
        assert len(set(first)) == len(first) == 5
        assert not set(first) & set(known)
        assert sampler.propose(space, past, known, 3, 5) == first

    def test_it_needs_no_past(self, sampler: Sampler) -> None:
        """It can propose before anything was evaluated, and from the original model alone."""
        space = space_of(3, 6)
        dense = ("dense",) * 3
        for past in ([], [observation_of(space, dense)]):
            plans = sampler.propose(space, past, [each.plan for each in past], 0, 3)
            assert 0 < len(plans) <= 3
            assert all(plan in set(space.plans()) for plan in plans)
