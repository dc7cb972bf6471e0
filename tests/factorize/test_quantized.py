"""Cores in int8: what they stand for, and that fitting to rounded ones loses less than rounding alone."""

from __future__ import annotations

import numpy as np
import pytest

from lrfdse.factorize.chain import dense_weight
from lrfdse.factorize.fit import Fitter
from lrfdse.factorize.quantized import quantized
from lrfdse.factorize.rounding import against_moment
from lrfdse.ir.choice import Choice
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.factors import Moments, packed, unpacked
from lrfdse.ir.int8 import LARGEST, nearest
from lrfdse.ir.storage import FLOAT32, INT8

SHAPES = ("dense", "svd:r=6", "tt:m=24x1,n=1x30,r=6,lr", "tt:m=4x6,n=5x6,r=7", "tt:m=2x3x4,n=3x2x5,r=4x5,lr")


def data(seed: int, inputs: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of inputs of very different sizes that depend on each other, and their covariance about the mean."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((inputs, inputs)) * np.geomspace(3, 0.01, inputs)
    rows = rng.standard_normal((500, inputs)) @ mixing + rng.standard_normal(inputs)
    return rows, np.cov(rows.T, bias=True)


def moments(rows: np.ndarray) -> Moments:
    return Moments(len(rows), rows.mean(axis=0), rows.T @ rows / len(rows))


def lost(weight: np.ndarray, cores, covariance: np.ndarray) -> float:
    difference = weight - dense_weight(cores)[: weight.shape[0], : weight.shape[1]]
    return float(np.trace(difference @ covariance @ difference.T))


@pytest.mark.parametrize("text", SHAPES)
def test_step_matrices_are_levels_times_scales(text) -> None:
    weight = np.random.default_rng(1).standard_normal((24, 30))
    rows, _ = data(2)
    f = Factorization.parse(text, 24, 30)
    found = Fitter(weight, moments(rows)).fit(f, INT8)
    assert found.choice == Choice(f, INT8)
    for matrix, scales in zip(f.step_matrices(found.cores), found.step_scales(), strict=True):
        levels = matrix / scales.astype(np.float64)[:, None]
        np.testing.assert_allclose(levels, np.rint(levels), atol=1e-6)
        assert np.abs(levels).max() <= LARGEST + 1e-6
    again = unpacked(found.choice, packed(found))
    for core, other in zip(found.cores, again.cores, strict=True):
        np.testing.assert_array_equal(core, other)


@pytest.mark.parametrize("text", SHAPES)
def test_it_loses_less_than_rounding_to_nearest(text) -> None:
    rng = np.random.default_rng(3)
    weight = rng.standard_normal((24, 30))
    rows, covariance = data(4)
    f = Factorization.parse(text, 24, 30)
    exact = Fitter(weight, moments(rows)).fit(f).cores
    cores, _ = quantized(weight, f, exact, covariance)
    plain = f.step_cores([nearest(matrix).dense() for matrix in f.step_matrices(exact)])
    floor = lost(weight, exact, covariance)
    assert lost(weight, cores, covariance) - floor < 0.7 * (lost(weight, plain, covariance) - floor)


@pytest.mark.parametrize("text", ["tt:m=2x3x4,n=3x2x5,r=4x5,lr", "tt:m=4x3x2,n=2x3x5,r=5x6"])
def test_a_matrix_between_others_makes_up_for_what_was_rounded_before_it(text) -> None:
    f = Factorization.parse(text, 24, 30)
    rng = np.random.default_rng(11)
    exact = [rng.standard_normal(shape) for shape in f.core_shapes]
    weight, (_, covariance) = dense_weight(exact), data(12)
    cores, _ = quantized(weight, f, exact, covariance)
    in_order = f.step_matrices(exact)
    reads = np.eye(30)
    for place, step in enumerate(f.steps()):
        reads = reads.reshape(step.batch, step.inner, step.columns, 30)
        moment = np.einsum("pkqn,nm,plqm->kl", reads, covariance, reads)
        matrix = best_last(f, in_order, weight, covariance) if place == len(in_order) - 1 else in_order[place]
        in_order[place] = against_moment(matrix, moment).dense()
        reads = np.einsum("jk,pkqn->pjqn", in_order[place], reads)
    # Where the last matrix alone makes up for what was rounded before it, more is lost.
    assert lost(weight, cores, covariance) < 0.95 * lost(weight, f.step_cores(in_order), covariance)


def best_last(f: Factorization, matrices: list[np.ndarray], weight: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Return the last matrix of the least loss, the others as given: least squares over its elements."""
    root, last = np.linalg.cholesky(covariance + 1e-12 * np.eye(len(covariance))), matrices[-1]
    units = [unit.reshape(last.shape) for unit in np.eye(last.size)]
    columns = np.stack([(dense_weight(f.step_cores([*matrices[:-1], u])) @ root).ravel() for u in units], axis=1)
    return np.linalg.lstsq(columns, (weight @ root).ravel(), rcond=None)[0].reshape(last.shape)


def test_errors_and_the_bias_are_of_the_rounded_cores() -> None:
    weight = np.random.default_rng(5).standard_normal((24, 30))
    rows, _ = data(6)
    found = Fitter(weight, moments(rows)).fit(Factorization.svd(24, 30, 5), INT8)
    left = rows @ (weight - dense_weight(found.cores)).T
    assert found.bias_shift is not None and found.output_error is not None
    np.testing.assert_allclose(found.bias_shift, left.mean(axis=0), atol=1e-9)
    outputs = rows @ weight.T
    ratio = np.linalg.norm(left - left.mean(axis=0)) / np.linalg.norm(outputs - outputs.mean(axis=0))
    assert found.output_error == pytest.approx(ratio, rel=1e-6)


def test_without_data_every_element_goes_to_the_nearest_level() -> None:
    weight = np.random.default_rng(7).standard_normal((24, 30))
    f = Factorization.svd(24, 30, 5)
    fitter = Fitter(weight)
    plain, found = fitter.fit(f), fitter.fit(f, INT8)
    assert plain.storage == FLOAT32
    for matrix, rounded in zip(f.step_matrices(plain.cores), f.step_matrices(found.cores), strict=True):
        np.testing.assert_array_equal(nearest(matrix).dense(), rounded)


@pytest.mark.parametrize("text", SHAPES)
def test_zeros_and_constant_inputs_are_right(text) -> None:
    rng = np.random.default_rng(8)
    weight = rng.standard_normal((24, 30))
    weight[:, 3] = 0.0
    weight[5] = 0.0
    rows, _ = data(9)
    rows[:, 7], rows[:, 8] = 2.5, 0.0
    found = Fitter(weight, moments(rows)).fit(Factorization.parse(text, 24, 30), INT8)
    assert all(np.isfinite(core).all() for core in found.cores)
    assert all((scales > 0).all() for scales in found.step_scales())
    assert found.output_error is not None and found.output_error < 1
    nothing = Fitter(np.zeros((24, 30)), moments(rows)).fit(Factorization.parse(text, 24, 30), INT8)
    assert not dense_weight(nothing.cores).any()
