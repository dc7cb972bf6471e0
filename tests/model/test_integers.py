"""Models whose operators compute with whole numbers: layers found, the same computed, factors put in their place."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lrfdse.base.privacy import load_onnxruntime, load_quantizer
from lrfdse.errors import InputError
from lrfdse.factorize.fit import Fitter
from lrfdse.formats.onnx import serialized
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.storage import INT8
from lrfdse.model.graph import load_model
from lrfdse.model.passes.factor import rewrite

SAMPLES = np.random.default_rng(1).normal(size=(64, 3, 4, 4)).astype(np.float32)
SIZES = [(40, 128), (30, 40), (20, 30)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a float model: a convolution, a Gemm of a turned weight, a sum and a sigmoid."""
    rng = np.random.default_rng(0)
    shapes = {"cw": (8, 3, 3, 3), "cb": (8,), "a": (40, 128), "b": (40,), "c": (40, 30), "d": (30,), "e": (30, 20)}
    tensors = [
        numpy_helper.from_array(0.2 * rng.normal(size=shape).astype(np.float32), name) for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["x", "cw", "cb"], ["conv"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("Flatten", ["relu"], ["flat"]),
        helper.make_node("Gemm", ["flat", "a", "b"], ["h"], name="fc1", transB=1),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "c"], ["m"], name="fc2"),
        helper.make_node("Add", ["m", "d"], ["t"]),
        helper.make_node("MatMul", ["t", "e"], ["s"], name="fc3"),
        helper.make_node("Sigmoid", ["s"], ["y"]),
    ]
    made = tmp_path_factory.mktemp("integers")
    save(made / "float.onnx", nodes, tensors, ["n", 3, 4, 4], ["n", 20])
    return made


def save(path, nodes, tensors, read, given, domains=()):
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", read), ("y", given))]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], tensors)
    opsets = [helper.make_opsetid("", 17), *(helper.make_opsetid(name, 1) for name in domains)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


@pytest.fixture(scope="module", params=["dynamic", "dynamic, per channel", "static", "static, per channel"])
def quantized(request, folder):
    """A model that onnxruntime's quantizer made, in 7 bits: of 8, its products saturate on some processors."""
    tools, per_channel = load_quantizer(), request.param.endswith("per channel")
    source, path = folder / "float.onnx", folder / f"{request.param}.onnx"
    common = {"per_channel": per_channel, "reduce_range": True, "weight_type": tools.QuantType.QInt8}
    if request.param.startswith("dynamic"):
        tools.quantize_dynamic(source, path, **common)
    else:

        class Reader(tools.CalibrationDataReader):
            left = iter([{"x": SAMPLES}])

            def get_next(self):
                return next(self.left, None)

        form = {"quant_format": tools.QuantFormat.QOperator, "activation_type": tools.QuantType.QUInt8}
        tools.quantize_static(source, path, Reader(), **form, **common)
    return load_model(path)


def run(content, optimized=False):
    ort = load_onnxruntime()
    options = ort.SessionOptions()
    if not optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(content, options).run(None, {"x": SAMPLES})[0]


def close(found, expected, level=0.02):
    """Whether outputs agree, but for few that lie on the edge between two levels, and by a level then."""
    off = np.abs(found - expected)
    return np.quantile(off, 0.9) < 1e-5 and off.max() < 1.01 * level


def test_layers_are_found_with_what_they_are_stored_in(quantized, folder):
    assert [(each.outputs, each.inputs) for each in quantized.layers] == SIZES
    assert {each.storage for each in quantized.layers} == {INT8}
    before = load_model(folder / "float.onnx")
    for layer, old in zip(quantized.layers, before.layers, strict=True):
        # A level of 7 bits is two of 8.
        step = quantized.scales[layer.name].max()
        np.testing.assert_allclose(quantized.weight(layer.name), before.weight(old.name), atol=0.51 * step)
    assert quantized.layers[0].uses[0].bias
    np.testing.assert_allclose(quantized.bias(quantized.layers[0].name), before.bias(before.layers[0].name), atol=1e-3)
    assert [each.name.removesuffix("_quant") for each in quantized.untouched] == ["conv"]
    assert "quantized" in quantized.untouched[0].reason


def test_what_is_written_out_in_floats_gives_what_the_whole_numbers_give(quantized):
    assert close(run(serialized(quantized.working.graph)), run(quantized.content))


def test_factors_of_full_rank_give_what_the_model_gives(quantized):
    name = quantized.layers[1].name
    weight = quantized.weight(name)
    left, values, right = np.linalg.svd(weight, full_matrices=False)
    cores = ((left * values)[None, :, None, :], right[:, None, :, None])
    whole = dataclasses.replace(Fitter(weight).fit(Factorization.svd(30, 40, 30)), cores=cores, bias_shift=np.zeros(30))
    version = rewrite(quantized, {name: whole})
    assert close(run(serialized(version)), run(quantized.content))
    assert name not in version.graph.initializers


def test_weights_with_zero_points_are_told(folder):
    tools, path = load_quantizer(), folder / "unsigned.onnx"
    tools.quantize_dynamic(folder / "float.onnx", path, weight_type=tools.QuantType.QUInt8)
    with pytest.raises(InputError, match="is left: quantized in a form other than int8 with zero points"):
        load_model(path)


def gemm(path, scale, alpha=1.0, levels_out=True):
    """Save a model of one QGemm with one scale as a vector of one element; return the levels."""
    rng = np.random.default_rng(3)
    weight, bias = rng.integers(-63, 64, (48, 20)), rng.integers(-900, 900, 20)
    tensors = {
        "xs": np.array([0.03], np.float32),
        "xz": np.array([120], np.uint8),
        "w": weight.astype(np.int8),
        "ws": np.array([scale], np.float32),
        "wz": np.zeros(1, np.int8),
        "b": bias.astype(np.int32),
        "ys": np.array(0.02, np.float32),
        "yz": np.array(128, np.uint8),
    }
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("QuantizeLinear", ["flat", "xs0", "xz0"], ["q"]),
    ]
    tensors |= {"xs0": tensors["xs"].reshape(()), "xz0": tensors["xz"].reshape(())}
    read = ["q", "xs", "xz", "w", "ws", "wz", "b"]
    if levels_out:
        nodes.append(helper.make_node("QGemm", [*read, "ys", "yz"], ["l"], domain="com.microsoft", alpha=alpha))
        nodes.append(helper.make_node("DequantizeLinear", ["l", "ys", "yz"], ["y"]))
    else:
        nodes.append(helper.make_node("QGemm", read, ["y"], domain="com.microsoft", alpha=alpha))
    held = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    save(path, nodes, held, ["n", 3, 4, 4], ["n", 20], ["com.microsoft"])
    return weight, bias


@pytest.mark.parametrize(("alpha", "levels_out"), [(1.0, True), (0.5, True), (0.5, False)])
def test_a_product_by_its_definition(tmp_path, alpha, levels_out):
    weight, bias = gemm(tmp_path / "m.onnx", 0.01, alpha, levels_out)
    model = load_model(tmp_path / "m.onnx")
    # By onnxruntime's definition the bias is worth alpha times both scales.
    read = np.clip(np.rint(SAMPLES.reshape(64, 48) / 0.03) + 120, 0, 255) - 120
    y = alpha * 0.03 * 0.01 * (read @ weight + bias)
    if levels_out:
        y = (np.clip(np.rint(y / 0.02) + 128, 0, 255) - 128) * 0.02
    for found in (run(model.content), run(serialized(model.working.graph))):
        assert close(found, y, level=0.02 if levels_out else 1e-4)
    np.testing.assert_allclose(model.bias(model.layers[0].name), alpha * 0.03 * 0.01 * bias, rtol=1e-5)


@pytest.mark.parametrize("scale", [0.0, -0.1, np.nan])
def test_scales_that_are_no_positive_numbers_are_told(tmp_path, scale):
    gemm(tmp_path / "m.onnx", scale)
    with pytest.raises(InputError, match="its int8 weight has scales that are no positive numbers"):
        load_model(tmp_path / "m.onnx")
