"""The stages of a search: what each may spend, and that one can be added, left out and run alone."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from lrfdse.explore.plans.stages import STAGES, Search, Stage, best_svd, dense_int8, near_limit
from lrfdse.explore.plans.trials import SearchRequest
from lrfdse.ir.choice import Choice as Chosen
from lrfdse.ir.latency import Latency
from lrfdse.ir.plan import Design, Plan
from lrfdse.results.settings import Limits
from lrfdse.search.plans.knapsack import plans
from lrfdse.search.plans.tables import Choice, LayerTable
from lrfdse.search.samplers.builtin import open_sampler

LAYERS = ("a", "b", "c")
RANKS = tuple(range(20, 0, -1))
DENSE = 64
"""Outputs and inputs of each layer."""
CHOICES = (
    Choice("dense", DENSE * DENSE, 50.0, 0.0),
    *(Choice(f"svd:r={rank}", 2 * DENSE * rank, 2.0 * rank, 0.5 / rank**2) for rank in RANKS),
)
TABLES = [LayerTable(name, CHOICES) for name in LAYERS]


class Trials:
    """Evaluates at once: a plan scores one less its predicted errors."""

    def __init__(self):
        self.found = {}
        self.refined = []
        self.ahead = None

    def designs(self):
        return list(self.found.values())

    def has(self, texts):
        return tuple(texts[name] for name in LAYERS) in self.found

    def run(self, plans, origin):
        return [self.evaluated(tuple(plan.get(name, "dense") for name in LAYERS), origin) for plan in plans]

    def sample(self, sampler, count):
        for rank in range(count):
            self.evaluated((f"svd:r={1 + rank % 20}", f"svd:r={1 + rank // 20}", "dense"), sampler.name)

    def refine(self, designs, ahead=None):
        self.refined += [design.id for design in designs]
        self.ahead = ahead or self.ahead
        return list(designs)

    def evaluated(self, texts, origin):
        chosen = [next(c for c in CHOICES if c.text == text) for text in texts]
        us, score = sum(c.latency_us for c in chosen), 1 - sum(c.error for c in chosen)
        plan = Plan(tuple((n, Chosen.parse(t, DENSE, DENSE)) for n, t in zip(LAYERS, texts, strict=True)))
        params = sum(c.params for c in chosen)
        costs = ("|".join(texts), plan, params, 4 * params, 2 * params, Latency(us, us, us), "warm")
        return self.found.setdefault(texts, Design(*costs, score, score, score, 0.0, origin))


def search_of(budget, verified=True, sampler="nsga2", **more):
    trials = Trials()
    base = trials.evaluated(("dense",) * 3, "dense")
    request = SearchRequest(budget=budget, limits=Limits(max_drop=0.05), **more)
    front = plans(TABLES)
    return Search(request, trials, TABLES, TABLES, 10**9, front, open_sampler(sampler), "accuracy", base, verified)


def alone(budget, wrong=()):
    """Return a search in which the last layer alone has choices; ranks in `wrong` cannot be evaluated."""
    search = search_of(budget)
    tables = [LayerTable(name, CHOICES if name == "c" else CHOICES[:1]) for name in LAYERS]
    search.warm = search.cold = tables
    search.front = plans(tables)
    run = search.trials.run
    search.trials.run = lambda asked, origin: [] if asked[0].get("c") in wrong else run(asked, origin)
    return search


@pytest.mark.parametrize("wrong", [(), ("svd:r=9",)])
def test_one_layer_is_bisected(wrong):
    """0.5 / r^2 is at most 0.05 from rank 4 on: found in about log2 of 21 plans, and then a few beyond."""
    search = alone(60, wrong)
    found = spent(search)
    tried = {design.plan.texts()["c"] for design in search.trials.designs()}
    assert {"svd:r=4", "svd:r=3"} <= tried
    assert 0 < found["bisection"] <= 8 and found["sampler"] == found["useful front"] == 0
    assert len(search.trials.designs()) < 25
    assert search.recommended.plan.texts()["c"] == "svd:r=4"


def test_several_layers_are_not_bisected():
    assert spent(search_of(60))["bisection"] == 0


def spent(search, stages=STAGES):
    """Return how many designs each stage has added, by its name."""
    found = {}
    for stage in stages:
        before = len(search.trials.designs())
        stage.run(search)
        found[stage.name] = len(search.trials.designs()) - before
    return found


def test_all_layers_dense_in_int8_are_a_baseline_where_int8_is_a_choice():
    search = search_of(40)
    asked = []
    search.trials.run = lambda plans, origin: asked.append((list(plans), origin))
    dense_int8(search, 1)
    assert not asked, "where no layer has that choice"
    stored = Choice("dense@int8", DENSE * DENSE // 4, 60.0, 0.001)
    search.warm = [LayerTable(name, CHOICES if name == "b" else (*CHOICES, stored)) for name in LAYERS]
    dense_int8(search, 0)
    assert not asked, "where nothing is left of the budget"
    dense_int8(search, 1)
    assert asked == [([{"a": "dense@int8", "b": "dense", "c": "dense@int8"}], "dense-int8")]
    rounded = Choice("dense@qdq", DENSE * DENSE // 4, 30.0, 0.002)
    search.warm = [LayerTable(t.layer, (*t.choices, rounded) if t.layer == "a" else t.choices) for t in search.warm]
    asked.clear()
    dense_int8(search, 2)
    assert asked[1:] == [([{"a": "dense@qdq", "b": "dense", "c": "dense"}], "dense-qdq")]


def test_what_the_comparison_will_refine_is_begun_beside_the_refinement():
    search = search_of(40)
    spent(search)
    assert search.recommended is not search.base
    assert search.trials.ahead is not None and search.trials.has(search.trials.ahead)
    assert search.trials.refined[-1] == search.trials.found[tuple(search.trials.ahead.values())].id


@pytest.mark.parametrize("budget", [1, 2, 5, 20, 40, 101])
def test_no_stage_spends_more_than_its_share_and_all_together_no_more_than_the_budget(budget):
    search = search_of(budget)
    found = spent(search)
    assert found["uniform SVD"] <= 0.15 * budget
    assert found["front"] <= 0.25 * budget
    first = 1 + found["uniform SVD"] + found["front"]
    # What the sampler is to have is left alone, and one place for the comparison.
    assert first + found["useful front"] <= max(first, budget - 1 - int(0.15 * budget))
    assert found["relaxation"] == found["refinement"] == 0
    assert found["comparison"] <= 1
    assert len(search.trials.designs()) <= budget


def test_a_large_budget_is_used_up_by_every_stage():
    search = search_of(40)
    found = spent(search)
    # Six ratios: 2, 4, 6, 12, 16 and 32, which are the ranks 16, 8, 5, 2, 2 and 1.
    assert found["uniform SVD"] == 5 and found["front"] >= 5 and found["sampler"] >= 6
    assert {design.origin for design in search.trials.designs()} >= {"dense", "uniform-svd", "knapsack", "nsga2"}
    assert search.recommended is not None and search.recommended.id in search.trials.refined
    assert search.recommended.score("accuracy") >= 0.95


def test_nothing_is_recommended_that_nobody_measured_unless_the_user_accepts_it():
    search = search_of(40, verified=False)
    found = spent(search)
    assert found["front"] > 0 and found["sampler"] > 0
    assert (search.recommended, search.plain, search.trials.refined, search.notes) == (None, None, [], [])
    accepted = search_of(40, verified=False, accept_unverified=True)
    spent(accepted)
    assert accepted.recommended is not None


def test_a_sampler_that_tries_everything_gets_the_place_of_the_comparison_and_no_relaxation():
    whole, other = search_of(10, sampler="exhaustive"), search_of(10)
    assert (whole.left(), other.left()) == (9, 8)
    whole.request = dataclasses.replace(whole.request, limits=Limits(max_drop=-1.0))
    dict(zip([stage.name for stage in STAGES], STAGES, strict=True))["relaxation"].run(whole)
    assert whole.notes == []


def test_a_stage_of_ones_own_gets_its_share_after_what_it_is_to_leave():
    given = []
    search = search_of(100)
    stages = [
        Stage("third", lambda _, most: given.append(most), share=0.3),
        Stage("rest", lambda _, most: given.append(most), reserve=0.4),
        Stage("recommended", lambda _, most: given.append(most), share=0.1, recommends=True),
    ]
    for stage in stages:
        stage.run(search)
    # One of the hundred is the original model, and one is kept for the comparison.
    assert given == [30, 58, 10]
    stages[2].run(search_of(100, verified=False))
    assert len(given) == 3


def test_the_useful_part_of_the_front_ends_where_designs_lose_too_much():
    search = search_of(40)
    front = search.front
    by_texts = {tuple(front.texts(i)[name] for name in LAYERS): float(front.error[i]) for i in range(len(front))}
    some = [search.trials.evaluated(texts, "knapsack") for texts in list(by_texts)[::5]]
    near = near_limit(front, some, search.base, "accuracy", Limits(max_drop=0.05))
    # 2.5 times the allowed loss is of use; the score loses exactly what is predicted.
    useful = max(error for texts, error in by_texts.items() if error <= 0.125 and texts in search.trials.found)
    assert sorted(near.error) == sorted(error for error in by_texts.values() if error <= useful)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6, 1.0])
def test_the_svd_to_compare_with_is_the_best_of_all_at_its_size(share):
    rng = np.random.default_rng(0)
    tables = [
        LayerTable(
            name,
            (
                Choice("dense", 4096, 50.0, 0.0),
                Choice("tt:4x16,8x8:r=2:lr", 100, 1.0, 1e-9),
                *(
                    Choice(f"svd:r={r}", 128 * r, float(rng.uniform(1, 60)), float(rng.uniform(0, 1 / r)))
                    for r in RANKS
                ),
            ),
        )
        for name in LAYERS
    ]
    most = int(share * 3 * 4096)
    plain = [[c for c in table.choices if not c.text.startswith("tt")] for table in tables]
    whole = [each for each in itertools.product(*plain) if sum(c.params for c in each) <= most]
    least = min(sum(c.error for c in each) for each in whole)
    found = best_svd(tables, most)
    chosen = [table.choices[table.find(found[table.layer])] for table in tables]
    assert sum(c.params for c in chosen) <= most
    assert sum(c.error for c in chosen) == pytest.approx(least, rel=1e-12)
    assert best_svd(tables, 3 * 128 - 1) is None
