"""Limits of parameters and of bytes, which int8 sets apart, against all plans of two small layers."""

from __future__ import annotations

import itertools

import pytest

from lrfdse.explore.plans.choose import worth_refining
from lrfdse.explore.plans.search import most_words, of_params, tables
from lrfdse.ir.choice import Choice
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.latency import Latency
from lrfdse.ir.layer import Layer, Use
from lrfdse.ir.plan import Design, Plan
from lrfdse.ir.space import Cost, Funnel
from lrfdse.ir.storage import FLOAT32, INT8, words_of
from lrfdse.results.exploration import LayerResult, MeasuredChoice
from lrfdse.results.settings import Limits
from lrfdse.search.plans.knapsack import plans

SIZE = 64


def option(shape, storage):
    """Slower and less exact in int8, and the smaller, the more is lost."""
    scaled = storage == INT8
    us = shape.params / 1000 * (1.2 if scaled else 1.0)
    error = 0.0 if shape.is_dense else 10.0 / shape.params
    choice = Choice(shape, storage)
    return MeasuredChoice(
        choice,
        Cost.of(shape, 1, 4),
        shape.params + SIZE,
        choice.bytes + 4 * SIZE,
        error,
        error + 1e-3 * scaled,
        *(Latency(us, us, us), Latency(us, us, us), 0.0, ("",)),
    )


def layer_of(name, storages):
    shapes = [Factorization.dense(SIZE, SIZE), *(Factorization.svd(SIZE, SIZE, rank) for rank in (2, 4, 8, 12, 16))]
    options = [option(shape, storage) for storage in storages for shape in shapes]
    if FLOAT32 not in storages:
        options = [option(shapes[0], FLOAT32), *options]
    layer = Layer(name, SIZE, SIZE, (Use(name, 1, True, False),), SIZE, name)
    return LayerResult(layer, 0.5, 10.0, Funnel(()), tuple(options))


def every_plan(layers):
    """Return parameters, bytes, latency and squared errors of every plan, by its texts."""
    found = {}
    for chosen in itertools.product(*(layer.options for layer in layers)):
        sums = [sum(values) for values in zip(*((o.params, o.bytes, o.warm.us, o.error) for o in chosen), strict=True)]
        found[tuple(o.text for o in chosen)] = sums
    return found


@pytest.mark.parametrize("storages", [(FLOAT32,), (INT8,), (FLOAT32, INT8)], ids=["float32", "int8", "both"])
@pytest.mark.parametrize("limits", [Limits(max_params=3000), Limits(max_size=6000), Limits(0.01, 4000, max_size=9000)])
def test_plans_within_both_limits_are_those_of_the_front_that_all_plans_make(storages, limits):
    layers = [layer_of(name, storages) for name in "ab"]
    every = every_plan(layers)
    front = plans(tables(layers, "warm"), max_params=most_words(limits, layers))
    if limits.max_params is not None:
        front = of_params(front, layers, limits.max_params)
    found = {tuple(front.texts(i).values()) for i in range(len(front))}

    def is_within(plan):
        params, size, *_ = every[plan]
        return params <= (limits.max_params or params) and size <= (limits.max_size or size)

    def beats(a, b):
        (_, x, *first), (_, y, *second) = every[a], every[b]
        ours, theirs = (words_of(x), *first), (words_of(y), *second)
        return all(p <= q + 1e-12 for p, q in zip(ours, theirs, strict=True)) and ours != theirs

    assert found and all(map(is_within, found))
    missed = [plan for plan in every if is_within(plan) and not any(beats(other, plan) for other in every)]
    same = {tuple(round(value, 9) for value in every[plan][1:]) for plan in found}
    assert all(tuple(round(value, 9) for value in every[plan][1:]) in same for plan in missed)


def test_a_design_of_few_bytes_and_many_parameters_is_not_refined_beyond_the_limit_of_either():
    def design(identity, params, size):
        plan = Plan((("a", Choice(Factorization.dense(4, 4))),))
        costs = (identity, plan, params, size, params, Latency(5.0, 5.0, 5.0), "warm")
        return Design(*costs, 0.9, 0.9, 0.9, 0.0, "knapsack")

    base = Design("base", design("x", 1, 4).plan, 9000, 36000, 9000, Latency(9, 9, 9), "warm", 0.9, 0.9, 0.9, 0.0, "d")
    small = design("int8", 4000, 4000)

    def refined(limits):
        return [each.id for each in worth_refining([base, small], base, "accuracy", limits)]

    assert refined(Limits(0.01, max_params=4000, max_size=4000)) == ["int8"]
    assert refined(Limits(0.01, max_params=3999)) == []
    assert refined(Limits(0.01, max_size=3999)) == []
