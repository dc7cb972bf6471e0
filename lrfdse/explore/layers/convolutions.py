"""Convolutions that no single kernel stands for: compiled as a small model of their own, and timed by its operators."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from lrfdse.ir.convolution import Filter, filters

if TYPE_CHECKING:
    import onnx

    from lrfdse.ir.kernel import ConvolutionSpec

_SEED = 0
"""Latency does not depend on the weights; they only have to be the same every time."""


def convolution_model(spec: ConvolutionSpec) -> onnx.ModelProto:
    """Return a model of nothing but the chain: images (batch, channels, height, width) in and out, random weights."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(_SEED)
    nodes, tensors, value = [], [], "x"
    parts = filters(spec.factorization, spec.window, spec.channels)
    for number, part in enumerate(parts):
        inputs = [value, f"w{number}"]
        tensors.append(numpy_helper.from_array(_weight(part, rng), f"w{number}"))
        if spec.bias and number == len(parts) - 1:
            tensors.append(numpy_helper.from_array(rng.standard_normal(spec.outputs).astype(np.float32), "b"))
            inputs.append("b")
        w, value = part.window, f"y{number}"
        how = {"kernel_shape": w.kernel, "strides": w.strides, "dilations": w.dilations, "pads": w.pads}
        nodes.append(helper.make_node("Conv", inputs, [value], name=f"conv{number}", **how))
    if spec.relu:
        nodes.append(helper.make_node("Relu", [value], ["y"], name="relu"))
        value = "y"
    w = spec.window
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [w.batch, spec.channels, *w.image])
    y = helper.make_tensor_value_info(value, TensorProto.FLOAT, [w.batch, spec.outputs, *w.out])
    graph = helper.make_graph(nodes, "convolution", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _weight(part: Filter, rng: np.random.Generator) -> np.ndarray:
    sizes = (part.outputs, part.inputs, *part.window.kernel)
    return (rng.standard_normal(sizes) / math.sqrt(math.prod(sizes[1:]))).astype(np.float32)
