"""Candidates of layers with a place for two factors only, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from lrfdse.ir.cost import cost_of
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.layer import Layer, Use
from lrfdse.ir.space import SearchSpace
from lrfdse.space.eligible import reason_to_keep_dense
from lrfdse.space.ranks import rank_bonds, rank_candidates

SPACE = SearchSpace(dense_ranks_to=8, rank_step=4)

TAILS = {(20, 1): np.linspace(1.0, 0.0, 21)}


def layer_of(kind, inputs=20, rows=5, table=0):
    return Layer("l", 20, inputs, (Use("l", rows, True, False, None, table),), 20, "digest", kind)


def test_a_table_costs_its_rows_and_a_lookup_costs_no_flops():
    layer = layer_of("embedding", table=300)
    assert (layer.weights, layer.params, layer.flops) == (6000, 6020, 0)
    dense, some = (cost_of(layer, f, 8) for f in (Factorization.dense(20, 20), Factorization.svd(20, 20, 7)))
    assert (dense.params, dense.flops, dense.padded_flops) == (6000, 0, 0)
    assert (some.params, some.flops) == (7 * 300 + 7 * 20, 2 * 5 * 7 * 20)
    assert some.padded_flops == 2 * 5 * min(24 * 7, 20 * 8)
    assert some.peak == 5 * 7 + 5 * 20


@pytest.mark.parametrize(
    ("kind", "inputs", "table"), [("recurrent", 30, 0), ("attention", 30, 0), ("embedding", 20, 64)]
)
def test_every_rank_of_the_grid_that_saves_enough_is_a_candidate(kind, inputs, table):
    layer = layer_of(kind, inputs, table=table)
    assert rank_bonds(layer) == {(20, 1): 20}
    found, funnel = rank_candidates(layer, SPACE, 4, TAILS)
    weights = 20 * (table or inputs)
    wanted = [r for r in (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 20) if 2 * r * (20 + (table or inputs)) <= weights]
    assert [each.factorization for each in found] == [Factorization.svd(20, inputs, rank) for rank in wanted]
    assert [each.cost.params for each in found] == [rank * (20 + (table or inputs)) for rank in wanted]
    assert [each.error_bound for each in found] == pytest.approx([1 - rank / 20 for rank in wanted])
    assert dict(funnel.stages)["surrogate front"] == len(wanted) < dict(funnel.stages)["ranks tried"] == 11


def test_a_table_of_few_rows_stays():
    assert reason_to_keep_dense(layer_of("embedding", table=2), SearchSpace()) == "a side below 16 (min_size)"
    assert reason_to_keep_dense(layer_of("embedding", table=40), SearchSpace()) is None
