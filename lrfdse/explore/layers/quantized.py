"""Layers in whole numbers of 8 bits as small models: quantizing nodes around products, as designs hold them."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from lrfdse.ir.int8 import LARGEST

if TYPE_CHECKING:
    import onnx

    from lrfdse.ir.kernel import QuantizedSpec

_SEED = 0
"""Latency does not depend on the weights; they only have to be the same every time."""

_SCALE = 2.0**-5
"""What a level of what a step reads is worth: inputs of a bell curve stay within the levels. Latency does not depend on
it."""


def quantized_model(spec: QuantizedSpec) -> onnx.ModelProto:
    """Return a model of nothing but the layer: rows (rows, inputs) in, random weights."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(_SEED)
    sizes = [spec.inputs, *spec.factorization.ranks, spec.outputs]
    tensors = {"scale": np.array(_SCALE, np.float32), "zero": np.array(0, np.int8)}
    nodes, value = [], "x"
    for k, (inner, out) in enumerate(itertools.pairwise(sizes)):
        tensors[f"levels{k}"] = rng.integers(-LARGEST, LARGEST + 1, (inner, out)).astype(np.int8)
        # Outputs are about as large as inputs.
        tensors[f"worth{k}"] = np.full(out, np.sqrt(3 / inner) / LARGEST, np.float32)
        nodes += [
            helper.make_node("QuantizeLinear", [value, "scale", "zero"], [f"rounded{k}"], name=f"quantize{k}"),
            helper.make_node("DequantizeLinear", [f"rounded{k}", "scale", "zero"], [f"read{k}"], name=f"floats{k}"),
            helper.make_node("DequantizeLinear", [f"levels{k}", f"worth{k}"], [f"w{k}"], name=f"weight{k}", axis=1),
            helper.make_node("MatMul", [f"read{k}", f"w{k}"], [f"product{k}"], name=f"product{k}"),
        ]
        value = f"product{k}"
    if spec.bias:
        tensors["bias"] = rng.standard_normal(spec.outputs).astype(np.float32)
        nodes.append(helper.make_node("Add", [value, "bias"], ["sum"], name="bias"))
        value = "sum"
    if spec.relu:
        nodes.append(helper.make_node("Relu", [value], ["positive"], name="relu"))
        value = "positive"
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [spec.rows, spec.inputs])],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, [spec.rows, spec.outputs])],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
