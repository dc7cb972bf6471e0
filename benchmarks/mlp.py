"""A chain of fully-connected layers as an ONNX model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Singles = NDArray[np.float32]


def write_mlp(path: Path, name: str, source: str, layers: Sequence[tuple[Singles, Singles]]) -> Path:
    """Write layers with ReLU between them, from `source` of shape (n, inputs) to "scores" of shape (n, outputs).

    Parameters
    ----------
    path
        The file to write, which is also returned.
    name
        The graph's name.
    source
        The name of the model's input.
    layers
        Weight of shape (outputs, inputs) and bias of each layer; layer k is called ``fck``, from 1 on.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes, stored, before = [], [], source
    for k, (weight, bias) in enumerate(layers, 1):
        after = f"fc{k}" if k < len(layers) else "scores"
        stored.append(numpy_helper.from_array(weight, f"fc{k}.weight"))
        stored.append(numpy_helper.from_array(bias, f"fc{k}.bias"))
        nodes.append(helper.make_node("Gemm", [before, f"fc{k}.weight", f"fc{k}.bias"], [after], f"fc{k}", transB=1))
        if k < len(layers):
            before = f"relu{k}"
            nodes.append(helper.make_node("Relu", [after], [before]))
    value = helper.make_tensor_value_info
    inputs, outputs = layers[0][0].shape[1], layers[-1][0].shape[0]
    ports = [value(source, TensorProto.FLOAT, ["n", inputs])], [value("scores", TensorProto.FLOAT, ["n", outputs])]
    graph = helper.make_graph(nodes, name, *ports, stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path
