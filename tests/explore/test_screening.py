"""Candidates of a layer screened by short fits."""

from __future__ import annotations

import numpy as np
import pytest

from lrfdse.base.store import Store
from lrfdse.explore.layers.errors import fit_threads
from lrfdse.explore.layers.fits import Fits
from lrfdse.explore.layers.screening import screened_front
from lrfdse.factorize.fit import Fitter
from lrfdse.ir.choice import Choice
from lrfdse.ir.cost import cost_of
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.factors import Moments
from lrfdse.ir.layer import Layer, Use
from lrfdse.ir.space import Candidate

LAYER = Layer("fc", 24, 32, (Use("fc", 1, True, False),), 0, "digest")
TRAINS = ["tt:m=24x1,n=4x8,r=4", "tt:m=24x1,n=4x8,r=8", "tt:m=4x6,n=4x8,r=6", "tt:m=6x4,n=8x4,r=12"]


@pytest.fixture(scope="module")
def fitter():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((200, 32)) * np.geomspace(4, 0.1, 32)
    moments = Moments(len(rows), rows.mean(axis=0), rows.T @ rows / len(rows))
    return Fitter(rng.standard_normal((24, 32)), moments)


def candidates(texts):
    shapes = [Factorization.parse(text, 24, 32) for text in texts]
    return [Candidate(shape, cost_of(LAYER, shape, 8), 1.0) for shape in shapes]


@pytest.mark.parametrize("threads", [1, 2])
def test_the_screened_front_holds_what_nothing_beats_in_order_of_size(fitter, threads, tmp_path):
    fits = Fits({"fc": fitter}, "data", Store(tmp_path))
    every = candidates(["svd:r=2", "svd:r=6", *TRAINS])
    told = []
    front = screened_front(LAYER, fits, every, threads, told.append)
    assert told == [each.factorization for each in every]
    errors = {each.factorization: fits.screened(LAYER, Choice(each.factorization)).output_error ** 2 for each in every}

    def beaten(one):
        return any(
            other.factorization != one.factorization
            and other.cost.params <= one.cost.params
            and other.cost.padded_flops <= one.cost.padded_flops
            and errors[other.factorization] <= errors[one.factorization]
            for other in every
        )

    assert {each.factorization for each in front} == {each.factorization for each in every if not beaten(each)}
    assert [each.error_bound for each in front] == [errors[each.factorization] for each in front]
    assert [each.cost.params for each in front] == sorted(each.cost.params for each in front)


def test_short_fits_never_stand_for_whole_ones_and_are_found_again(fitter, tmp_path):
    fits, shape = Fits({"fc": fitter}, "data", Store(tmp_path)), Factorization.parse("tt:m=4x6,n=4x8,r=6", 24, 32)
    short = fits.screened(LAYER, Choice(shape))
    whole = fits.errors(LAYER, Choice(shape))
    # Sweeps never raise the error.
    assert whole.output_error < short.output_error
    assert fits.errors(LAYER, Choice(shape)) == whole
    # Another process, which could not fit anything, reads both.
    blind = Fits({"fc": Fitter(np.zeros((24, 32)), fitter.moments)}, "data", Store(tmp_path))
    assert (blind.screened(LAYER, Choice(shape)), blind.errors(LAYER, Choice(shape))) == (short, whole)


def test_an_svd_is_screened_exactly(fitter, tmp_path):
    fits, shape = Fits({"fc": fitter}, "data", Store(tmp_path)), Factorization.svd(24, 32, 5)
    values = np.linalg.svd(fitter.weight @ fitter.root, compute_uv=False)
    expected = np.sqrt((values[5:] ** 2).sum() / (values**2).sum())
    assert fits.screened(LAYER, Choice(shape)).output_error == pytest.approx(expected, rel=1e-6)


def test_fits_of_large_layers_are_made_one_after_the_other():
    large = Layer("fc", 4096, 4096, LAYER.uses, 0, "digest")
    assert (fit_threads(LAYER, 3), fit_threads(large, 3)) == (3, 1)
