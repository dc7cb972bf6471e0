"""Models whose layers are factorized: their chains of products lower to chains of steps, and nothing is copied."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest

from lrfdse.ir.factorization import Factorization
from lrfdse.ir.products import FullyConnected
from lrfdse.model.graph import load_model
from lrfdse.model.passes.factor import rewrite
from lrfdse.model.runtime import Runtime
from lrfdse.program.lower import program
from tests.program.interpreter import run

DESIGNS = {
    "svd": "svd:r=3",
    "svd of a padded layer": "tt:m=25x1,n=1x20,r=3",
    "kronecker": "tt:m=4x6,n=3x6,r=2",
    "tensor train": "tt:m=2x3x4,n=3x3x2,r=3x2",
    "left to right": "tt:m=2x3x4,n=3x3x2,r=3x2,lr",
    "padded": "tt:m=5x5,n=4x5,r=2",
}


def lowered(model, tmp_path, factorization, random_factors, shape=None):
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    loaded = load_model(path, shape)
    factors = random_factors(np.random.default_rng(1), Factorization.parse(factorization, 24, 18), 24)
    design = rewrite(loaded, {loaded.layers[0].name: factors})
    feeds = {"x": np.random.default_rng(2).standard_normal(loaded.inputs[0].fixed).astype(np.float32)}
    runtime = Runtime()
    want = runtime.call(runtime.session(design), feeds)["y"]
    made = program(design, shape)
    got = run(made, feeds)["y"]
    assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()
    return made


@pytest.mark.parametrize("factorization", DESIGNS.values(), ids=DESIGNS)
@pytest.mark.parametrize("rows", [1, 5])
def test_a_layer_of_rows(tmp_path, kit, factorization, rows):
    rng = np.random.default_rng(0)
    text = f"g (float[{rows}, 18] x) => (float[{rows}, 24] y) {{ a = Gemm <transB = 1> (x, w, b)  y = Relu (a) }}"
    model = kit.build(text, {"w": rng.standard_normal((24, 18), "f4"), "b": rng.standard_normal(24, "f4")})
    made = lowered(model, tmp_path, factorization, kit.random_factors)
    f = Factorization.parse(factorization, 24, 18)
    steps = [call.operator.step for call in made.calls if isinstance(call.operator, FullyConnected)]
    kinds = Counter(type(call.operator).__name__ for call in made.calls)
    if (f.outputs, f.inputs) == (24, 18):
        assert tuple(steps) == f.steps(rows)
    if not f.is_svd:
        # Inputs are padded; outputs are cut off, which of one row leaves them where they are.
        assert kinds["Copy"] == (f.inputs > 18) + (f.outputs > 24 and rows > 1)
    else:
        assert kinds == {"FullyConnected": 2}


@pytest.mark.parametrize("factorization", ["svd:r=3", "tt:m=2x3x4,n=3x3x2,r=3x2"])
def test_a_layer_on_columns(tmp_path, kit, factorization):
    rng = np.random.default_rng(0)
    text = "g (float[2, 18, 7] x) => (float[2, 24, 7] y) { a = MatMul (w, x)  y = Add (a, b) }"
    model = kit.build(text, {"w": rng.standard_normal((24, 18), "f4"), "b": rng.standard_normal((24, 1), "f4")})
    made = lowered(model, tmp_path, factorization, kit.random_factors)
    if factorization.startswith("svd"):
        assert [(c.operator.step.batch, c.operator.step.columns) for c in made.calls[:2]] == [(2, 7), (2, 7)]


@pytest.mark.parametrize("factorization", ["svd:r=3", "tt:m=2x3x4,n=3x3x2,r=3x2"])
def test_a_layer_on_sequences(tmp_path, kit, factorization):
    rng = np.random.default_rng(0)
    text = "g (float[n, t, 18] x) => (float[n, t, 24] y) { a = MatMul (x, w)  y = Add (a, b) }"
    model = kit.build(text, {"w": rng.standard_normal((18, 24), "f4"), "b": rng.standard_normal(24, "f4")})
    made = lowered(model, tmp_path, factorization, kit.random_factors, {"x": (2, 6, 18)})
    assert not any(type(call.operator).__name__ == "Copy" for call in made.calls)
