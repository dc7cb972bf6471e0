"""Weights as int8: in ONNX text, before and after, and run by onnxruntime and by ONNX's reference."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnx.reference
import onnx_ir as ir
import pytest

from lrfdse.base.privacy import load_onnxruntime
from lrfdse.formats.onnx import file_content, serialized
from lrfdse.ir.int8 import nearest
from lrfdse.model.passes.int8 import StoreInt8, int8_sites, stored_int8


def model_of(body, weights, opset=17, ir_version=8):
    """Return a model of ONNX text with arrays as initializers."""
    proto = onnx.parser.parse_model(f'<ir_version: {ir_version}, opset_import: ["" : {opset}]> {body}')
    for name, array in weights.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        if ir_version < 4:
            proto.graph.input.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, array.shape))
    return ir.from_proto(proto)


def rounded(model):
    sites = int8_sites(model)
    matrices = {site.root: nearest(site.weight.astype(np.float64)) for site in sites}
    return stored_int8(model, sites, matrices), sites, matrices


def in_float(model):
    """Return a session that does what the model says; by default onnxruntime 1.32 rounds activations of such products.

    It puts its MatMulNBits in their place, whose accuracy level 4, the default, computes in int8.
    """
    ort = load_onnxruntime()
    options = ort.SessionOptions()
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "0")
    return ort.InferenceSession(serialized(model), options, providers=["CPUExecutionProvider"])


def weight(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


FORMS = {
    "MatMul (x, w)": ((20, 30), False),
    "MatMul (v, w)": ((20, 30), False),
    "Gemm (x, w, c)": ((20, 30), False),
    "Gemm <transB = 1, alpha = 0.5> (x, w)": ((30, 20), True),
}


@pytest.mark.parametrize("opset", [11, 13, 19])
@pytest.mark.parametrize("form", FORMS)
def test_products_with_the_weight_on_the_right(form, opset):
    shape, turned = FORMS[form]
    stored = weight(0, *shape)
    sizes = "n, 2, 30" if "v," in form else "n, 30"
    body = f"g (float[n, 20] x, float[n, 2, 20] v) => (float[{sizes}] y) {{ y = {form} }}"
    model = model_of(body, {"w": stored, "c": weight(1, 30)}, opset)
    made, sites, matrices = rounded(model)
    assert [(site.root, site.weight.shape, site.flip) for site in sites] == [("w", (30, 20), not turned)]
    x, v = weight(2, 3, 20), weight(3, 3, 2, 20)
    product = (v if "v," in form else x).astype(np.float64) @ matrices["w"].dense().T
    wanted = 0.5 * product if "alpha" in form else product + (weight(1, 30) if ", c" in form else 0)
    proto = onnx.ModelProto.FromString(file_content(made))
    feeds = {"x": x, "v": v}
    if opset != 13:  # of which the reference has no DequantizeLinear
        assert np.allclose(onnx.reference.ReferenceEvaluator(proto).run(None, feeds)[0], wanted, atol=1e-4)
    assert np.allclose(in_float(made).run(None, feeds)[0], wanted, atol=1e-4)
    kinds = [node.op_type for node in proto.graph.node]
    assert kinds[:-1] == (["DequantizeLinear"] if opset >= 13 else ["Cast", "Mul"])
    assert {t.name: t.data_type for t in proto.graph.initializer if t.name.startswith("w")} == {
        "w.int8": onnx.TensorProto.INT8,
        "w.scale": onnx.TensorProto.FLOAT,
    }
    assert "w" in model.graph.initializers and len(model.graph) == 1, "the model that is given stays"


def test_a_weight_on_the_left_a_transposed_one_and_one_in_a_constant_node():
    body = """g (float[n, 20, 5] x) => (float[] y, float[] z)
        { y = MatMul (w, x)  t = Transpose (u)  q = Transpose <perm = [0, 2, 1]> (x)  z = MatMul (q, t) }"""
    weights = {"w": weight(0, 30, 20), "u": weight(1, 40, 20)}
    made, _, matrices = rounded(model_of(body, weights))
    x = weight(2, 3, 20, 5)
    y, z = in_float(made).run(None, {"x": x})
    assert np.allclose(y, matrices["w"].dense() @ x, atol=1e-4)
    assert np.allclose(z, x.transpose(0, 2, 1) @ matrices["u"].dense().T, atol=1e-4)


def test_initializers_that_are_inputs_too_become_constants_as_old_files_have_them():
    body = "g (float[n, 20] x) => (float[n, 30] y) { y = MatMul (x, w) }"
    made, _, matrices = rounded(model_of(body, {"w": weight(0, 20, 30)}, opset=11, ir_version=3))
    assert [value.name for value in made.graph.inputs] == ["x"]
    x = weight(1, 3, 20)
    assert np.allclose(in_float(made).run(None, {"x": x})[0], x @ matrices["w"].dense().T, atol=1e-4)


def test_a_weight_that_two_products_read_is_stored_once():
    body = "g (float[n, 20] x, float[n, 20] v) => (float[] y) { a = MatMul (x, w) b = MatMul (v, w) y = Add (a, b) }"
    made, sites, _ = rounded(model_of(body, {"w": weight(0, 20, 30)}))
    assert [site.reads for site in sites] == [(("x", -1), ("v", -1))]
    assert [node.op_type for node in made.graph] == ["DequantizeLinear", "MatMul", "MatMul", "Add"]


@pytest.mark.parametrize(
    ("body", "weights"),
    [
        ("g (float[n, 6] x) => (float[] y) { y = MatMul (x, w) }", {"w": weight(0, 6, 5)}),
        ("g (float[n, 1] x) => (float[] y) { y = MatMul (x, w) }", {"w": weight(0, 1, 500)}),
        ("g (float[n, 20] x) => (float[] y, float[] z) { y = MatMul (x, w) z = ReduceSum (w) }",
         {"w": weight(0, 20, 30)}),
        ("g (double[n, 20] x) => (double[] y) { y = MatMul (x, w) }", {"w": weight(0, 20, 30).astype(np.float64)}),
    ],
)  # fmt: skip
def test_what_stays_as_it_is(body, weights):
    model = model_of(body, weights)
    assert int8_sites(model) == []
    assert serialized(stored_int8(model, [], {})) == serialized(model)


def test_names_that_are_taken_stay_who_has_them():
    body = "g (float[n, 20] x) => (float[] y, float[] z) { y = MatMul (x, w) z = Identity (c) }"
    model = model_of(body, {"w": weight(0, 20, 30), "c": weight(1, 2)})
    value = model.graph.initializers.pop("c")
    value.name = "w.int8"
    model.graph.register_initializer(value)
    made, _, _ = rounded(model)
    assert np.array_equal(in_float(made).run(["z"], {"x": weight(2, 1, 20)})[0], weight(1, 2))


def test_a_weight_that_is_taken_saves_bytes_in_the_file():
    for outputs in (4, 8, 90):
        model = model_of("g (float[n, 24] x) => (float[] y) { y = MatMul (x, w) }", {"w": weight(0, 24, outputs)})
        made, sites, _ = rounded(model)
        before, after = len(serialized(model)), len(serialized(made))
        assert after < before if sites else after == before
        overhead = after - before + 3 * 24 * outputs - 4 * outputs
        assert not sites or 100 <= overhead <= 256


def test_the_pass_refuses_a_model_without_the_weight():
    model = model_of("g (float[n, 20] x) => (float[] y) { y = MatMul (x, w) }", {"w": weight(0, 20, 30)})
    made, sites, matrices = rounded(model)
    with pytest.raises(ir.passes.PreconditionError, match="holds no weight 'w'"):
        StoreInt8(sites, matrices)(made)
    assert int8_sites(made) == []
