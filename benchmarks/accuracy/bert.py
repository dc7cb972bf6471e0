"""A sentence encoder of the BERT family as an ONNX model, from its weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Arrays = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Sizes:
    """What the weights alone do not say."""

    layers: int
    heads: int
    hidden: int
    epsilon: float = 1e-12


def encoder(weights: Arrays, sizes: Sizes) -> onnx.ModelProto:
    """Return token ids and their mask, both int64 (N, S), to the mean of the tokens' vectors, of length 1.

    Post-norm blocks (Devlin et al. 2018) with GELU by the error function; weights are named as in the published
    safetensors files. Batch and length are open; positions of mask 0 take no part in attention and mean.
    """
    graph = _Graph(weights, sizes)
    mask = graph.op("Cast", ["attention_mask"], "mask", to=TensorProto.FLOAT)
    x = graph.embeddings()
    wide = graph.op("Unsqueeze", [mask, graph.ints("wide.axes", [1, 2])], "mask.wide")
    hidden = graph.op("Sub", [graph.number("one", 1.0), wide], "mask.absent")
    barrier = graph.op("Mul", [hidden, graph.number("barrier", -1e9)], "mask.barrier")
    for number in range(sizes.layers):
        x = graph.block(x, barrier, number)
    column = graph.op("Unsqueeze", [mask, graph.ints("last.axis", [-1])], "mask.column")
    kept = graph.op("Mul", [x, column], "pool.kept")
    total = graph.op("ReduceSum", [kept, graph.ints("length.axis", [1])], "pool.sum", keepdims=0)
    count = graph.op("ReduceSum", [column, graph.ints("length.axis", [1])], "pool.count", keepdims=0)
    mean = graph.op("Div", [total, count], "pool.mean")
    graph.op("LpNormalization", [mean], "embedding", axis=-1, p=2)
    made = helper.make_graph(
        graph.nodes,
        "encoder",
        [helper.make_tensor_value_info(n, TensorProto.INT64, ["N", "S"]) for n in ("input_ids", "attention_mask")],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", sizes.hidden])],
        list(graph.initializers.values()),
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="lrfdse")
    onnx.checker.check_model(model, full_check=True)
    return model


class _Graph:
    """Nodes and initializers in the order in which they are written; a node is called after its output."""

    def __init__(self, weights: Arrays, sizes: Sizes) -> None:
        self._weights = weights
        self._sizes = sizes
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}

    def op(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add a node and return its output."""
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def stored(self, name: str, array: NDArray[Any]) -> str:
        """Add an initializer, once, and return its name."""
        if name not in self.initializers:
            self.initializers[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def number(self, name: str, value: float) -> str:
        """Return a stored float."""
        return self.stored(name, np.array(value, np.float32))

    def ints(self, name: str, values: list[int]) -> str:
        """Return stored whole numbers."""
        return self.stored(name, np.array(values, np.int64))

    def weight(self, name: str) -> str:
        """Return one of the model's own arrays."""
        return self.stored(name, self._weights[name])

    def embeddings(self) -> str:
        """Add up what token, position and segment (always the first) stand for."""
        words = self.op("Gather", [self.weight("embeddings.word_embeddings.weight"), "input_ids"], "words")
        shape = self.op("Shape", ["input_ids"], "sizes", start=1, end=2)
        ends = [self.ints("zero", [0]), shape, self.ints("zero", [0])]
        table = self.weight("embeddings.position_embeddings.weight")
        places = self.op("Slice", [table, *ends], "places")
        segment = self.stored("segment", self._weights["embeddings.token_type_embeddings.weight"][0])
        placed = self.op("Add", [words, places], "placed")
        return self.norm(self.op("Add", [placed, segment], "embedded"), "embeddings.LayerNorm")

    def block(self, x: str, barrier: str, number: int) -> str:
        """Write one encoder layer."""
        name = f"encoder.layer.{number}"
        attended = self.attention(x, barrier, f"{name}.attention")
        x = self.norm(self.op("Add", [attended, x], f"{name}.attention.sum"), f"{name}.attention.output.LayerNorm")
        inner = self.dense(x, f"{name}.intermediate.dense")
        scaled = self.op("Mul", [inner, self.number("sqrt.half", math.sqrt(0.5))], f"{name}.gelu.scaled")
        erf = self.op("Erf", [scaled], f"{name}.gelu.erf")
        gate = self.op("Add", [erf, self.number("one", 1.0)], f"{name}.gelu.gate")
        half = self.op("Mul", [inner, self.number("half", 0.5)], f"{name}.gelu.half")
        outer = self.dense(self.op("Mul", [half, gate], f"{name}.gelu"), f"{name}.output.dense")
        return self.norm(self.op("Add", [outer, x], f"{name}.sum"), f"{name}.output.LayerNorm")

    def attention(self, x: str, barrier: str, name: str) -> str:
        """Write the attention of every head and the layer that joins them."""
        heads, width = self._sizes.heads, self._sizes.hidden // self._sizes.heads
        split = self.ints("heads.shape", [0, 0, heads, width])
        parts = {}
        for part, order in (("query", [0, 2, 1, 3]), ("key", [0, 2, 3, 1]), ("value", [0, 2, 1, 3])):
            whole = self.dense(x, f"{name}.self.{part}")
            apart = self.op("Reshape", [whole, split], f"{name}.{part}.heads")
            parts[part] = self.op("Transpose", [apart], f"{name}.{part}.turned", perm=order)
        products = self.op("MatMul", [parts["query"], parts["key"]], f"{name}.products")
        scores = self.op("Mul", [products, self.number("attention.scale", width**-0.5)], f"{name}.scores")
        barred = self.op("Add", [scores, barrier], f"{name}.barred")
        shares = self.op("Softmax", [barred], f"{name}.shares", axis=-1)
        mixed = self.op("MatMul", [shares, parts["value"]], f"{name}.mixed")
        back = self.op("Transpose", [mixed], f"{name}.back", perm=[0, 2, 1, 3])
        joined = self.op("Reshape", [back, self.ints("joined.shape", [0, 0, self._sizes.hidden])], f"{name}.joined")
        return self.dense(joined, f"{name}.output.dense")

    def dense(self, x: str, name: str) -> str:
        """Write ``x weight.T + bias``."""
        matrix = self.stored(f"{name}.matrix", self._weights[f"{name}.weight"].T)
        product = self.op("MatMul", [x, matrix], f"{name}.product")
        return self.op("Add", [product, self.weight(f"{name}.bias")], name)

    def norm(self, x: str, name: str) -> str:
        """Write a layer normalisation over the last axis."""
        weights = [self.weight(f"{name}.weight"), self.weight(f"{name}.bias")]
        return self.op("LayerNormalization", [x, *weights], name, axis=-1, epsilon=self._sizes.epsilon)
