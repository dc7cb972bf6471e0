"""Tables of embeddings in int8: what is stored, what it stands for, and what its rounding adds to errors."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import onnxruntime
import pytest

from lrfdse.factorize.fit import Fitter
from lrfdse.formats.onnx import as_proto
from lrfdse.ir.choice import Choice
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.factors import Moments, packed, unpacked
from lrfdse.ir.storage import INT8
from lrfdse.model.graph import load_model
from lrfdse.model.passes.factor import rewrite
from lrfdse.model.tables import table_rows

ROWS, WIDTH = 300, 12

TEXT = """g (int64[n] i, int64[n] j) => ({kind}[n, 12] y, {kind}[n, 12] z)
    {{ y = Gather (words, i)  z = Gather (words, j) }}"""

SHAPES = {"dense": Factorization.dense(WIDTH, WIDTH), "svd": Factorization.svd(WIDTH, WIDTH, 5)}


def table(dtype=np.float32):
    rng = np.random.default_rng(0)
    # Columns of very different sizes, one of them zero.
    return (rng.standard_normal((ROWS, WIDTH)) * np.geomspace(4, 0.01, WIDTH) * (np.arange(WIDTH) != 7)).astype(dtype)


@pytest.fixture(params=[(17, np.float32), (11, np.float32), (17, np.float16)], ids=["opset 17", "opset 11", "float16"])
def model(request, make):
    opset, dtype = request.param
    kind = {np.float32: "float", np.float16: "float16"}[dtype]
    return load_model(make(TEXT.format(kind=kind), {"words": table(dtype)}, opset=opset))


def fitter_of(model):
    rows = table_rows(model, "words")
    read = rows[np.random.default_rng(1).integers(0, ROWS, 2000)].astype(np.float64)
    seen = Moments(len(read), read.mean(axis=0), read.T @ read / len(read))
    weighting = np.diag(np.linspace(1, 2, WIDTH))
    return Fitter(model.weight("words"), seen, weighting=weighting, name="words", rows=rows)


def run(graph, feeds):
    session = onnxruntime.InferenceSession(as_proto(graph).SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_rounded_table_stands_for_the_table_to_half_a_level_of_each_column(model, shape):
    factors = fitter_of(model).fit(SHAPES[shape], INT8)
    plain = rewrite(model, {"words": dataclasses.replace(factors, table=False)}) if shape == "svd" else model.original
    made = rewrite(model, {"words": factors})
    onnx.checker.check_model(as_proto(made))
    held = {name: onnx.numpy_helper.to_array(each) for each in as_proto(made).graph.initializer for name in [each.name]}
    (levels,) = (each for each in held.values() if each.dtype == np.int8)
    (scales,) = (each for each in held.values() if each.dtype == np.float32 and each.shape == levels.shape[1:])
    width = WIDTH if shape == "dense" else 5
    # Both uses read one table.
    assert levels.shape == (ROWS, width) and held.keys() & {"words"} == set()
    assert np.abs(levels.astype(int)).max() == 127
    rng = np.random.default_rng(2)
    feeds = {name: rng.integers(0, ROWS, 400) for name in "ij"}
    got, wanted = run(made, feeds), run(plain, feeds)
    behind = np.eye(WIDTH)
    if shape == "svd":
        behind = next(each for each in held.values() if each.shape == (width, WIDTH)).astype(np.float64)
    bound = scales.astype(np.float64) / 2 @ np.abs(behind)
    size = np.abs(wanted[0].astype(np.float64)).max()
    near = 20 * np.finfo(wanted[0].dtype).eps * size
    for one, other in zip(got, wanted, strict=True):
        assert one.dtype == other.dtype
        off = np.abs(one.astype(np.float64) - other.astype(np.float64))
        assert (off <= bound + near).all() and off.max() > 0


def test_errors_know_what_rounding_the_table_adds(model):
    fitter, rows = fitter_of(model), table_rows(model, "words").astype(np.float64)
    for shape in SHAPES.values():
        factors = fitter.fit(shape, INT8)
        made = rewrite(model, {"words": factors})
        numbers = np.arange(ROWS)
        got = run(made, {"i": numbers, "j": numbers})[0].astype(np.float64)
        shift = 0.0 if factors.bias_shift is None else factors.bias_shift
        exact = rows @ model.weight("words").T
        rate = np.linalg.norm(got - shift - exact) / np.linalg.norm(exact)
        assert factors.weight_error == pytest.approx(rate, rel=0.15)
        plain = fitter.fit(shape)
        assert factors.output_error > plain.output_error and factors.loss > plain.loss
        assert (factors.storage, factors.bias_shift is None) == (INT8, shape.is_dense)


def test_kept_and_read_again_they_are_the_same(model):
    for shape in SHAPES.values():
        factors = fitter_of(model).fit(shape, INT8)
        again = unpacked(Choice(shape, INT8), packed(factors))
        assert (again.table, again.choice, again.weight_error) == (True, factors.choice, factors.weight_error)
        for core, other in zip(factors.cores, again.cores, strict=True):
            np.testing.assert_array_equal(core.astype(np.float32), other)


def test_other_layers_have_no_table(make):
    weight = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    model = load_model(make("g (float[n, 4] x) => (float[n, 3] y) { y = MatMul (x, w) }", {"w": weight}))
    (layer,) = model.layers
    assert table_rows(model, layer.name) is None
