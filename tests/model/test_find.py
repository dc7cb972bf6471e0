import pickle
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrfdse.errors import InputError
from lrfdse.model.graph import load_model
from lrfdse.model.names import layer_name

RNG = np.random.default_rng(0)
W = RNG.normal(size=(8, 6)).astype(np.float32)
SQUARE = RNG.normal(size=(6, 6)).astype(np.float32)


def test_sizes_biases_and_fused_operators(mlp):
    model = load_model(mlp)
    fc1, fc2 = model.layers
    assert (fc1.name, fc1.outputs, fc1.inputs, fc1.bias_params) == ("fc1", 8, 12, 8)
    assert (fc2.name, fc2.outputs, fc2.inputs, fc2.bias_params) == ("fc2", 5, 8, 5)
    assert [(use.rows, use.bias, use.relu) for use in fc1.uses + fc2.uses] == [(1, True, True), (1, True, False)]
    assert model.untouched == ()
    assert str(model.inputs[0]) == "x (nx12, float32)"
    assert fc1.digest != fc2.digest
    assert model.bias("fc1").shape == (8,)


@pytest.mark.parametrize(
    ("body", "alpha", "turned"),
    [
        ("y = Gemm <alpha = 0.25> (x, w)", 0.25, True),
        ("v = Transpose (w)  y = Gemm <transB = 1> (x, v)", 1.0, True),
        ("y = MatMul (x, w)", 1.0, True),
    ],
)
def test_weight_is_that_of_y_equals_w_x(make, body, alpha, turned):
    model = load_model(make(f"g (float[n, 8] x) => (float[n, 6] y) {{ {body} }}", {"w": W}))
    (layer,) = model.layers
    np.testing.assert_array_equal(model.weight(layer.name), alpha * (W.T if turned else W).astype(np.float64))


def test_the_digest_is_of_the_effective_weight_in_one_order(make):
    one = load_model(make("g (float[n, 8] x) => (float[n, 6] y) { y = MatMul (x, w) }", {"w": W}))
    text = "g (float[n, 8] x) => (float[n, 6] y) { y = Gemm <transB = 1> (x, w) }"
    other = load_model(make(text, {"w": np.ascontiguousarray(W.T)}))
    assert one.layers[0].digest == other.layers[0].digest


def test_the_digest_tells_shapes_of_the_same_bytes_apart(make):
    text = "g (float[n, 8] x) => (float[n, 8] z) { y = Gemm <transB = 1> (x, w)  z = Gemm <transB = 1> (y, v) }"
    first, second = load_model(make(text, {"w": W.reshape(6, 8), "v": W.reshape(8, 6)})).layers
    assert (first.outputs, first.inputs) == (second.inputs, second.outputs)
    assert first.digest != second.digest


def test_a_relu_that_others_bypass_is_not_fused(make):
    text = """g (float[n, 8] x) => (float[n, 6] y, float[n, 6] z) {
        a = MatMul (x, w)  y = Relu (a)  z = Sigmoid (a)
    }"""
    assert not load_model(make(text, {"w": W})).layers[0].uses[0].relu


@pytest.mark.parametrize(
    "text",
    [
        "g (float[n, 8] x) => (float[n, 6] a, float[n, 6] y) { a = MatMul (x, w)  y = Add (a, b) }",
        "g (float[n, 8] x, float[n, 6] b2) => (float[n, 6] y) { a = MatMul (x, w)  y = Add (a, b2) }",
        "g (float[n, 8] x) => (float[n, 6] y) { a = MatMul (x, w)  y = Add (a, a) }",
        "g (float[1, 8] x) => (float[5, 6] y) { a = MatMul (x, w)  y = Add (a, full) }",
    ],
)
def test_an_add_that_is_no_bias_is_not_fused(make, text):
    weights = {"w": W, "b": np.ones(6, np.float32)}
    if "full" in text:
        weights = {"w": W, "full": np.ones((5, 6), np.float32)}
    (layer,) = load_model(make(text, weights)).layers
    assert not layer.uses[0].bias
    assert layer.bias_params == 0


def test_a_bias_that_two_uses_share_counts_once(make):
    text = """g (float[n, 6] x) => (float[n, 6] y) {
        a = MatMul (x, w)  p = Add (a, b)  c = MatMul (p, w)  y = Add (c, b)
    }"""
    (layer,) = load_model(make(text, {"w": SQUARE, "b": np.ones(6, np.float32)})).layers
    assert (len(layer.uses), layer.bias_params, layer.params) == (2, 6, 42)


@pytest.mark.parametrize(
    ("text", "weights", "op", "reason"),
    [
        (
            "g (float[n, 6] x, float[6, 6] v) => (float[n, 6] y) { a = MatMul (x, w)  y = MatMul (a, v) }",
            {},
            "MatMul",
            "its weight is the model's input 'v'",
        ),
        (
            "g (float[n, 6] x) => (float[n, 6] y) { a = MatMul (x, w)  v = Mul (u, u)  y = MatMul (a, v) }",
            {"u": SQUARE},
            "MatMul",
            "its weight is computed from constants by Mul",
        ),
        (
            "g (float[n, 6] x) => (float[n, 6] y) "
            "{ a = MatMul (x, w)  v = DequantizeLinear (q, s, z)  y = MatMul (a, v) }",
            {"q": np.ones((6, 6), np.int8), "s": np.array(0.1, np.float32), "z": np.array(1, np.int8)},
            "DequantizeLinear",
            "quantized in a form other than int8 with zero points of 0",
        ),
        (
            "g (float[n, 6] x, uint8[n, 6] p) => (float[n, 6] y, int32[n, 6] z) "
            "{ y = MatMul (x, w)  z = MatMulInteger (p, q) }",
            {"q": np.ones((6, 6), np.int8)},
            "MatMulInteger",
            "quantized",
        ),
        (
            "g (float[n, 6] x, int64[n] i) => (float[n, 6] y, float[n, 6] z) { y = MatMul (x, w)  z = Gather (t, i) }",
            {"t": SQUARE},
            "Gather",
            "an embedding, which `--layers fc,embedding` explores",
        ),
        (
            "g (float[n, 6] x, int64[n] i) => (float[n, 6] y, float[n, 6] z) "
            "{ a = MatMul (x, w)  v = Transpose (t)  y = MatMul (a, v)  z = Gather (t, i) }",
            {"t": SQUARE},
            "MatMul",
            "a tied embedding, which `--layers fc,tied` explores",
        ),
        (
            "g (float[n, 6] x) => (float[n, 6] y) "
            "{ a = MatMul (x, w)  b = MatMul (a, t)  y = Gemm <transB = 1> (b, t) }",
            {"t": SQUARE},
            "Gemm",
            "different forms",
        ),
        (
            "g (float[n, 6] x) => (float[n, 6] y, float[6, 6] t) "
            "{ a = MatMul (x, w)  t = Identity (u)  y = MatMul (a, t) }",
            {"u": SQUARE},
            "MatMul",
            "its weight",
        ),
        (
            "g (float[2, 3, 6] x) => (float[2, 3, 6] y) { a = MatMul (x, w)  y = MatMul (a, v) }",
            {"v": np.stack([SQUARE, SQUARE])},
            "MatMul",
            "its weight has 3 dimensions",
        ),
        (
            "g (float[n, 6] x, int32[n, 6] p) => (float[n, 6] y, int32[n, 6] z) "
            "{ y = MatMul (x, w)  z = MatMul (p, v) }",
            {"v": np.ones((6, 6), np.int32)},
            "MatMul",
            "of type INT32",
        ),
        (
            "g (float[n, 6] x, bool c) => (float[n, 6] y) { a = MatMul (x, w)  y = If (c) <"
            "then_branch = yes () => (float[n, 6] p) { p = Mul (a, v) }, "
            "else_branch = no () => (float[n, 6] q) { q = Identity (a) }> }",
            {"v": SQUARE},
            "Mul",
            "a constant of Mul, inside the body of If",
        ),
        (
            "g (float[n, 6] x, float[t, n, 6] s) => (float[n, 6] y, float[t, 1, n, 2] z) "
            "{ y = MatMul (x, w)  z, h, c = LSTM <hidden_size = 2> (s, k, r) }",
            {"k": np.ones((1, 8, 6), np.float32), "r": np.ones((1, 8, 2), np.float32)},
            "LSTM",
            "a recurrent input, which `--layers fc,recurrent` explores",
        ),
        (
            "g (float[n, 6] x, float[n, 1, 8, 8] i) => (float[n, 6] y, float[n, 2, 6, 6] z) "
            "{ y = MatMul (x, w)  z = Conv (i, k) }",
            {"k": np.ones((2, 1, 3, 3), np.float32)},
            "Conv",
            "a convolution",
        ),
    ],
)
def test_what_is_left_alone_and_why(make, text, weights, op, reason):
    model = load_model(make(text, {"w": SQUARE, **weights}), kinds=("fc",))
    assert [layer.name for layer in model.layers] == ["w"]
    listed = [entry for entry in model.untouched if entry.op == op]
    assert any(reason in entry.reason for entry in listed), model.untouched
    stored = sum(array.size for array in weights.values() if array.dtype in (np.float32, np.int8) and array.ndim > 1)
    assert sum(entry.params for entry in model.untouched) == stored


def test_products_of_activations_hold_no_weights(make):
    text = """g (float[n, 6] x) => (float[n, n] y) {
        a = MatMul (x, w)  t = Transpose (a)  y = MatMul (x, t)
    }"""
    model = load_model(make(text, {"w": SQUARE}))
    assert len(model.layers) == 1
    assert model.untouched == ()


def test_weights_in_a_function_are_found(make):
    body = onnx.helper.make_node("MatMul", ["p", "v"], ["q"])
    constant = onnx.helper.make_node("Constant", [], ["v"], value=onnx.numpy_helper.from_array(SQUARE, "v"))
    opset = [onnx.helper.make_opsetid("", 17)]
    path = make("g (float[n, 6] x) => (float[n, 6] y) { a = MatMul (x, w)  y = Identity (a) }", {"w": SQUARE})
    model = onnx.load(path)
    model.functions.append(onnx.helper.make_function("own", "Project", ["p"], ["q"], [constant, body], opset))
    model.opset_import.append(onnx.helper.make_opsetid("own", 1))
    model.graph.node[1].CopyFrom(onnx.helper.make_node("Project", ["a"], ["y"], domain="own"))
    path.write_bytes(model.SerializeToString())
    found = load_model(path)
    assert [layer.params for layer in found.layers] == [36, 36]
    assert found.untouched == ()


def test_structure_without_weights_is_refused_with_the_reason(make):
    shape = np.array([6, 6], np.int64)
    text = "g (float[n, 6] x) => (float[n, 6] y) { w = ConstantOfShape (s)  y = MatMul (x, w) }"
    with pytest.raises(InputError, match=r"no fully-connected layer .*computed from constants by ConstantOfShape"):
        load_model(make(text, {"s": shape}))


def test_the_light_models_of_onnx_hold_no_weights():
    path = Path(onnx.__file__).parent / "backend/test/data/light/light_bvlc_alexnet.onnx"
    if not path.is_file():
        pytest.skip("this onnx ships no light models")
    with pytest.raises(InputError, match="no fully-connected layer"):
        load_model(path)


def test_rows_count_every_leading_size(make):
    text = "g (float[n, t, 6] x) => (float[n, t, 6] y) { y = MatMul (x, w) }"
    path = make(text, {"w": SQUARE})
    assert load_model(path, {"x": (2, 7, 6)}).layers[0].uses[0].rows == 14
    with pytest.raises(InputError, match=r"layer 'w' depend on open sizes of input x \(nxtx6.*--shape x=1x\?x6"):
        load_model(path)


def test_stale_shapes_in_the_file_do_not_count(make):
    text = """g (float[n, t, 6] x) => (float[n, t, 6] y)
        <float[1, 99, 6] a> { a = Relu (x)  y = MatMul (a, w) }"""
    assert load_model(make(text, {"w": SQUARE}), {"x": (1, 5, 6)}).layers[0].uses[0].rows == 5


def test_rows_that_inference_cannot_find_are_read_from_a_run(make):
    text = """g (float[n, 6] x) => (float[k, 6] y) {
        z = NonZero (x)  t = Transpose (z)  r = Shape (t)  c = Gather (r, zero)  l = Reshape (c, one)
        s = Concat <axis = 0> (l, six)  e = Expand (row, s)  y = MatMul (e, w)
    }"""
    integers = {"zero": np.array(0), "one": np.array([1]), "six": np.array([6])}
    path = make(text, {"w": SQUARE, "row": np.ones((1, 6), np.float32), **integers})
    assert load_model(path, {"x": (3, 6)}).layers[0].uses[0].rows == 18


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"z": (1, 6)}, "--shape z: the model has no such input; its inputs are x"),
        ({"x": (1, 7)}, "--shape x=1x7 does not fit .* declares nx6"),
        ({"x": (1, 1, 6)}, "--shape x=1x1x6 does not fit"),
        ({"x": (0, 6)}, "sizes must be at least 1"),
    ],
)
def test_shape_options_that_do_not_fit(make, shape, message):
    path = make("g (float[n, 6] x) => (float[n, 6] y) { y = MatMul (x, w) }", {"w": SQUARE})
    with pytest.raises(InputError, match=message):
        load_model(path, shape)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("tensor", ["w", "b"])
def test_nan_and_inf_are_refused(make, bad, tensor):
    arrays = {"w": SQUARE.copy(), "b": np.ones(6, np.float32)}
    arrays[tensor].flat[3] = bad
    path = make("g (float[n, 6] x) => (float[n, 6] y) { y = Gemm (x, w, b) }", arrays)
    with pytest.raises(InputError, match=f"tensor '{tensor}' of layer 'w' holds NaN"):
        load_model(path)


def test_a_double_beyond_float32_is_refused(make):
    path = make("g (double[n, 6] x) => (double[n, 6] y) { y = MatMul (x, w) }", {"w": np.full((6, 6), 1e200)})
    with pytest.raises(InputError, match="values beyond float32"):
        load_model(path)


def test_initializers_that_are_inputs_too_are_constants(make):
    path = make("g (float[n, 6] x) => (float[n, 6] y) { y = MatMul (x, w) }", {"w": SQUARE}, opset=9, ir_version=3)
    model = load_model(path)
    assert [port.name for port in model.inputs] == ["x"]
    assert [layer.name for layer in model.layers] == ["w"]


def test_models_can_be_sent_to_workers(mlp):
    model = load_model(mlp)
    copy = pickle.loads(pickle.dumps(model))
    assert copy.layers == model.layers
    np.testing.assert_array_equal(copy.weight("fc1"), model.weight("fc1"))


@pytest.mark.parametrize(
    ("weight", "node", "name"),
    [
        ("fc1.weight", "", "fc1"),
        ("dense_1/kernel:0", "", "dense_1"),
        ("sequential/dense/MatMul/ReadVariableOp:0", "", "sequential"),
        ("onnx::MatMul_215", "/encoder/layer.0/attention/query/MatMul", "encoder.layer.0.attention.query"),
        ("val_12", "linear_3", "linear_3"),
        ("linear_85.w_0", "p2o.MatMul.24", "linear_85"),
        ("weight", "", "weight"),
        ("../../x", "", "x"),
        ("a b<c>", "", "a_b_c"),
    ],
)
def test_layer_names(weight, node, name):
    assert layer_name(weight, node, set()) == name


@pytest.mark.slow
@given(st.lists(st.tuples(st.text(max_size=200), st.text(max_size=200)), max_size=8))
def test_layer_names_are_unique_and_safe(pairs):
    taken = set()
    names = [layer_name(weight, node, taken) for weight, node in pairs]
    assert len({name.casefold() for name in names}) == len(names)
    for name in names:
        assert name and not name.startswith((".", "-"))
        assert all(c.isascii() and (c.isalnum() or c in "._-") for c in name)
        assert ".." not in name and len(name) < 100


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("a = Relu (x)  y = Neg (a)", r"found: no operator of it \(Neg, Relu\) reads a matrix of weights, so there is"),
        ("y = Mul (x, w)", "found: Mul 'y' is left: a constant of Mul$"),
        (
            "a = Mul (x, w)  y = Add (a, v)",
            "found: the largest of 2 parts with weights, Mul 'a', is left: a constant of Mul$",
        ),
    ],
)
def test_a_model_without_layers_is_refused_with_what_it_holds(make, body, said):
    weights = {"w": np.ones((6, 6), np.float32), "v": np.ones((6, 6), np.float32)}
    weights = {name: array for name, array in weights.items() if f" {name})" in body}
    with pytest.raises(InputError, match=said):
        load_model(make(f"g (float[6, 6] x) => (float[6, 6] y) {{ {body} }}", weights))
