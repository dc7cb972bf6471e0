"""Candidates of convolutions: the best chain that a cost allows, against every chain enumerated by plain loops."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from lrfdse.ir.convolution import cuts, filters
from lrfdse.ir.cost import cost_of
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.layer import Layer, Use
from lrfdse.ir.space import SearchSpace
from lrfdse.ir.window import Window
from lrfdse.space.convolution import RATIOS, convolution_bonds, convolution_candidates

SPACE = SearchSpace(dense_ranks_to=64)


def layer_of(window, outputs, channels):
    inputs = channels * math.prod(window.kernel)
    rows = window.batch * math.prod(window.out)
    return Layer("c", outputs, inputs, (Use("c", rows, True, True, window),), outputs, "digest", "conv")


def tails_of(layer, seed=0):
    """Return discarded energies of a random weight at every bond of the layer."""
    weight = np.random.default_rng(seed).normal(size=(layer.outputs, layer.inputs))
    found = {}
    for rows, columns in convolution_bonds(layer):
        # Rows of the unfolding: outputs and the first inputs.
        unfolding = weight.reshape(rows * columns, -1)
        values = np.linalg.svd(unfolding, compute_uv=False) ** 2
        found[rows, columns] = np.concatenate([values[::-1].cumsum()[::-1], [0.0]]) / values.sum()
    return found


def macs_by_hand(window, channels, outputs, ranks, modes):
    """Count the MACs of a chain by the sizes of the images that ONNX's rules give, written out case by case."""
    (height, width), (oh, ow) = window.image, window.out
    (kh, kw) = window.kernel
    three = {  # modes of the inputs: convolutions in the order in which they run, (pixels, weights each)
        (1, kw * kh * channels): [(oh * ow, kh * kw * channels * ranks[0]), (oh * ow, ranks[0] * outputs)],
        (kw, kh * channels): [(oh * width, kh * channels * ranks[0]), (oh * ow, kw * ranks[0] * outputs)],
        (kw * kh, channels): [(height * width, channels * ranks[0]), (oh * ow, kw * kh * ranks[0] * outputs)],
    }
    if len(ranks) > 1:
        three = {
            (1, kw * kh, channels): [
                (height * width, channels * ranks[1]),
                (oh * ow, kh * kw * ranks[1] * ranks[0]),
                (oh * ow, ranks[0] * outputs),
            ],
            (1, kw, kh * channels): [
                (oh * width, kh * channels * ranks[1]),
                (oh * ow, kw * ranks[1] * ranks[0]),
                (oh * ow, ranks[0] * outputs),
            ],
        }
    return window.batch * sum(pixels * weights for pixels, weights in three[modes])


@pytest.mark.parametrize(
    "window",
    [
        Window(1, (7, 11), (3, 5), pads=(1, 2, 1, 2)),
        Window(2, (13, 9), (3, 2), (2, 3), (1, 1), (0, 1, 1, 0)),
        Window(1, (17, 13), (2, 3), (1, 2), (3, 2), (2, 1, 0, 3)),
    ],
)
@pytest.mark.parametrize("ends", [(1,), (0,), (2,), (1, 2), (1, 0)])
def test_macs_are_those_of_the_convolutions(window, ends):
    height, width = window.kernel
    sizes = {0: width, 1: 1, 2: width * height}
    chosen, channels, outputs = sorted(sizes[end] for end in ends), 5, 7
    inputs = channels * width * height
    modes = (chosen[0], *(b // a for a, b in itertools.pairwise([*chosen, inputs])))
    ranks = (3, 4)[: len(chosen)]
    factorization = Factorization((outputs, *[1] * len(chosen)), modes, ranks)
    layer = layer_of(window, outputs, channels)
    expected = macs_by_hand(window, channels, outputs, ranks, modes)
    assert cost_of(layer, factorization, 1).flops == 2 * expected
    assert sum(part.step.macs for part in filters(factorization, window, channels)) == expected


@pytest.mark.parametrize(
    "factorization",
    [
        Factorization((7, 1), (3, 5), (2,), "lr"),
        Factorization((1, 7), (3, 15), (2,)),
        Factorization((7, 1), (5, 9), (2,)),
        Factorization((7, 1), (3, 16), (2,)),
    ],
)
def test_other_trains_are_no_convolutions(factorization):
    with pytest.raises(ValueError, match="no sequence of convolutions"):
        filters(factorization, Window(1, (8, 8), (3, 3)), 5)


def test_dense_costs_are_those_of_the_matrix():
    layer = layer_of(Window(1, (9, 9), (3, 3), (2, 2)), 8, 6)
    dense = Factorization.dense(8, 54)
    assert cost_of(layer, dense, 1).flops == layer.flops == 2 * 8 * 54 * 16
    assert cost_of(layer, dense, 1).peak == 9 * 9 * 6 + 16 * 8


@pytest.mark.parametrize("window", [Window(1, (8, 8), (3, 3), pads=(1,) * 4), Window(1, (8, 8), (1, 1))])
def test_candidates_are_the_best_that_each_cost_allows(window):
    layer = layer_of(window, 11, 13)
    tails = tails_of(layer)
    found, funnel = convolution_candidates(layer, SPACE, 8, tails)
    dense = cost_of(layer, Factorization.dense(11, layer.inputs), 8).flops
    assert [stage for stage, _ in funnel.stages] == ["raw designs", "cheaper than dense", "surrogate front"]
    assert funnel.stages[-1][1] == len(found)
    sizes = {bond: len(tail) - 1 for bond, tail in tails.items()}
    every = []
    for count in range(1, len(cuts(window, 13)) + 1):
        for chosen in itertools.combinations(cuts(window, 13), count):
            modes = (chosen[0], *(b // a for a, b in itertools.pairwise([*chosen, layer.inputs])))
            for ranks in itertools.product(*(range(1, min(24, sizes[11, size]) + 1) for size in chosen)):
                shape = Factorization((11, *[1] * count), modes, ranks)
                error = sum(tails[11, size][rank] for size, rank in zip(chosen, ranks, strict=True))
                every.append((cost_of(layer, shape, 8).flops, error, shape.is_svd))
    for ratio in RATIOS:
        for plain in (True, False):
            possible = [error for flops, error, svd in every if flops * ratio <= dense and (svd or not plain)]
            mine = [
                each.error_bound
                for each in found
                if each.cost.flops * ratio <= dense and (each.factorization.is_svd or not plain)
            ]
            # A grid of at most 24 ranks a bond is looked through where there are several bonds.
            assert bool(mine) == bool(possible)
            if possible:
                assert min(mine) <= min(possible) + (1e-12 if plain else 0.02)
