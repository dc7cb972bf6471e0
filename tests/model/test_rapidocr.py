"""A real model with weights in Constant nodes, three-dimensional activations and open sizes, where it is installed."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from lrfdse.errors import InputError
from lrfdse.formats.onnx import serialized
from lrfdse.ir.factorization import Factorization
from lrfdse.model.data import random_data
from lrfdse.model.graph import load_model
from lrfdse.model.passes.factor import rewrite
from lrfdse.model.runtime import Runtime
from lrfdse.quality.outputs import agreements

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def path():
    """Return the recogniser's file inside the package."""
    spec = importlib.util.find_spec("rapidocr_onnxruntime")
    if spec is None:
        pytest.skip("needs the bench extra: pip install 'lrfdse[bench]'")
    return Path(spec.submodule_search_locations[0]) / "models" / "ch_PP-OCRv4_rec_infer.onnx"


@pytest.fixture(scope="module")
def model(path):
    """Return the recogniser at the width that the benchmark uses."""
    return load_model(path, {"x": (1, 3, 48, 320)})


def test_layers(model):
    sizes = [(layer.inputs, layer.outputs) for layer in model.layers]
    block = [(120, 360), (120, 120), (120, 240), (240, 120)]
    assert sizes == [*block, *block, (120, 6625)]
    assert all(layer.uses[0].rows == 40 and layer.uses[0].bias for layer in model.layers)
    assert {entry.op for entry in model.untouched} == {"Conv"}


def test_open_sizes_are_named(path):
    with pytest.raises(InputError, match=r"input x .*--shape x=1x3x\?x\?"):
        load_model(path)


def test_the_head_as_two_factors(model, kit):
    head = model.layers[-1].name
    data = random_data(model.inputs, 2, 0)
    runtime = Runtime()
    before = runtime.run(model.original, data)
    full = rewrite(model, {head: kit.svd_factors(model.weight(head), 120)})
    after = runtime.run(full, data)
    np.testing.assert_allclose(*after.values(), *before.values(), atol=1e-4)
    assert agreements(after, before).tolist() == [1.0, 1.0]
    half = rewrite(model, {head: kit.svd_factors(model.weight(head), 60)})
    assert len(model.content) - len(serialized(half)) > 4 * (120 * 6625 - 60 * (120 + 6625)) - 10_000


def test_the_head_as_a_tensor_train_keeps_the_width_open(model, kit):
    head = model.layers[-1].name
    factorization = Factorization((125, 53), (10, 12), (7,))
    factors = kit.random_factors(np.random.default_rng(0), factorization, 6625)
    version = rewrite(model, {head: factors})
    runtime = Runtime()
    session = runtime.session(version)
    for width, steps in ((320, 40), (160, 20)):
        (scores,) = runtime.call(session, {"x": np.zeros((1, 3, 48, width), np.float32)}).values()
        assert scores.shape == (1, steps, 6625)
