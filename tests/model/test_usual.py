"""Passes that write fused and hidden products as standard ones: ONNX text before and after, and equal results."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from lrfdse.formats.onnx import as_proto
from lrfdse.model.graph import load_model
from lrfdse.model.passes.usual.einsum import SpellOutEinsum
from lrfdse.model.passes.usual.fused import Unfuse
from lrfdse.model.passes.usual.weights import StoreAsUsed
from lrfdse.model.runtime import Runtime

HEAD = '<ir_version: 8, opset_import: ["" : {opset}, "com.microsoft" : 1]>'

SIX = "{1, 2, 3, 4, 5, 6}"


def parsed(text, opset=17):
    return ir.from_proto(onnx.parser.parse_model(f"{HEAD.format(opset=opset)} {text}"))


def graph_text(model):
    """Return a graph as ONNX text without names of nodes and types of values within."""
    proto = as_proto(model)
    del proto.graph.value_info[:]
    for node in proto.graph.node:
        node.name = ""
    return onnx.printer.to_text(proto)


def results(model, feeds):
    runtime = Runtime()
    session = runtime.session(model)
    names = [port.name for port in session.get_outputs()]
    return list(runtime.call(session, feeds, names).values())


def check(step, text, after, sizes, opset=17):
    """Compare what a pass makes with what is wanted, and both in onnxruntime on random input."""
    before = parsed(text, opset)
    made = ir.passes.functionalize(step)(before)
    assert made.modified == (after is not None)
    assert graph_text(before) == graph_text(parsed(text, opset)), "the model given stays as it is"
    if after is None:
        assert graph_text(made.model) == graph_text(before)
        return
    assert graph_text(made.model) == graph_text(parsed(after, opset))
    rng = np.random.default_rng(0)
    feeds = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in sizes.items()}
    for got, wanted in zip(results(made.model, feeds), results(before, feeds), strict=True):
        assert got.shape == wanted.shape
        np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-6)


GEMM = "g (float[n, 3] x) => (float[n, 2] y) <float[3, 2] w = {w}, float[2] b = {{1, -9}}> {{ {body} }}"


@pytest.mark.parametrize(
    ("fused", "activation"),
    [
        ('activation = "Relu"', "y = Relu (p)"),
        ('activation = "Tanh"', "y = Tanh (p)"),
        ('activation = "LeakyRelu", activation_alpha = 0.25', "y = LeakyRelu <alpha: float = 0.25> (p)"),
        (
            'activation = "HardSigmoid", activation_alpha = 0.25, activation_beta = 0.75',
            "y = HardSigmoid <alpha: float = 0.25, beta: float = 0.75> (p)",
        ),
    ],
)
def test_a_fused_gemm_becomes_gemm_and_activation(fused, activation):
    text = GEMM.format(w=SIX, body=f"y = com.microsoft.FusedGemm <alpha: float = 0.5, {fused}> (x, w, b)")
    product = activation.replace("(p)", '("y.Gemm")')
    after = GEMM.format(w=SIX, body=f'"y.Gemm" = Gemm <alpha: float = 0.5> (x, w, b)  {product}')
    check(Unfuse({}), text, after, {"x": (4, 3)})


def test_an_activation_that_is_not_known_stays_fused():
    check(Unfuse({}), GEMM.format(w=SIX, body='y = com.microsoft.FusedGemm <activation = "Mish"> (x, w, b)'), None, {})


CONV = """g (float[n, 1, 3, 3] x, float[n, 1, 2, 2] z) => (float[n, 1, 2, 2] y)
    <float[1, 1, 2, 2] w = {{1, -2, 3, 4}}, float[1] b = {{1}}{more}> {{ {body} }}"""


def test_a_fused_convolution_keeps_what_it_adds_and_how_it_is_bounded():
    fused = """y = com.microsoft.FusedConv <activation = "Clip", activation_params = [0.0, 6.0], group = 1,
        kernel_shape = [2, 2]> (x, w, b, z)"""
    body = """"y.Conv" = Conv <group: int = 1, kernel_shape: ints = [2, 2]> (x, w, b)
        "y.Add" = Add ("y.Conv", z)  y = Clip ("y.Add", "y.number.0.0", "y.number.6.0")"""
    limits = ', float "y.number.0.0" = {0}, float "y.number.6.0" = {6}'
    sizes = {"x": (2, 1, 3, 3), "z": (2, 1, 2, 2)}
    check(Unfuse({}), CONV.format(more="", body=fused), CONV.format(more=limits, body=body), sizes)
    old = body.replace('("y.Add", "y.number.0.0", "y.number.6.0")', '<min: float = 0.0, max: float = 6.0> ("y.Add")')
    check(Unfuse({}), CONV.format(more="", body=fused), CONV.format(more="", body=old), sizes, opset=10)


MATMUL = "g (float[{x}] x) => (float[{y}] y) <float[{w}] w = {six}{more}> {{ {body} }}"


def matmul(x, y, w, body, more=""):
    return MATMUL.format(x=x, y=y, w=w, body=body, more=more, six=SIX)


def test_a_fused_matmul_of_rows_becomes_a_gemm():
    text = matmul("3, n", "n, 2", "2, 3", "y = com.microsoft.FusedMatMul <transA=1, transB=1, alpha=0.5> (x, w)")
    gemm = "y = Gemm <alpha: float = 0.5, transA: int = 1, transB: int = 1> (x, w)"
    check(Unfuse({"x": 2}), text, matmul("3, n", "n, 2", "2, 3", gemm), {"x": (3, 4)})


def test_a_fused_matmul_of_more_axes_turns_what_it_has_to():
    text = matmul("n, 3, 5", "n, 5, 2", "2, 3", "y = com.microsoft.FusedMatMul <transA=1, transB=1, alpha=0.5> (x, w)")
    body = """"y.Transpose" = Transpose <perm: ints = [0, 2, 1]> (x)
        "y.Transpose.2" = Transpose <perm: ints = [1, 0]> (w)
        "y.MatMul" = MatMul ("y.Transpose", "y.Transpose.2")  y = Mul ("y.MatMul", "y.number.0.5")"""
    after = matmul("n, 3, 5", "n, 5, 2", "2, 3", body, ', float "y.number.0.5" = {0.5}')
    check(Unfuse({"x": 3}), text, after, {"x": (2, 3, 5)})
    # How many axes there are is not known: nothing can be turned.
    check(Unfuse({}), text, None, {})


def test_fused_products_without_a_weight_stay():
    text = "g (float[n, 3] x, float[n, 3] z) => (float[n, n] y) { y = com.microsoft.FusedMatMul <transB = 1> (x, z) }"
    check(Unfuse({"x": 2, "z": 2}), text, None, {})


@pytest.mark.parametrize(
    ("equation", "x", "y", "w", "after", "more", "sizes"),
    [
        ("bi,io->bo", "n, 3", "n, 2", "3, 2", "y = MatMul (x, w)", "", (4, 3)),
        (
            "bi,oi->bo",
            "n, 3",
            "n, 2",
            "2, 3",
            '"y.Transpose" = Transpose <perm: ints = [1, 0]> (w)  y = MatMul (x, "y.Transpose")',
            "",
            (4, 3),
        ),
        ("...i,io->...o", "n, 5, 3", "n, 5, 2", "3, 2", "y = MatMul (x, w)", "", (4, 5, 3)),
        (
            # Channels in front, as in an image.
            "bit,io->bot",
            "n, 3, 5",
            "n, 2, 5",
            "3, 2",
            """"y.Transpose" = Transpose <perm: ints = [0, 2, 1]> (x)  "y.MatMul" = MatMul ("y.Transpose", w)
            y = Transpose <perm: ints = [0, 2, 1]> ("y.MatMul")""",
            "",
            (4, 3, 5),
        ),
    ],
)
def test_an_einsum_that_is_a_product_becomes_one(equation, x, y, w, after, more, sizes):
    text = matmul(x, y, w, f'y = Einsum <equation = "{equation}"> (x, w)')
    check(SpellOutEinsum({"x": len(sizes)}), text, matmul(x, y, w, after, more), {"x": sizes})


def test_an_einsum_over_heads_is_a_product_with_their_matrix():
    text = matmul("n, 3", "n, 2, 1", "3, 2, 1", 'y = Einsum <equation = "bd,dhk->bhk"> (x, w)')
    body = '"y.MatMul" = MatMul (x, "y.weight")  y = Reshape ("y.MatMul", "y.shape.0x2x1")'
    after = f"""g (float[n, 3] x) => (float[n, 2, 1] y)
        <float[3, 2] "y.weight" = {SIX}, int64[3] "y.shape.0x2x1" = {{0, 2, 1}}> {{ {body} }}"""
    check(SpellOutEinsum({"x": 2}), text, after, {"x": (4, 3)})


@pytest.mark.parametrize("equation", ["bi,ib->bi", "bi,bi->b", "bi,io->o", "bi,oo->bi", "bi,ij"])
def test_other_einsums_stay(equation):
    shape = "2, 3" if equation[3] == "b" else "3, 3" if equation[3:5] == "oo" else "3, 2"
    values = "{1, 2, 3, 4, 5, 6, 7, 8, 9}" if shape == "3, 3" else SIX
    text = f"""g (float[2, 3] x) => (float[k] y) <float[{shape}] w = {values}>
        {{ y = Einsum <equation = "{equation}"> (x, w) }}"""
    check(SpellOutEinsum({"x": 2}), text, None, {})


def test_a_weight_behind_reshape_and_any_transpose_is_stored_as_it_is_used():
    more = ", int64[3] s = {1, 2, 3}"
    body = "v = Reshape (w, s)  u = Transpose <perm = [2, 0, 1]> (v)  t = Flatten (u)  y = MatMul (x, t)"
    after = "g (float[n, 3] x) => (float[n, 2] y) <float[3, 2] w = {1, 4, 2, 5, 3, 6}> { y = MatMul (x, w) }"
    check(StoreAsUsed({"x": 2}), matmul("n, 3", "n, 2", "6", body, more), after, {"x": (4, 3)})


def test_a_cast_among_them_stays_and_the_type_that_is_stored_too():
    body = "v = Reshape (w, s)  u = Cast <to = 1> (v)  y = MatMul (x, u)"
    text = f"g (float[n, 3] x) => (float[n, 2] y) <double[6] w = {SIX}, int64[2] s = {{3, 2}}> {{ {body} }}"
    after = f"""g (float[n, 3] x) => (float[n, 2] y) <double[3, 2] w = {SIX}>
        {{ "y.Cast" = Cast <to: int = 1> (w)  y = MatMul (x, "y.Cast") }}"""
    check(StoreAsUsed({"x": 2}), text, after, {"x": (4, 3)})


GATES = "a = Slice (w, k0, k1, k0)  b = Slice (w, k1, k2, k0)  v = Concat <axis = 0> (b, a)"


def test_gates_that_slices_put_in_another_order_are_stored_so():
    more = "int64[1] k0 = {0}, int64[1] k1 = {1}, int64[1] k2 = {9}"
    text = f"""g (float[n, 3] x) => (float[n, 2] y) <float[2, 3] w = {SIX}, {more}>
        {{ {GATES}  t = Transpose (v)  y = MatMul (x, t) }}"""
    after = "g (float[n, 3] x) => (float[n, 2] y) <float[3, 2] w = {4, 1, 5, 2, 6, 3}> { y = MatMul (x, w) }"
    check(StoreAsUsed({"x": 2}), text, after, {"x": (4, 3)})


@pytest.mark.parametrize(
    "body",
    [
        # Something else reads a slice, the slices repeat elements, or are taken backwards.
        f"{GATES}  t = Transpose (v)  p = MatMul (x, t)  s = ReduceSum (a)  y = Add (p, s)",
        "v = Concat <axis = 0> (w, w)  t = Transpose (v)  p = MatMul (x, t)  y = Slice (p, k0, k2, k1)",
        "v = Slice (w, k2, m9, k0, m1)  t = Transpose (v)  y = MatMul (x, t)",
        "e = Identity (k1)  v = Slice (w, k0, e, k0)  t = Transpose (v)  p = MatMul (x, t)  y = Add (p, p)",
    ],
)
def test_other_slices_of_a_weight_stay(body):
    more = "int64[1] k0 = {0}, int64[1] k1 = {1}, int64[1] k2 = {2}, int64[1] m1 = {-1}, int64[1] m9 = {-9}"
    text = f"g (float[n, 3] x) => (float[n, 2] y) <float[2, 3] w = {SIX}, {more}> {{ {body} }}"
    check(StoreAsUsed({"x": 2}), text, None, {})


def test_a_tensor_that_others_read_is_not_stored_twice():
    body = "v = Reshape (w, s)  y = MatMul (x, v)  z = Relu (w)"
    text = f"""g (float[n, 3] x) => (float[n, 2] y, float[6] z) <float[6] w = {SIX}, int64[2] s = {{3, 2}}>
        {{ {body} }}"""
    check(StoreAsUsed({"x": 2}), text, None, {})


def test_axes_of_size_one_in_front_of_a_weight_are_dropped():
    text = matmul("n, 5, 3", "n, 5, 2", "1, 3, 2", "y = MatMul (x, w)")
    check(StoreAsUsed({"x": 3}), text, matmul("n, 5, 3", "n, 5, 2", "3, 2", "y = MatMul (x, w)"), {"x": (4, 5, 3)})


def test_the_result_keeps_the_axes_that_only_the_weight_had():
    text = matmul("n, 3", "1, 1, n, 2", "1, 1, 3, 2", "y = MatMul (x, w)")
    body = '"y.MatMul" = MatMul (x, w)  y = Unsqueeze ("y.MatMul", "y.shape.0x1")'
    after = f"""g (float[n, 3] x) => (float[1, 1, n, 2] y)
        <int64[2] "y.shape.0x1" = {{0, 1}}, float[3, 2] w = {SIX}> {{ {body} }}"""
    check(StoreAsUsed({"x": 2}), text, after, {"x": (4, 3)})


W = np.random.default_rng(1).standard_normal((6, 6)).astype(np.float32)


@pytest.mark.parametrize(
    "body",
    [
        'y = com.microsoft.FusedGemm <activation = "Relu"> (x, w)',
        "y = com.microsoft.FusedMatMul <transB = 1, alpha = 0.5> (x, w)",
        'y = Einsum <equation = "bi,oi->bo"> (x, w)',
        "v = Reshape (w, s)  y = MatMul (x, v)",
        "v = Unsqueeze (w, o)  u = MatMul (x, v)  y = Reshape (u, s)",
    ],
)
def test_layers_are_found_in_all_of_them(make, body):
    text = f"g (float[n, 6] x) => (float[n, 6] y) {{ {body} }}"
    arrays = {"w": W, "s": np.array([-1, 6]), "o": np.array([0])}
    model = load_model(make(text, arrays, domains=("com.microsoft",)))
    assert [(layer.name, layer.outputs, layer.inputs, layer.kind) for layer in model.layers] == [("w", 6, 6, "fc")]
    assert model.untouched == ()
