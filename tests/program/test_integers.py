"""Operators of whole numbers as programs: what they give is what onnxruntime's own give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from lrfdse.base.privacy import load_onnxruntime
from lrfdse.program.lower import program
from tests.program.interpreter import run


def levels(*shape):
    """Weights of 7 bits: products of 8 saturate on some processors."""
    return np.random.default_rng(0).integers(-63, 64, shape).astype(np.int8)


def model(nodes, tensors, read, given):
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", read), ("y", given))]
    held = [numpy_helper.from_array(np.asarray(array), name) for name, array in tensors.items()]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], held)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


SCALES = {f"s{k}": np.float32(0.01 * k) for k in range(1, 6)} | {"z": np.uint8(120), "i": np.int8(0)}


def operator(name):
    """A graph of one operator between QuantizeLinear and DequantizeLinear."""
    node, tensors, read, given = {
        "QLinearMatMul": (["q", "s1", "z", "w", "s2", "i", "s3", "z"], {"w": levels(6, 5)}, [4, 6], [4, 5]),
        "QLinearConv": (
            ["q", "s1", "z", "w", "ws", "wz", "s3", "z", "b"],
            {
                "w": levels(3, 2, 3, 3),
                "ws": np.array([0.01, 0.02, 0.03], np.float32),
                "wz": np.zeros(3, np.int8),
                "b": np.array([100, -900, 40], np.int32),
            },
            [1, 2, 6, 6],
            [1, 3, 4, 4],
        ),
        "QLinearAdd": (
            ["q", "s1", "z", "w", "s4", "z", "s5", "z"],
            {"w": np.arange(6, dtype=np.uint8)},
            [4, 6],
            [4, 6],
        ),
        # At s2 every odd level would lie half way between two others.
        "QLinearLeakyRelu": (["q", "s1", "z", "s3", "z"], {}, [4, 6], [4, 6]),
        "QLinearSigmoid": (["q", "s1", "z", "s1", "z"], {}, [4, 6], [4, 6]),
    }[name]
    last = node[-3:-1] if name == "QLinearConv" else node[-2:]
    domain = "" if name in ("QLinearMatMul", "QLinearConv") else "com.microsoft"
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s1", "z"], ["q"]),
        helper.make_node(name, node, ["l"], domain=domain),
        helper.make_node("DequantizeLinear", ["l", *last], ["y"]),
    ]
    return model(nodes, SCALES | tensors, read, given), SCALES[last[0]]


@pytest.mark.parametrize("name", ["QLinearMatMul", "QLinearConv", "QLinearAdd", "QLinearLeakyRelu", "QLinearSigmoid"])
def test_an_operator_on_levels(name):
    rng = np.random.default_rng(1)
    proto, level = operator(name)
    shape = [size.dim_value for size in proto.graph.input[0].type.tensor_type.shape.dim]
    x = rng.normal(size=shape).astype(np.float32)
    session = load_onnxruntime().InferenceSession(proto.SerializeToString())
    (expected,) = session.run(None, {"x": x})
    found = run(program(ir.from_proto(proto), {}, Path("m.onnx")), {"x": x})["y"].reshape(expected.shape)
    off = np.abs(found - expected)
    assert np.mean(off > 1e-5) < 0.1
    assert off.max() < 1.01 * level
