"""Convolutions fitted to what they read: errors and moments held against onnxruntime and explicit patches."""

from __future__ import annotations

import numpy as np
import pytest

from lrfdse.factorize.fit import Fitter
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.window import Window
from lrfdse.model.data import Dataset
from lrfdse.model.graph import load_model
from lrfdse.model.match.convolutions import patches
from lrfdse.model.passes.cut import exposed
from lrfdse.model.passes.factor import rewrite
from lrfdse.model.runtime import Runtime
from lrfdse.repair.correct import Corrector
from lrfdse.repair.moments import moments

RNG = np.random.default_rng(3)
WEIGHTS = {
    "w1": RNG.normal(size=(11, 5, 3, 3)).astype(np.float32) / 6,
    "c1": RNG.normal(size=11).astype(np.float32),
    "w2": RNG.normal(size=(7, 11, 3, 2)).astype(np.float32) / 8,
    "w3": RNG.normal(size=(4, 7)).astype(np.float32),
}
TEXT = """g (float[n, 5, 7, 9] x) => (float[n, 4] y) {
    a = Conv <pads = [1, 1, 1, 1]> (x, w1, c1)
    r = Relu (a)
    b = Conv <strides = [2, 2], pads = [1, 0, 0, 1]> (r, w2)
    s = Relu (b)
    m = GlobalAveragePool (s)
    f = Flatten (m)
    y = Gemm <transB = 1> (f, w3)
}"""
SECOND = Window(1, (7, 9), (3, 2), (2, 2), pads=(1, 0, 0, 1))
TUCKER = Factorization((7, 1, 1), (1, 6, 11), (4, 5))


@pytest.fixture(scope="module")
def model(kit, tmp_path_factory):
    path = tmp_path_factory.mktemp("convolutions") / "m.onnx"
    return load_model(kit.write(kit.build(TEXT, WEIGHTS), path), kinds=("fc", "conv"))


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(60, 3)) @ rng.normal(size=(3, 5 * 63))
    x = mixed.reshape(60, 5, 7, 9) + 0.3 * rng.normal(size=(60, 5, 7, 9))
    return Dataset({"x": x.astype(np.float32)}, None)


def value(version, data, name):
    return Runtime().run(exposed(version, [name]), data, 16, [name])[name].astype(np.float64)


@pytest.mark.parametrize("most", [1, 500, 10**9])
def test_blocks_of_patches_are_all_patches(most):
    images = np.random.default_rng(1).normal(size=(5, 7, 9, 11))
    blocks = list(patches(images, SECOND, most))
    assert all(block.shape[1] == 66 for block in blocks)
    # A block is at least one row of pixels.
    assert max(block.size for block in blocks) <= max(most, 5 * 66)
    whole = np.concatenate(blocks)
    padded = np.pad(images, ((0, 0), (1, 0), (0, 1), (0, 0)))
    place = 0
    for image in padded:
        for row in range(0, 6, 2):
            for column in range(0, 9, 2):
                patch = image[row : row + 3, column : column + 2].transpose(1, 0, 2)
                np.testing.assert_array_equal(whole[place], patch.ravel())
                place += 1
    assert place == len(whole)


@pytest.mark.parametrize("factorization", [Factorization.svd(7, 66, 3), TUCKER], ids=str)
@pytest.mark.parametrize("method", ["auto", "svd"])
def test_the_output_error_is_what_onnxruntime_finds(model, data, factorization, method):
    seen = moments(model, data, ["w2"], batch=7)["w2"]
    factors = Fitter(model.weight("w2"), seen, method, name="w2").fit(factorization)
    version = rewrite(model, {"w2": factors})
    before, after = value(model.original, data, "b"), value(version, data, "b")
    # The corrected bias leaves the mean of every channel as it was.
    np.testing.assert_allclose(after.mean(axis=(0, 2, 3)), before.mean(axis=(0, 2, 3)), atol=1e-4)
    varied = before - before.mean(axis=(0, 2, 3), keepdims=True)
    assert factors.output_error == pytest.approx(np.linalg.norm(after - before) / np.linalg.norm(varied), rel=1e-3)


def test_no_other_filters_of_that_rank_are_better(model, data):
    seen = moments(model, data, ["w2"])["w2"]
    fitter = Fitter(model.weight("w2"), seen, name="w2")
    found = fitter.fit(Factorization.svd(7, 66, 2))
    rows = np.concatenate(list(patches(np.moveaxis(value(model.original, data, "r"), 1, -1), SECOND, 10**9)))
    outputs = rows @ model.weight("w2").T
    outputs -= outputs.mean(axis=0)
    tail = np.linalg.svd(outputs, compute_uv=False)[2:]
    assert found.output_error == pytest.approx(np.sqrt((tail**2).sum()) / np.linalg.norm(outputs), rel=1e-3)


def test_moments_tie_the_compressed_model_to_the_original(model, data, kit):
    factors = kit.svd_factors(model.weight("w1"), 3)
    version = rewrite(model, {"w1": factors})
    seen = moments(model, data, ["w2"], batch=11, version=version, cross=True)["w2"]
    read, before = (
        np.concatenate(list(patches(np.moveaxis(value(form, data, "r"), 1, -1), SECOND, 10**9)))
        for form in (version, model.original)
    )
    target = before @ model.weight("w2").T
    assert seen.count == len(read) == 60 * 15
    np.testing.assert_allclose(seen.second, read.T @ read / len(read), atol=1e-4)
    centred = (target - target.mean(axis=0)).T @ (read - read.mean(axis=0)) / len(read)
    np.testing.assert_allclose(seen.cross, centred, atol=1e-4)
    assert seen.output_variance == pytest.approx(target.var(axis=0).sum(), rel=1e-4)


def test_a_correction_pass_makes_the_model_better(model, data):
    names = ("w1", "w2")
    seen = moments(model, data, names)
    shapes = {"w1": Factorization.svd(11, 45, 3), "w2": TUCKER}
    factors = {name: Fitter(model.weight(name), seen[name], name=name).fit(shapes[name]) for name in names}
    found = Corrector(model, data, "squared", method="auto").correct(factors, sweeps=1)
    assert found.changed
    # Convolutions have many rows a sample: no sweep moves them.
    assert found.sweeps == 0

    def lost(version):
        return float(np.square(value(version, data, "y") - value(model.original, data, "y")).mean())

    assert lost(rewrite(model, found.factors)) < lost(rewrite(model, factors))
