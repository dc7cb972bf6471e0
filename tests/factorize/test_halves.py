"""Fits in float16: true errors, which rounding hardly adds to, and what stores keep of them."""

from __future__ import annotations

import numpy as np
import pytest

from lrfdse.factorize.chain import dense_weight
from lrfdse.factorize.fit import Fitter
from lrfdse.ir.choice import Choice
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.factors import Moments, packed, unpacked
from lrfdse.ir.storage import FLOAT16, FLOAT32

SHAPES = ("dense", "svd:r=6", "tt:m=24x1,n=1x30,r=6,lr", "tt:m=4x6,n=5x6,r=7", "tt:m=2x3x4,n=3x2x5,r=4x5,lr")


def fitter() -> tuple[Fitter, np.ndarray]:
    rng = np.random.default_rng(5)
    rows = rng.standard_normal((500, 30)) * np.geomspace(3, 0.01, 30) + rng.standard_normal(30)
    weight = rng.standard_normal((24, 30))
    return Fitter(weight, Moments(len(rows), rows.mean(axis=0), rows.T @ rows / len(rows))), rows


@pytest.mark.parametrize("text", SHAPES)
def test_errors_are_those_of_the_rounded_cores(text) -> None:
    made, rows = fitter()
    f = Factorization.parse(text, 24, 30)
    found = made.fit(f, FLOAT16)
    assert found.choice == Choice(f, FLOAT16)
    for core in found.cores:
        np.testing.assert_array_equal(core.astype(np.float16).astype(np.float64), core)
    lost = (made.weight - dense_weight(found.cores)[:24, :30]) @ (rows - rows.mean(axis=0)).T
    whole = made.weight @ (rows - rows.mean(axis=0)).T
    assert found.output_error == pytest.approx(np.linalg.norm(lost) / np.linalg.norm(whole), rel=1e-6)
    exact = made.fit(f, FLOAT32)
    # Rounding is independent of what the fit leaves, and at most 2^-11 of each of up to three cores.
    assert exact.output_error is not None and found.output_error is not None
    assert found.output_error <= np.hypot(exact.output_error, 3 * 2.0**-11)
    assert found.output_error > 0
    for one, other in zip(made.stored(exact, Choice(f, FLOAT16)).cores, found.cores, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("text", SHAPES)
def test_stores_keep_two_bytes_a_weight_and_lose_nothing(text) -> None:
    made, _ = fitter()
    found = made.fit(Factorization.parse(text, 24, 30), FLOAT16)
    arrays = packed(found)
    cores = [array for name, array in arrays.items() if name.startswith("core")]
    assert {core.dtype for core in cores} == {np.dtype(np.float16)}
    assert sum(core.nbytes for core in cores) == found.choice.bytes
    again = unpacked(found.choice, arrays)
    assert again.choice == found.choice
    for core, other in zip(found.cores, again.cores, strict=True):
        np.testing.assert_array_equal(core, other)
