"""Onnxruntime's own quantizer as a baseline."""

from __future__ import annotations

import logging

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lrfdse.errors import InputError
from lrfdse.model.data import Dataset
from lrfdse.model.graph import load_model
from lrfdse.model.runtime import Runtime
from lrfdse.model.static_int8 import static_int8


def saved(folder, batch="n"):
    weight = np.random.default_rng(0).normal(size=(30, 40)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 30])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 40])],
        [numpy_helper.from_array(weight, "w")],
    )
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return load_model(path)


@pytest.mark.parametrize("batch", ["n", 4])
def test_weights_and_activations_are_int8_and_outputs_close(tmp_path, batch, capfd):
    model = saved(tmp_path, batch=batch)
    x = np.random.default_rng(1).normal(size=(102, 30)).astype(np.float32)
    data, runtime = Dataset({"x": x}, None), Runtime()
    level = logging.getLogger().level
    made = static_int8(model, data, runtime.layout(runtime.session(model.original), data, 64))
    assert logging.getLogger().level == level
    kinds = [node.op_type for node in onnx.ModelProto.FromString(made).graph.node]
    assert kinds.count("QuantizeLinear") == 2 and kinds.count("DequantizeLinear") >= 3
    before, after = (runtime.run(form, data)["y"] for form in (model.original, made))
    error = np.linalg.norm(after - before) / np.linalg.norm(before)
    assert 1e-4 < error < 0.05
    assert capfd.readouterr() == ("", "")


def test_samples_of_scalars_are_shown_to_the_quantizer(make):
    text = """g (float[n, 30] x, int64 rate) => (float[n, 40] y, int64 z)
        { y = MatMul (x, w)  z = Identity (rate) }"""
    rng = np.random.default_rng(0)
    model = load_model(make(text, {"w": rng.normal(size=(30, 40)).astype(np.float32)}))
    inputs = {"x": rng.normal(size=(20, 1, 30)).astype(np.float32), "rate": np.full(20, 3)}
    data, runtime = Dataset(inputs, None, axes={"x": None, "rate": None}), Runtime()
    made = static_int8(model, data, runtime.layout(runtime.session(model.original), data, 64))
    proto = onnx.ModelProto.FromString(made)
    scales = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    # Of 255 steps from the least to the greatest number that it was shown.
    assert scales["x_scale"] == pytest.approx(np.ptp(inputs["x"]) / 255, rel=1e-5)


def test_what_the_quantizer_refuses_is_said_in_a_line(tmp_path):
    model = saved(tmp_path)
    data, runtime = Dataset({"x": np.ones((4, 30), np.float32)}, None), Runtime()
    layout = runtime.layout(runtime.session(model.original), data, 4)
    with pytest.raises(InputError, match=r"onnxruntime's quantizer cannot take the model: .*Got: 29 Expected: 30"):
        static_int8(model, Dataset({"x": np.ones((4, 29), np.float32)}, None), layout)
