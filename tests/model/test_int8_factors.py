"""Factors in int8 as nodes of a model: run by onnxruntime and held against float64 of levels times scales."""

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
from lrfdse.ir.factors import Moments
from lrfdse.ir.storage import INT8
from lrfdse.model.graph import load_model
from lrfdse.model.passes.factor import rewrite
from lrfdse.model.passes.int8 import int8_sites

OUTPUTS, INPUTS = 22, 29
SHAPES = (
    "dense",
    "svd:r=6",
    "tt:m=22x1,n=1x29,r=6,lr",
    "tt:m=1x22,n=29x1,r=6",
    "tt:m=1x22,n=29x1,r=6,lr",
    "tt:m=4x6,n=5x6,r=7",
    "tt:m=2x3x4,n=3x2x5,r=4x5,lr",
)


def written(path, opset, op):
    """Return a model of one layer with a bias, as a file."""
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
@pytest.mark.parametrize(("opset", "op"), [(17, "Gemm"), (11, "MatMul"), (13, "MatMul")])
def test_the_model_gives_what_levels_and_scales_stand_for(tmp_path, text, opset, op) -> None:
    weight, bias = written(tmp_path / "net.onnx", opset, op)
    rows = np.random.default_rng(1).standard_normal((64, INPUTS)).astype(np.float32)
    moments = Moments(len(rows), rows.mean(axis=0, dtype=np.float64), rows.T.astype(np.float64) @ rows / len(rows))
    factors = Fitter(weight, moments).fit(Factorization.parse(text, OUTPUTS, INPUTS), INT8)
    model = load_model(tmp_path / "net.onnx")
    (layer,) = model.layers
    made = rewrite(model, {layer.name: factors})
    ort = load_onnxruntime()
    options = ort.SessionOptions()
    # Its own kernels for such products round activations unless told otherwise (docs/int8.md).
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "0")
    found = ort.InferenceSession(serialized(made), options, providers=["CPUExecutionProvider"]).run(None, {"x": rows})
    dense = dense_weight(factors.cores)[:OUTPUTS, :INPUTS]
    wanted = rows @ dense.T + bias + factors.bias_shift
    np.testing.assert_allclose(found[0], wanted, atol=2e-5 * np.abs(wanted).max())
    proto = onnx.ModelProto.FromString(file_content(made))
    kinds = {each.name: each.data_type for each in proto.graph.initializer}
    assert sum(kind == TensorProto.INT8 for kind in kinds.values()) == len(factors.cores)
    assert {each.key: each.value for each in proto.metadata_props}[f"lrfdse.{layer.name}"] == f"{text}@int8"
    # What is int8 already is not rounded again.
    assert not int8_sites(made)
