"""Factors in float16 as nodes of a model: run by onnxruntime, held against float64, and found again."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lrfdse.base.privacy import load_onnxruntime
from lrfdse.factorize.chain import dense_weight
from lrfdse.factorize.fit import Fitter
from lrfdse.formats.onnx import file_content, serialized
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.storage import FLOAT16
from lrfdse.model.graph import load_model
from lrfdse.model.passes.factor import rewrite

OUTPUTS, INPUTS = 22, 29
SHAPES = ("dense", "svd:r=6", "tt:m=1x22,n=29x1,r=6,lr", "tt:m=4x6,n=5x6,r=7", "tt:m=2x3x4,n=3x2x5,r=4x5,lr")


def written(path, opset, op):
    """Return the weight and bias of a model of one layer, which is written as a file."""
    rng = np.random.default_rng(0)
    weight, bias = (rng.standard_normal(size).astype(np.float32) for size in ((OUTPUTS, INPUTS), OUTPUTS))
    if op == "Gemm":
        nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)]
        stored = weight
    else:
        nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Add", ["p", "b"], ["y"])]
        stored = np.ascontiguousarray(weight.T)
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", INPUTS])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", OUTPUTS])],
        [numpy_helper.from_array(stored, "w"), numpy_helper.from_array(bias, "b")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return weight.astype(np.float64), bias.astype(np.float64)


@pytest.mark.parametrize("text", SHAPES)
@pytest.mark.parametrize(("opset", "op"), [(17, "Gemm"), (9, "MatMul")])
def test_the_model_computes_with_the_rounded_weights(tmp_path, text, opset, op) -> None:
    weight, bias = written(tmp_path / "net.onnx", opset, op)
    factors = Fitter(weight).fit(Factorization.parse(text, OUTPUTS, INPUTS), FLOAT16)
    model = load_model(tmp_path / "net.onnx")
    (layer,) = model.layers
    made = rewrite(model, {layer.name: factors})
    rows = np.random.default_rng(1).standard_normal((64, INPUTS)).astype(np.float32)
    session = load_onnxruntime().InferenceSession(serialized(made), providers=["CPUExecutionProvider"])
    dense = dense_weight(factors.cores)[:OUTPUTS, :INPUTS]
    wanted = rows @ dense.T + bias
    np.testing.assert_allclose(session.run(None, {"x": rows})[0], wanted, atol=2e-5 * np.abs(wanted).max())
    proto = onnx.ModelProto.FromString(file_content(made))
    onnx.checker.check_model(proto, full_check=True)
    halves = [each for each in proto.graph.initializer if each.data_type == TensorProto.FLOAT16]
    assert sorted(int(np.prod(each.dims)) for each in halves) == sorted(core.size for core in factors.cores)
    assert {each.key: each.value for each in proto.metadata_props}[f"lrfdse.{layer.name}"] == f"{text}@fp16"


@pytest.mark.parametrize(("text", "layers"), [("dense", 1), ("svd:r=6", 2)])
def test_it_is_found_again(tmp_path, text, layers) -> None:
    weight, _ = written(tmp_path / "net.onnx", 17, "Gemm")
    factors = Fitter(weight).fit(Factorization.parse(text, OUTPUTS, INPUTS), FLOAT16)
    model = load_model(tmp_path / "net.onnx")
    made = rewrite(model, {model.layers[0].name: factors})
    (tmp_path / "made.onnx").write_bytes(file_content(made))
    again = load_model(tmp_path / "made.onnx")
    assert len(again.layers) == layers
    product = np.eye(INPUTS)
    for layer in again.layers:
        product = again.weight(layer.name) @ product
    np.testing.assert_allclose(product, dense_weight(factors.cores)[:OUTPUTS, :INPUTS], atol=1e-12)
