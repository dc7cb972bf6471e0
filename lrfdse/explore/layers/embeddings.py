"""Embeddings as small models: rows looked up in a table, and what makes them of a factorized one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from lrfdse.ir.int8 import nearest

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

    from lrfdse.ir.kernel import EmbeddingSpec

_SEED = 0
"""Latency does not depend on the table; it only has to be the same every time."""


def embedding_model(spec: EmbeddingSpec) -> onnx.ModelProto:
    """Return a model of nothing but the embedding: numbers of rows (rows,) in, random weights."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(_SEED)
    width = spec.outputs if spec.rank is None else spec.rank
    tensors: dict[str, NDArray[Any]] = {"table": rng.standard_normal((spec.table, width)).astype(np.float32)}
    nodes = [helper.make_node("Gather", ["table", "x"], ["rows"], name="lookup")]
    if spec.storage.scaled:
        found = nearest(tensors["table"].astype(np.float64).T)
        tensors |= {"table": found.levels.T, "scale": found.scales}
        nodes[0].output[0] = "levels"
        nodes.append(helper.make_node("DequantizeLinear", ["levels", "scale"], ["rows"], name="scaling", axis=-1))
    if spec.rank is not None:
        factor = rng.standard_normal((spec.rank, spec.outputs)) / math.sqrt(spec.rank)
        tensors["factor"] = factor.astype(np.float32)
        nodes.append(helper.make_node("MatMul", ["rows", "factor"], ["product"], name="product"))
    if spec.bias:
        tensors["bias"] = rng.standard_normal(spec.outputs).astype(np.float32)
        nodes.append(helper.make_node("Add", [nodes[-1].output[0], "bias"], ["sum"], name="bias"))
    if spec.relu:
        nodes.append(helper.make_node("Relu", [nodes[-1].output[0]], ["positive"], name="relu"))
    graph = helper.make_graph(
        nodes,
        "embedding",
        [helper.make_tensor_value_info("x", TensorProto.INT64, [spec.rows])],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, [spec.rows, spec.outputs])],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
