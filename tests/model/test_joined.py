"""Products of one input as one: ONNX text before and after, equal results, and what is found, counted and written."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from lrfdse.deploy.forms import check_written
from lrfdse.errors import InputError
from lrfdse.explore.whole_cost import cost_of
from lrfdse.formats.onnx import as_proto
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.factors import Factors
from lrfdse.library.facts import LibraryFacts, OperatorFacts
from lrfdse.model.graph import load_model
from lrfdse.model.macs import macs_of
from lrfdse.model.passes.factor import rewrite
from lrfdse.model.passes.usual.joined import JoinProducts
from lrfdse.model.runtime import Runtime

RNG_INPUT = {"x": (2, 5, 3)}


def parsed(text, opset=17):
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}, "com.microsoft" : 1]> {text}')


def results(model, feeds):
    runtime = Runtime()
    session = runtime.session(model)
    return runtime.call(session, feeds, [port.name for port in session.get_outputs()])


def joined(text, sizes, opset=17):
    """Return the model with joined products after its results were compared with those of the text in onnxruntime."""
    before = ir.from_proto(parsed(text, opset))
    made = ir.passes.functionalize(JoinProducts({name: len(shape) for name, shape in sizes.items()}))(before)
    rng = np.random.default_rng(0)
    feeds = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in sizes.items()}
    wanted, got = results(before, feeds), results(made.model, feeds)
    assert list(got) == list(wanted)
    for name, array in wanted.items():
        assert got[name].shape == array.shape
        np.testing.assert_allclose(got[name], array, rtol=1e-6, atol=1e-6)
    assert made.modified == (operators(made.model) != operators(before))
    return made.model


def operators(model):
    return [node.op_type for node in model.graph if node.op_type != "Constant"]


TWO = "<float[3, 2] a = {1, 2, 3, 4, 5, 6}, float[3, 4] b = {7, 8, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9}, float[2] s = {1, -9}>"


@pytest.mark.parametrize("opset", [8, 11, 13, 18])
def test_products_of_one_value_become_one_that_is_split(opset):
    text = (
        f"g (float[n, 5, 3] x) => (float[n, 5, 2] y, float[n, 5, 4] z) {TWO} {{ y = MatMul (x, a) z = MatMul (x, b) }}"
    )
    made = joined(text, RNG_INPUT, opset)
    assert operators(made) == ["MatMul", "Split"]
    assert not {"a", "b"} & set(made.graph.initializers)


def test_biases_are_joined_and_one_that_is_missing_is_zero():
    text = f"""g (float[n, 5, 3] x) => (float[n, 5, 2] y, float[n, 5, 4] z) {TWO}
        {{ p = MatMul (x, a) y = Add (s, p) z = MatMul (x, b) }}"""
    made = joined(text, RNG_INPUT)
    assert operators(made) == ["MatMul", "Add", "Split"]
    (bias,) = [
        value.const_value.numpy()
        for value in made.graph.initializers.values()
        if len(value.shape) == 1 and value.const_value.dtype == ir.DataType.FLOAT
    ]
    np.testing.assert_array_equal(bias, [1, -9, 0, 0, 0, 0])


def test_what_an_add_holds_that_is_no_bias_stays_behind():
    text = """g (float[2, 5, 3] x) => (float[2, 5, 2] y, float[2, 5, 4] z)
        <float[3, 2] a = {1, 2, 3, 4, 5, 6}, float[3, 4] b = {7, 8, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9},
        float[5, 1] s = {1, 2, 3, 4, 5}> { p = MatMul (x, a) y = Add (p, s) z = MatMul (x, b) }"""
    assert operators(joined(text, RNG_INPUT)) == ["MatMul", "Split", "Add"]


def test_gemms_are_joined_whichever_way_their_matrices_lie():
    text = """g (float[n, 3] x) => (float[n, 2] y, float[n, 2] z, float[n, 2] w)
        <float[2, 3] a = {1, 2, 3, 4, 5, 6}, float[3, 2] b = {7, 8, 9, 1, 2, 3}, float[1, 2] s = {1, -9}> {
        y = Gemm <transB = 1> (x, a, s) z = Gemm (x, b) w = Relu (z) }"""
    assert operators(joined(text, {"x": (4, 3)})) == ["MatMul", "Add", "Split", "Relu"]


@pytest.mark.parametrize(
    "body",
    [
        "y = MatMul (x, a) q = Relu (x) z = MatMul (q, b)",
        "y = MatMul (x, a) q = MatMul (x, b) r = Transpose (b) z = Add (q, r)",
        "y = Gemm <alpha = 0.5> (x, a) z = Gemm (x, b)",
        "y = Gemm (x, a) z = Gemm <beta = 2.0> (x, b, s)",
        "t = Transpose (x) y = Gemm <transA = 1> (t, a) z = Gemm <transA = 1> (t, b)",
        "c = Add (a, a) y = MatMul (x, c) z = MatMul (x, b)",
    ],
)
def test_others_stay_as_they_are(body):
    text = f"""g (float[2, 2] x) => (float[2, 2] y, float[2, 2] z)
        <float[2, 2] a = {{1, 2, 3, 4}}, float[2, 2] b = {{5, 6, 7, 8}}, float[2] s = {{1, -9}}> {{ {body} }}"""
    before = ir.from_proto(parsed(text))
    assert operators(joined(text, {"x": (2, 2)})) == operators(before)


ATTENTION = """g (float[n, 5, 32] x) => (float[n, 5, 24] y)
    {{ p = MatMul (x, "block.0.query.weight") q = Add (p, "block.0.query.bias")
       k = MatMul (x, "block.0.key.weight") v = MatMul (x, "block.0.value.weight")
       m = Mul (q, k) w = Add (m, v) r = Relu(w) y = MatMul (r, "out.weight") }}"""


@pytest.fixture
def attention(tmp_path):
    rng = np.random.default_rng(3)
    proto = parsed(ATTENTION.format())
    for number, node in enumerate(proto.graph.node):
        node.name = f"{node.op_type}_{number}"
    sizes = {"block.0.query.weight": (32, 24), "block.0.key.weight": (32, 24), "block.0.value.weight": (32, 24)}
    for name, shape in {**sizes, "block.0.query.bias": (24,), "out.weight": (24, 24)}.items():
        array = rng.standard_normal(shape).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    path = tmp_path / "attention.onnx"
    onnx.save(proto, path)
    return path


def test_a_joint_layer_has_the_matrices_one_under_the_other(attention):
    apart, model = load_model(attention), load_model(attention, kinds=("fc", "joint"))
    assert [(layer.name, layer.kind, layer.outputs, layer.inputs) for layer in model.layers] == [
        ("block.0.query-key-value", "joint", 72, 32),
        ("out", "fc", 24, 24),
    ]
    names = [f"block.0.{part}" for part in ("query", "key", "value")]
    np.testing.assert_array_equal(model.weight("block.0.query-key-value"), np.vstack([apart.weight(n) for n in names]))
    (use,) = model.layer("block.0.query-key-value").uses
    assert use.nodes == ("MatMul_0", "MatMul_2", "MatMul_3")
    assert sum(layer.weights for layer in model.layers) == sum(layer.weights for layer in apart.layers)
    assert macs_of(model).total == macs_of(apart).total == sum(layer.flops for layer in apart.layers) // 2
    assert [layer.kind for layer in load_model(attention, kinds=("joint",)).layers] == ["joint"]


def test_factors_of_a_joint_layer_are_read_by_all_its_parts(attention):
    model = load_model(attention, kinds=("fc", "joint"))
    weight, rng = model.weight("block.0.query-key-value"), np.random.default_rng(4)
    u, s, v = np.linalg.svd(weight, full_matrices=False)
    a, b, shift = u[:, :7] * s[:7], v[:7], rng.standard_normal(72)
    factors = Factors(Factorization.svd(72, 32, 7), (a[None, :, None, :], b[:, None, :, None]), shift, 0.0, None)
    made = rewrite(model, {"block.0.query-key-value": factors})
    x = rng.standard_normal((3, 5, 32)).astype(np.float32)
    q, k, w = np.split(x.astype(np.float64) @ (a @ b).T + shift, 3, axis=-1)
    wanted = np.maximum((q + model.bias("block.0.query-key-value")[:24]) * k + w, 0) @ model.weight("out").T
    got = results(made, {"x": x})["y"]
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())
    again = load_model(written(made, attention))
    assert sorted((layer.outputs, layer.inputs) for layer in again.layers) == [(7, 32), (24, 24), (72, 7)]


def written(model, beside):
    path = beside.with_name("design.onnx")
    onnx.save(as_proto(model), path)
    return path


def test_operators_of_all_parts_are_those_of_the_layer(attention):
    model = load_model(attention, kinds=("fc", "joint"))
    shown = [("MatMul_0", "Add_1"), ("MatMul_2",), ("MatMul_3",), ("Mul_4", "Add_5", "Relu_6"), ("MatMul_7",)]
    blank = {each.name: None for each in dataclasses.fields(OperatorFacts)}
    operators = tuple(
        OperatorFacts(**{**blank, "kind": "FullyConnected", "nodes": nodes, "macs": 9, "weight_bytes": 9})
        for nodes in shown
    )
    blank = {each.name: None for each in dataclasses.fields(LibraryFacts)}
    cost = cost_of(
        LibraryFacts(**{**blank, "operators": operators, "code_bytes": 1, "weight_bytes": 1}), model.layers, None
    )
    assert [each.layer for each in cost.operators] == [*["block.0.query-key-value"] * 3, None, "out"]


def test_designs_of_files_whose_operators_are_replaced_one_by_one_are_refused(attention):
    model = load_model(attention, kinds=("joint",))
    check_written(model, ())
    flat = dataclasses.replace(model, path=attention.with_suffix(".tflite"))
    with pytest.raises(
        InputError, match=r"--layers joint: layer 'block.0.query-key-value' stands for several operators"
    ):
        check_written(flat, ())
