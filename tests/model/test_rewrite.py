import math

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrfdse.errors import InputError, PlanError
from lrfdse.formats.onnx import file_content
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.factors import Factors
from lrfdse.model.graph import load_model
from lrfdse.model.passes.factor import rewrite
from lrfdse.model.runtime import Runtime

RNG_SEED = 7


def _rows(x, w):
    return x @ w.T


def _columns(x, w):
    return w @ x


# name: (graph, shape of x, orientation of the stored weight, bias shape or None, y of x, What, bias, shift)
CASES = {
    "gemm, turned weight": (
        "(float[n, {N}] x) => (float[n, {M}] y) {{ y = Gemm <transB = 1> (x, w, b) }}",
        lambda m, n: (3, n),
        "MN",
        lambda m: (m,),
        lambda x, w, b, s: _rows(x, w) + b + s,
    ),
    "gemm, alpha and beta, bias of two dimensions": (
        "(float[n, {N}] x) => (float[n, {M}] y) {{ y = Gemm <alpha = 0.5, beta = 2.0> (x, w, b) }}",
        lambda m, n: (3, n),
        "NM",
        lambda m: (1, m),
        lambda x, w, b, s: _rows(x, w) + 2 * b + s,
    ),
    "gemm and add": (
        "(float[n, {N}] x) => (float[n, {M}] y) {{ a = Gemm <transB = 1> (x, w)  y = Add (b, a) }}",
        lambda m, n: (2, n),
        "MN",
        lambda m: (m,),
        lambda x, w, b, s: _rows(x, w) + b + s,
    ),
    "weight turned twice": (
        "(float[n, {N}] x) => (float[n, {M}] y) "
        "{{ t = Transpose (w)  v = Transpose <perm = [1, 0]> (t)  y = MatMul (x, v) }}",
        lambda m, n: (2, n),
        "NM",
        None,
        lambda x, w, b, s: _rows(x, w) + s,
    ),
    "gemm without bias": (
        "(float[n, {N}] x) => (float[n, {M}] y) {{ y = Gemm (x, w) }}",
        lambda m, n: (2, n),
        "NM",
        None,
        lambda x, w, b, s: _rows(x, w) + s,
    ),
    "gemm, bias a number": (
        "(float[n, {N}] x) => (float[n, {M}] y) {{ y = Gemm <transB = 1> (x, w, b) }}",
        lambda m, n: (2, n),
        "MN",
        lambda m: (),
        lambda x, w, b, s: _rows(x, w) + b + s,
    ),
    "gemm, another bias for every row": (
        "(float[4, {N}] x) => (float[4, {M}] y) {{ y = Gemm <transB = 1, beta = 0.5> (x, w, b) }}",
        lambda m, n: (4, n),
        "MN",
        lambda m: (4, m),
        lambda x, w, b, s: _rows(x, w) + 0.5 * b + s,
    ),
    "gemm, turned input": (
        "(float[{N}, n] x) => (float[n, {M}] y) {{ y = Gemm <transA = 1, transB = 1> (x, w, b) }}",
        lambda m, n: (n, 3),
        "MN",
        lambda m: (m,),
        lambda x, w, b, s: _rows(x.T, w) + b + s,
    ),
    "gemm, weight on the left": (
        "(float[{N}, n] x) => (float[{M}, n] y) {{ y = Gemm (w, x, b) }}",
        lambda m, n: (n, 3),
        "MN",
        lambda m: (m, 1),
        lambda x, w, b, s: _columns(x, w) + b + s[:, None],
    ),
    "gemm, weight on the left, both turned": (
        "(float[n, {N}] x) => (float[{M}, n] y) {{ y = Gemm <transA = 1, transB = 1> (w, x) }}",
        lambda m, n: (3, n),
        "NM",
        None,
        lambda x, w, b, s: _columns(x.T, w) + s[:, None],
    ),
    "matmul": (
        "(float[n, {N}] x) => (float[n, {M}] y) {{ y = MatMul (x, w) }}",
        lambda m, n: (3, n),
        "NM",
        None,
        lambda x, w, b, s: _rows(x, w) + s,
    ),
    "matmul, add, relu": (
        "(float[n, {N}] x) => (float[n, {M}] y) {{ a = MatMul (x, w)  c = Add (a, b)  y = Relu (c) }}",
        lambda m, n: (3, n),
        "NM",
        lambda m: (m,),
        lambda x, w, b, s: np.maximum(_rows(x, w) + b + s, 0),
    ),
    "matmul on sequences, bias first": (
        "(float[n, t, {N}] x) => (float[n, t, {M}] y) {{ a = MatMul (x, w)  y = Add (b, a) }}",
        lambda m, n: (2, 3, n),
        "NM",
        lambda m: (m,),
        lambda x, w, b, s: _rows(x, w) + b + s,
    ),
    "matmul on four dimensions, one open": (
        "(float[n, 2, 3, {N}] x) => (float[n, 2, 3, {M}] y) {{ y = MatMul (x, w) }}",
        lambda m, n: (2, 2, 3, n),
        "NM",
        None,
        lambda x, w, b, s: _rows(x, w) + s,
    ),
    "matmul on a vector": (
        "(float[{N}] x) => (float[{M}] y) {{ a = MatMul (x, w)  y = Add (a, b) }}",
        lambda m, n: (n,),
        "NM",
        lambda m: (m,),
        lambda x, w, b, s: _rows(x, w) + b + s,
    ),
    "matmul, weight on the left": (
        "(float[n, {N}, t] x) => (float[n, {M}, t] y) {{ a = MatMul (w, x)  y = Add (a, b) }}",
        lambda m, n: (2, n, 3),
        "MN",
        lambda m: (m, 1),
        lambda x, w, b, s: _columns(x, w) + b + s[:, None],
    ),
    "matmul, weight on the left of a vector": (
        "(float[{N}] x) => (float[{M}] y) {{ a = MatMul (w, x)  y = Add (a, b) }}",
        lambda m, n: (n,),
        "MN",
        lambda m: (m,),
        lambda x, w, b, s: _columns(x, w) + b + s,
    ),
    "weight behind cast, identity and transpose": (
        "(float[n, {N}] x) => (float[n, {M}] y) "
        "{{ i = Identity (w)  v = Transpose (i)  c = Cast <to = 1> (v)  y = MatMul (x, c) }}",
        lambda m, n: (3, n),
        "MN",
        None,
        lambda x, w, b, s: _rows(x, w) + s,
    ),
}


@st.composite
def factorizations(draw):
    """Draw modes, ranks and a direction, and the sizes of a layer that may need padding."""
    cores = draw(st.integers(2, 3))
    modes = st.lists(st.integers(1, 4), min_size=cores, max_size=cores)
    out_modes, in_modes = draw(modes), draw(modes)
    ranks = draw(st.lists(st.integers(1, 4), min_size=cores - 1, max_size=cores - 1))
    made = Factorization(tuple(out_modes), tuple(in_modes), tuple(ranks), draw(st.sampled_from(["rl", "lr"])))
    outputs = made.outputs - draw(st.integers(0, min(2, made.outputs - 1)))
    inputs = made.inputs - draw(st.integers(0, min(2, made.inputs - 1)))
    return made, outputs, inputs


def _check(kit, tmp, case, factorization, outputs, inputs, shift, stored="initializer", opset=17, ir_version=8):
    graph, shape, orientation, bias_shape, reference = CASES[case]
    rng = np.random.default_rng(RNG_SEED)
    w = rng.normal(size=(outputs, inputs) if orientation == "MN" else (inputs, outputs)).astype(np.float32)
    arrays = {"w": w}
    b = np.zeros(())
    if bias_shape is not None:
        arrays["b"] = b = rng.normal(size=bias_shape(outputs)).astype(np.float32)
    text = "g " + graph.format(M=outputs, N=inputs)
    places = {"weights": arrays} if stored == "initializer" else {"constants": arrays}
    path = kit.write(kit.build(text, **places, opset=opset, ir_version=ir_version), tmp / "model.onnx")

    x = rng.normal(size=shape(outputs, inputs)).astype(np.float32)
    model = load_model(path, {"x": x.shape})
    (layer,) = model.layers
    assert (layer.outputs, layer.inputs) == (outputs, inputs)
    # A bias of its own for every row cannot be part of the layer.
    assert layer.uses[0].bias == (bias_shape is not None and "every row" not in case)
    factors = kit.random_factors(rng, factorization, outputs, shift)
    version = rewrite(model, {layer.name: factors})

    # Each form of the graph, evaluated from its definition with the matrix that the cores stand for.
    expected = reference(
        x.astype(np.float64),
        kit.reconstruct(factors, outputs, inputs),
        b.astype(np.float64),
        factors.bias_shift if shift else np.zeros(outputs),
    )
    runtime = Runtime()
    (got,) = runtime.call(runtime.session(version), {"x": x}).values()
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * max(1.0, np.abs(expected).max()))

    made = onnx.load_from_string(file_content(version))
    assert (made.ir_version, made.opset_import[0].version) == (ir_version, opset)
    assert [value.name for value in made.graph.output] == ["y"]
    assert "w" not in {tensor.name for tensor in made.graph.initializer}
    assert "w" not in {name for node in made.graph.node for name in node.output}
    assert {"x"} == {value.name for value in made.graph.input} - {tensor.name for tensor in made.graph.initializer}
    return made


@pytest.mark.parametrize("case", CASES)
@settings(max_examples=15, deadline=None)
@given(drawn=factorizations(), shift=st.booleans(), stored=st.sampled_from(["initializer", "constant"]))
def test_rewritten_model_computes_what_the_cores_stand_for(kit, tmp_path_factory, case, drawn, shift, stored):
    _check(kit, tmp_path_factory.mktemp("case"), case, *drawn, shift, stored)


@pytest.mark.parametrize(
    "case", ["gemm, turned weight", "matmul on sequences, bias first", "matmul, weight on the left"]
)
@pytest.mark.parametrize(("opset", "ir_version"), [(7, 3), (9, 3), (10, 4), (11, 6), (13, 7), (18, 8)])
@pytest.mark.parametrize("text", ["svd:r=2", "tt:m=2x3,n=4x2,r=3", "tt:m=2x4,n=3x3,r=3,lr"])
def test_every_opset(kit, tmp_path, case, opset, ir_version, text):
    stored = "constant" if ir_version < 4 and "Cast" in case else "initializer"
    factorization = Factorization.parse(text, 6, 8)
    _check(kit, tmp_path, case, factorization, 6, 8, True, stored, opset, ir_version)


@pytest.mark.parametrize("case", ["matmul on sequences, bias first", "matmul, weight on the left"])
def test_two_factors_need_no_reshape(kit, tmp_path, case):
    made = _check(kit, tmp_path, case, Factorization.svd(6, 8, 2), 6, 8, False)
    assert [node.op_type for node in made.graph.node] == ["MatMul", "MatMul", "Add"]


def test_left_to_right_form_of_two_factors_is_two_products(kit, tmp_path):
    made = _check(kit, tmp_path, "matmul", Factorization((1, 6), (8, 1), (2,), "lr"), 6, 8, False)
    assert [node.op_type for node in made.graph.node] == ["MatMul", "MatMul"]


def test_sizes_stay_open(kit, tmp_path):
    made = _check(kit, tmp_path, "matmul on sequences, bias first", Factorization((2, 3), (4, 2), (2,)), 6, 8, True)
    runtime = Runtime()
    for shape in ((1, 1, 8), (5, 2, 8), (3, 7, 8)):
        x = np.zeros(shape, np.float32)
        (y,) = runtime.call(runtime.session(made.SerializeToString()), {"x": x}).values()
        assert y.shape == (*shape[:2], 6)


def test_a_weight_used_twice_is_stored_once_and_replaced_everywhere(make, kit):
    rng = np.random.default_rng(1)
    w, b, c = (rng.normal(size=size).astype(np.float32) for size in ((6, 6), 6, 6))
    text = """g (float[n, 6] x) => (float[n, 6] y) {
        a = MatMul (x, w)  p = Add (a, b)  q = Relu (p)  d = MatMul (q, w)  y = Add (d, c)
    }"""
    model = load_model(make(text, {"w": w, "b": b, "c": c}))
    (layer,) = model.layers
    assert [(use.rows, use.bias, use.relu) for use in layer.uses] == [(1, True, True), (1, True, False)]
    assert layer.params == 36 + 12
    factors = kit.random_factors(rng, Factorization((2, 3), (3, 2), (2,)), 6)
    version = rewrite(model, {layer.name: factors})
    x = rng.normal(size=(4, 6))
    what, shift = kit.reconstruct(factors, 6, 6), factors.bias_shift
    expected = np.maximum(x @ what.T + b + shift, 0) @ what.T + c + shift
    runtime = Runtime()
    (y,) = runtime.call(runtime.session(version), {"x": x.astype(np.float32)}).values()
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
    floats = [t for t in onnx.load_from_string(file_content(version)).graph.initializer if t.data_type == 1]
    assert sum(math.prod(t.dims) for t in floats) == factors.factorization.params + 12


def test_a_bias_used_by_another_layer_is_not_shifted_there(make, kit):
    rng = np.random.default_rng(2)
    arrays = {name: rng.normal(size=size).astype(np.float32) for name, size in (("v", (6, 6)), ("w", (6, 6)), ("b", 6))}
    text = """g (float[n, 6] x) => (float[n, 6] y) {
        a = MatMul (x, v)  p = Add (a, b)  d = MatMul (p, w)  y = Add (d, b)
    }"""
    model = load_model(make(text, arrays))
    factors = kit.random_factors(rng, Factorization.svd(6, 6, 2), 6)
    version = rewrite(model, {"w": factors})
    x = rng.normal(size=(3, 6))
    expected = (x @ arrays["v"] + arrays["b"]) @ kit.reconstruct(factors, 6, 6).T + arrays["b"] + factors.bias_shift
    runtime = Runtime()
    (y,) = runtime.call(runtime.session(version), {"x": x.astype(np.float32)}).values()
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("dtype", "kind", "tolerance"), [(np.float16, "float16", 2e-2), (np.float64, "double", 1e-12)])
def test_the_graph_keeps_its_type(make, kit, dtype, kind, tolerance):
    rng = np.random.default_rng(3)
    w, b = rng.normal(size=(6, 8)).astype(dtype), rng.normal(size=6).astype(dtype)
    text = f"g ({kind}[n, 8] x) => ({kind}[n, 6] y) {{ y = Gemm <transB = 1> (x, w, b) }}"
    model = load_model(make(text, {"w": w, "b": b}))
    np.testing.assert_array_equal(model.weight("w"), w.astype(np.float64))
    factors = kit.random_factors(rng, Factorization((2, 3), (2, 4), (2,)), 6)
    version = rewrite(model, {"w": factors})
    x = rng.normal(size=(3, 8)).astype(dtype)
    runtime = Runtime()
    (y,) = runtime.call(runtime.session(version), {"x": x}).values()
    assert y.dtype == dtype
    expected = x.astype(np.float64) @ kit.reconstruct(factors, 6, 8).T + b.astype(np.float64) + factors.bias_shift
    np.testing.assert_allclose(y, expected, atol=tolerance * np.abs(expected).max())


def test_bfloat16_is_kept(make, kit):
    import ml_dtypes

    w = np.random.default_rng(3).normal(size=(6, 8)).astype(ml_dtypes.bfloat16)
    text = "g (bfloat16[n, 8] x) => (bfloat16[n, 6] y) { y = Gemm <transB = 1> (x, w) }"
    model = load_model(make(text, {"w": w}))
    made = onnx.load_from_string(file_content(rewrite(model, {"w": kit.svd_factors(model.weight("w"), 2)})))
    assert {t.data_type for t in made.graph.initializer} == {onnx.TensorProto.BFLOAT16}


def test_metadata_and_dense_layers(mlp, kit):
    model = load_model(mlp)
    dense = Factors(Factorization.dense(5, 8), (), None, 0.0, None)
    version = rewrite(model, {"fc1": kit.svd_factors(model.weight("fc1"), 3), "fc2": dense})
    made = onnx.load_from_string(file_content(version))
    assert {entry.key: entry.value for entry in made.metadata_props} == {"lrfdse.fc1": "svd:r=3", "lrfdse.fc2": "dense"}
    assert [node.op_type for node in made.graph.node] == ["MatMul", "MatMul", "Add", "Relu", "Gemm"]
    again = rewrite(model, {"fc1": kit.svd_factors(model.weight("fc1"), 3), "fc2": dense})
    assert file_content(again) == file_content(version)


def test_a_rewritten_model_can_be_read_and_rewritten_again(mlp, kit):
    model = load_model(mlp)
    once = rewrite(model, {"fc1": kit.svd_factors(model.weight("fc1"), 8)})
    again = load_model(kit.write(once, mlp.parent / "again.onnx"))
    assert [(layer.outputs, layer.inputs) for layer in again.layers] == [(8, 12), (8, 8), (5, 8)]
    factors = {
        layer.name: kit.svd_factors(again.weight(layer.name), min(layer.outputs, layer.inputs))
        for layer in again.layers
    }
    twice = rewrite(again, factors)
    runtime = Runtime()
    x = np.random.default_rng(5).normal(size=(4, 12)).astype(np.float32)
    outputs = [runtime.call(runtime.session(version), {"x": x})["y"] for version in (model.original, once, twice)]
    np.testing.assert_allclose(outputs[1], outputs[0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(outputs[2], outputs[0], rtol=1e-4, atol=1e-4)


def test_factors_that_do_not_fit_are_refused(mlp, kit):
    model = load_model(mlp)
    good = kit.svd_factors(model.weight("fc1"), 2)
    with pytest.raises(InputError, match="no layer 'fc9'"):
        rewrite(model, {"fc9": good})
    with pytest.raises(ValueError, match=r"layer 'fc2' has 5 outputs and 8 inputs|need the shapes"):
        rewrite(model, {"fc2": Factors(Factorization.svd(4, 8, 2), good.cores, None, 0.0, None)})
    with pytest.raises(ValueError, match="need the shapes"):
        rewrite(model, {"fc1": Factors(good.factorization, good.cores[::-1], None, 0.0, None)})
    with pytest.raises(ValueError, match="bias shift needs 8"):
        rewrite(model, {"fc1": Factors(good.factorization, good.cores, np.zeros(5), 0.0, None)})
    huge = Factors(good.factorization, (good.cores[0] * 1e300, good.cores[1]), None, 0.0, None)
    with pytest.raises(PlanError, match="leave the range"):
        rewrite(model, {"fc1": huge})
