"""Quantized models: their layers found, their weights as stored, factors in their place; the rest told why not."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lrfdse.base.privacy import load_onnxruntime
from lrfdse.errors import InputError
from lrfdse.factorize.fit import Fitter
from lrfdse.formats.onnx import serialized
from lrfdse.ir.choice import Choice
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.kernel import kernel_spec
from lrfdse.ir.storage import FLOAT32, INT8
from lrfdse.model.data import Dataset
from lrfdse.model.graph import load_model
from lrfdse.model.passes.factor import rewrite
from lrfdse.model.runtime import Runtime
from lrfdse.model.static_int8 import static_int8

SAMPLES = np.random.default_rng(1).normal(size=(64, 30)).astype(np.float32)


def levels_and_scales(weight, axis):
    """Return symmetric int8 of a matrix, with a scale for each index of `axis`; None is one for all."""
    largest = np.abs(weight).max(axis=None if axis is None else 1 - axis, keepdims=axis is not None)
    scales = np.float32(largest / 127)
    return np.rint(weight / scales).astype(np.int8), np.squeeze(scales)


def saved(path, nodes, tensors, opset=17):
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", s]) for n, s in (("x", 30), ("y", 20))]
    held = [numpy_helper.from_array(np.asarray(array), name) for name, array in tensors.items()]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], held)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


def one(path, weight, axis, op="MatMul", turned=False, alpha=1.0, zero=None, change=lambda levels, scales: None):
    """Save a model of one product of a quantized weight, (inputs, outputs) or turned; axis -1 is that of outputs."""
    stored = weight.T.copy() if turned else weight
    place = {None: None, "outputs": 0 if turned else 1, "inputs": 1 if turned else 0}[axis]
    levels, scales = levels_and_scales(stored, place)
    change(levels, scales)
    more = {} if zero is None else {"z": np.full(scales.shape, zero, np.int8)}
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s", *more], ["w"], **({} if place is None else {"axis": place}))
    ]
    extra = {"transB": int(turned), "alpha": alpha} if op == "Gemm" else {}
    nodes.append(helper.make_node(op, ["x", "w"], ["y"], name="fc", **extra))
    return saved(path, nodes, {"q": levels, "s": scales, **more}), levels, scales


@pytest.mark.parametrize("axis", [None, "outputs"])
@pytest.mark.parametrize(
    ("op", "turned", "alpha"), [("MatMul", False, 1.0), ("Gemm", True, 1.0), ("Gemm", False, -0.5)]
)
def test_a_weight_in_int8_is_a_layer_that_stays_as_it_is_stored(tmp_path, axis, op, turned, alpha):
    weight = np.random.default_rng(0).normal(size=(30, 20)).astype(np.float32)
    path, levels, scales = one(tmp_path / "m.onnx", weight, axis, op, turned, alpha, zero=0)
    model = load_model(path)
    (layer,) = model.layers
    wide = scales if axis is None else (scales[:, None] if turned else scales)
    dense = levels.astype(np.float64) * wide
    np.testing.assert_allclose(model.weight(layer.name), alpha * (dense if turned else dense.T), rtol=1e-6)
    assert (layer.storage, layer.bytes, model.untouched) == (INT8, 600 + 4 * 20, ())
    np.testing.assert_allclose(model.scales[layer.name], np.broadcast_to(abs(alpha) * scales, 20), rtol=1e-6)
    # The layer as it is has a kernel of int8, and factors what their choice says.
    original = Choice(Factorization.dense(20, 30))
    assert kernel_spec(layer, layer.uses[0], original, corrected=True).storage == INT8
    factors = Choice(Factorization.svd(20, 30, 3))
    assert kernel_spec(layer, layer.uses[0], factors, corrected=True).storage == FLOAT32


def test_factors_take_the_place_of_levels_and_scales(tmp_path):
    weight = np.random.default_rng(0).normal(size=(30, 20)).astype(np.float32)
    path, *_ = one(tmp_path / "m.onnx", weight, "outputs")
    model = load_model(path)
    (layer,) = model.layers
    fitter = Fitter(model.weight(layer.name))
    for storage in (FLOAT32, INT8):
        factors = dataclasses.replace(fitter.fit(Factorization.svd(20, 30, 4), storage), bias_shift=None)
        version = rewrite(model, {layer.name: factors})
        assert {"q", "s"}.isdisjoint(version.graph.initializers)
        dense = factors.cores[0][0, :, 0] @ factors.cores[1][:, 0, :, 0]
        np.testing.assert_allclose(in_floats(version), SAMPLES @ dense.T, rtol=1e-4, atol=1e-4)


def spoilt(value):
    def change(levels, scales):
        scales[3] = value

    return change


def lowest(levels, scales):
    levels[0, 0] = -128


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"axis": "inputs"}, "its int8 weight has a scale for each input instead of each output"),
        ({"axis": "outputs", "zero": 3}, "quantized in a form other than int8 with zero points of 0"),
        ({"axis": "outputs", "change": spoilt(0.0)}, "its int8 weight has scales that are no positive numbers"),
        ({"axis": "outputs", "change": spoilt(np.nan)}, "its int8 weight has scales that are no positive numbers"),
        ({"axis": "outputs", "change": lowest}, "its int8 weight holds levels below -127"),
    ],
)
def test_what_is_not_read_is_said_in_a_line(tmp_path, options, reason):
    weight = np.random.default_rng(0).normal(size=(30, 20)).astype(np.float32)
    path, *_ = one(tmp_path / "m.onnx", weight, **options)
    with pytest.raises(InputError, match=f"no fully-connected layer with a constant weight found: .*{reason}"):
        load_model(path)


@pytest.fixture(scope="module")
def float_model(tmp_path_factory):
    rng = np.random.default_rng(2)
    tensors = {"a": rng.normal(size=(30, 40)), "b": rng.normal(size=40), "c": rng.normal(size=(40, 20))}
    nodes = [
        helper.make_node("Gemm", ["x", "a", "b"], ["h"], name="fc1"),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "c"], ["y"], name="fc2"),
    ]
    path = tmp_path_factory.mktemp("float") / "model.onnx"
    return load_model(saved(path, nodes, {name: array.astype(np.float32) for name, array in tensors.items()}))


def test_the_layers_of_what_onnxruntime_quantizes_statically_are_found(float_model, tmp_path):
    data, runtime = Dataset({"x": SAMPLES}, None), Runtime()
    layout = runtime.layout(runtime.session(float_model.original), data, 64)
    path = tmp_path / "int8.onnx"
    path.write_bytes(static_int8(float_model, data, layout))
    model = load_model(path)
    assert [(each.outputs, each.inputs, each.storage) for each in model.layers] == [(40, 30, INT8), (20, 40, INT8)]
    assert model.untouched == ()
    for layer, before in zip(model.layers, float_model.layers, strict=True):
        step = model.scales[layer.name].max()
        np.testing.assert_allclose(model.weight(layer.name), float_model.weight(before.name), atol=0.51 * step)
    first = model.layers[0].name
    # The bias is stored in int32, and read as what it stands for.
    assert model.layers[0].uses[0].bias
    np.testing.assert_allclose(model.bias(first), float_model.bias(float_model.layers[0].name), atol=1e-3)
    # Of all ranks the factors give what the weight gives, and so does all behind them.
    weight = model.weight(first)
    left, values, right = np.linalg.svd(weight, full_matrices=False)
    cores = ((left * values)[None, :, None, :], right[:, None, :, None])
    whole = dataclasses.replace(Fitter(weight).fit(Factorization.svd(40, 30, 30)), cores=cores, bias_shift=np.zeros(40))
    before, after = (in_floats(form) for form in (model.original, rewrite(model, {first: whole})))
    # A value on the edge between two levels may take the other one.
    assert np.quantile(np.abs(after - before), 0.95) < 1e-4 * np.abs(before).max()


def in_floats(form):
    """Run a model as it is written: optimized, onnxruntime multiplies int8 where the graph says floats."""
    ort = load_onnxruntime()
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(serialized(form), options).run(None, {"x": SAMPLES})[0]
