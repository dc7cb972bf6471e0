"""Dense layers in int8 with a repair: held against the singular values of what rounding lost, by the definition."""

from __future__ import annotations

import numpy as np
import pytest

from lrfdse.factorize.chain import dense_weight, weight_of
from lrfdse.factorize.fit import Fitter
from lrfdse.factorize.methods import METHODS
from lrfdse.ir.choice import Choice
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.factors import packed, unpacked
from lrfdse.ir.int8 import LARGEST
from lrfdse.ir.storage import FLOAT32, INT8, QDQ

OUTPUTS, INPUTS = 12, 30
DENSE = Factorization.dense(OUTPUTS, INPUTS)


def data(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(400, INPUTS)) @ rng.normal(size=(INPUTS, INPUTS)) + rng.normal(size=INPUTS)
    return rng.normal(size=(OUTPUTS, INPUTS)), rows


def harm(difference: np.ndarray, covariance: np.ndarray, weighting: np.ndarray | None = None) -> float:
    weighting = np.eye(len(difference)) if weighting is None else weighting
    return float(np.trace(weighting @ difference @ covariance @ difference.T))


def is_between(found: float, values: np.ndarray, rank: int) -> None:
    """Hold what is left against the least of its rank, and that with 2 % of what was removed left by rounding."""
    least, removed = float(np.sum(values[rank:] ** 2)), float(np.sum(values[:rank] ** 2))
    floor = 1e-9 * (least + removed)
    assert (1 - 1e-9) * least - floor <= found <= least + 0.02**2 * removed + floor


@pytest.mark.parametrize("rank", [1, 4, OUTPUTS - 1])
def test_a_repair_takes_back_the_leading_directions_of_what_rounding_lost(rank, moments_of):
    weight, rows = data(0)
    fitter, covariance = Fitter(weight, moments_of(rows)), np.cov(rows.T, bias=True)
    found = fitter.fit(Factorization.repaired(OUTPUTS, INPUTS, rank), INT8)
    lost = weight - dense_weight(fitter.fit(DENSE, INT8).cores)
    values = np.linalg.svd(lost @ np.linalg.cholesky(covariance), compute_uv=False)
    left = weight - found.cores[0][0, :, :, 0] - found.cores[1][0, :, 0, :] @ found.cores[2][:, 0, :, 0]
    is_between(harm(left, covariance), values, rank)
    # What a fit says of itself is true.
    assert found.output_error == pytest.approx(np.sqrt(harm(left, covariance) / harm(weight, covariance)))
    assert found.weight_error == pytest.approx(np.linalg.norm(left) / np.linalg.norm(weight))
    np.testing.assert_allclose(found.bias_shift, left @ rows.mean(axis=0), atol=1e-10)


def test_it_goes_by_the_weighting_of_the_outputs(moments_of):
    weight, rows = data(1)
    covariance, root = np.cov(rows.T, bias=True), np.diag(np.geomspace(30, 0.1, OUTPUTS))
    weighting = root @ root
    f = Factorization.repaired(OUTPUTS, INPUTS, 4)
    aware, blind = (Fitter(weight, moments_of(rows), weighting=each).fit(f, INT8) for each in (weighting, None))
    left = [harm(weight - weight_of(f, each.cores), covariance, weighting) for each in (aware, blind)]
    assert left[0] < 0.5 * left[1]
    assert aware.loss == pytest.approx(left[0] / 2) and blind.loss is None


def test_on_what_a_compressed_model_feeds_it_the_regression_is_what_is_repaired(moments_of):
    weight, rows = data(2)
    rng = np.random.default_rng(3)
    fed = rows + rng.normal(size=rows.shape) * rows.std(axis=0)
    wanted = rows @ weight.T
    fitter = Fitter(weight, moments_of(fed, wanted))
    dense, found = (fitter.fit(each, INT8) for each in (DENSE, Factorization.repaired(OUTPUTS, INPUTS, 4)))
    gives = fed @ weight_of(found.factorization, found.cores).T + found.bias_shift
    spread = wanted - wanted.mean(axis=0)
    assert found.output_error == pytest.approx(np.linalg.norm(wanted - gives) / np.linalg.norm(spread), rel=1e-9)
    # Of the distance to the unrounded fit, a third of the directions takes back most of a third.
    target = fitter.fit(DENSE).cores
    apart = [
        harm(dense_weight(target) - weight_of(e.factorization, e.cores), np.cov(fed.T, bias=True))
        for e in (dense, found)
    ]
    assert apart[1] < 0.7 * apart[0]


def test_without_data_it_is_the_svd_of_what_rounding_lost():
    weight, _ = data(4)
    fitter = Fitter(weight)
    found = fitter.fit(Factorization.repaired(OUTPUTS, INPUTS, 4), INT8)
    lost = weight - dense_weight(fitter.fit(DENSE, INT8).cores)
    left = weight - weight_of(found.factorization, found.cores)
    is_between(harm(left, np.eye(INPUTS)), np.linalg.svd(lost, compute_uv=False), 4)
    assert found.bias_shift is None and found.output_error is None


def test_of_a_large_weight_without_data_the_error_is_that_of_single_precision():
    from dataclasses import replace

    from lrfdse.factorize.thresholds import DEFAULT

    weight, _ = data(5)
    f = Factorization.repaired(OUTPUTS, INPUTS, 4)
    found = Fitter(weight, thresholds=replace(DEFAULT, large=weight.size)).fit(f, INT8)
    left = weight - weight_of(f, found.cores)
    assert found.weight_error == pytest.approx(np.linalg.norm(left) / np.linalg.norm(weight), rel=1e-4)


@pytest.mark.parametrize("method", METHODS.names())
def test_its_matrices_are_levels_and_come_back_from_where_they_are_kept(method, moments_of):
    weight, rows = data(6)
    f = Factorization.repaired(OUTPUTS, INPUTS, 3)
    fitter = Fitter(weight, moments_of(rows), method)
    found = fitter.fit(f, INT8)
    assert found.choice == Choice(f, INT8) and str(found.choice) == "dense+r=3@int8"
    for matrix, scales in zip(f.step_matrices(found.cores), found.step_scales(), strict=True):
        levels = matrix / scales.astype(np.float64)[:, None]
        np.testing.assert_allclose(levels, np.rint(levels), atol=1e-6)
        assert np.abs(levels).max() <= LARGEST + 1e-6
    arrays = packed(found)
    stored = [array for name, array in arrays.items() if name.startswith(("core", "scale"))]
    assert sum(array.nbytes for array in stored) == found.choice.bytes
    again, rounded = unpacked(found.choice, arrays), fitter.stored(fitter.fit(DENSE), found.choice)
    for core, one, other in zip(found.cores, again.cores, rounded.cores, strict=True):
        np.testing.assert_array_equal(core, one)
        np.testing.assert_array_equal(core, other)


@pytest.mark.parametrize("storage", [FLOAT32, QDQ])
def test_there_is_none_where_weights_are_not_rounded_alone(storage, moments_of):
    weight, rows = data(8)
    with pytest.raises(ValueError, match="is not stored as"):
        Fitter(weight, moments_of(rows)).fit(Factorization.repaired(OUTPUTS, INPUTS, 3), storage)


def test_a_layer_of_features_of_very_different_size_needs_it(moments_of):
    rng = np.random.default_rng(7)
    sizes = np.concatenate([np.full(4, 300.0), np.ones(INPUTS - 4)])
    weight, rows = rng.normal(size=(OUTPUTS, INPUTS)) / sizes, rng.normal(size=(2000, INPUTS)) * sizes
    fitter = Fitter(weight, moments_of(rows))
    dense, found = (fitter.fit(each, INT8) for each in (DENSE, Factorization.repaired(OUTPUTS, INPUTS, 4)))
    # Weights of the large features are a three-hundredth of the others, less than a level.
    assert dense.output_error > 0.05 and found.output_error < 0.1 * dense.output_error
