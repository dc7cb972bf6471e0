"""What trains of equal modes share changes no digit of any."""

from __future__ import annotations

import numpy as np
import pytest

from lrfdse.factorize.fit import Fitter
from lrfdse.factorize.linalg import leading_split
from lrfdse.factorize.splits import Splits
from lrfdse.factorize.thresholds import Thresholds
from lrfdse.factorize.tt import tt_svd
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.factors import Moments

TRAINS = (
    *("tt:m=4x3,n=4x5,r=6", "tt:m=4x3,n=4x5,r=2", "tt:m=3x4,n=4x5,r=2", "tt:m=2x3x2,n=5x2x2,r=5x3"),
    *("tt:m=2x3x2,n=5x2x2,r=7x2", "tt:m=12x1,n=4x5,r=3", "tt:m=12x1,n=4x5,r=4", "tt:m=1x12,n=5x4,r=3,lr"),
    *("svd:r=3", "svd:r=5", "svd:r=12"),
)


def fitter(rows=64, weighted=True):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 20)) @ rng.normal(size=(20, 20))
    half = rng.normal(size=(12, 12))
    seen = Moments(rows, x.mean(axis=0), x.T @ x / rows)
    return Fitter(rng.normal(size=(12, 20)), seen, weighting=half @ half.T if weighted else None)


def same(one, other):
    assert all(np.array_equal(a, b) for a, b in zip(one.cores, other.cores, strict=True))
    assert np.array_equal(one.bias_shift, other.bias_shift)
    assert (one.weight_error, one.output_error, one.loss) == (other.weight_error, other.output_error, other.loss)


@pytest.mark.parametrize("weighted", [True, False])
def test_fits_do_not_depend_on_those_before(weighted):
    shared = fitter(weighted=weighted)
    for text in (*TRAINS, *TRAINS[::-1]):
        shape = Factorization.parse(text, 12, 20)
        same(shared.fit(shape), fitter(weighted=weighted).fit(shape))
    shared.problem.release()
    shape = Factorization.parse(TRAINS[0], 12, 20)
    same(shared.fit(shape), fitter(weighted=weighted).fit(shape))


@pytest.mark.parametrize("weighted", [True, False])
def test_errors_are_those_of_the_outputs(weighted):
    """Against the definition: shares of what the difference does to centred rows."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 20)) @ rng.normal(size=(20, 20))
    x = x - x.mean(axis=0)
    of = fitter(weighted=weighted)
    for text in TRAINS:
        found = of.fit(Factorization.parse(text, 12, 20))
        dense = np.zeros((12, 20))
        for k in range(20):
            unit = np.zeros((1, 20))
            unit[0, k] = 1.0
            dense[:, k] = _applied(found, unit)
        d = x @ (of.weight - dense).T
        assert found.output_error == pytest.approx(np.linalg.norm(d) / np.linalg.norm(x @ of.weight.T), rel=1e-9)
        if weighted:
            loss = np.einsum("sm,mk,sk->", d, of.weighting, d) / len(x) / 2
            assert found.loss == pytest.approx(loss, rel=1e-9)


def _applied(factors, rows):
    from lrfdse.factorize.chain import dense_weight

    return (rows @ dense_weight(factors.cores).T)[0]


@pytest.mark.parametrize("side", [1536, 4])
@pytest.mark.parametrize("shape", [(12, 30), (30, 12)])
def test_a_split_is_the_leading_one_whatever_was_kept(shape, side):
    matrix = np.random.default_rng(1).normal(size=shape)
    thresholds, splits = Thresholds(direct_side=side), Splits(most=500)
    for name, rank in (("a", 3), ("a", 12), ("b", 5), ("a", 40), ("b", 1), ("a", 3)):
        given = matrix if name == "a" else 2 * matrix
        for one, other in zip(
            splits.split(name, given, rank, thresholds), leading_split(given, rank, thresholds), strict=True
        ):
            assert np.array_equal(one, other)


def test_one_matrix_is_taken_apart_once():
    """A name stands for its matrix: what is kept is not looked at again."""
    rng = np.random.default_rng(2)
    matrix, splits = rng.normal(size=(12, 20)), Splits()
    train = Factorization.parse(TRAINS[0], 12, 20)
    first = tt_svd(matrix, train, splits=splits)
    again = tt_svd(rng.normal(size=(12, 20)), train, splits=splits)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    other = tt_svd(rng.normal(size=(12, 20)), train, splits=splits, name="other")
    assert not np.array_equal(first[0], other[0])


def test_no_more_is_kept_than_may_be():
    rng = np.random.default_rng(3)
    splits = Splits(most=12 * 12 + 12 + 12 * 20)
    one, two = (rng.normal(size=(12, 20)) for _ in range(2))
    splits.split("one", one, 3)
    splits.split("two", two, 3)
    # The first gave way, so its name takes another matrix.
    assert np.array_equal(splits.split("one", two, 3)[0], leading_split(two, 3)[0])
