"""The part of a model that a compressed layer can change, to run the rest of it only once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from lrfdse.model.data import Dataset
from lrfdse.model.runtime import Runtime

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)


@dataclass(frozen=True)
class Split:
    """A model in two: `head` gives the values `names`, which `tail` reads."""

    head: bytes
    names: tuple[str, ...]
    proto: onnx.ModelProto
    kept: frozenset[int]
    """Positions of the tail's nodes."""

    def carried(self, dataset: Dataset, runtime: Runtime) -> Dataset:
        """Return what the tail reads on `dataset`."""
        return Dataset(runtime.run(self.head, dataset, outputs=self.names), dataset.labels)

    def tail(self, arrays: Mapping[str, NDArray[Any]]) -> onnx.ModelProto:
        """Return the model from the values on; their shapes, but for the first size, are those of `arrays`."""
        made = onnx.ModelProto()
        made.CopyFrom(self.proto)
        del made.graph.node[:], made.graph.input[:], made.graph.value_info[:]
        made.graph.node.extend(node for place, node in enumerate(self.proto.graph.node) if place in self.kept)
        for name in self.names:
            kind = helper.np_dtype_to_tensor_dtype(arrays[name].dtype)
            made.graph.input.append(helper.make_tensor_value_info(name, kind, ["N", *arrays[name].shape[1:]]))
        used = {name for node in made.graph.node for name in node.input}
        stored = [tensor for tensor in self.proto.graph.initializer if tensor.name in used]
        del made.graph.initializer[:]
        made.graph.initializer.extend(stored)
        return made


def split(content: bytes, products: Iterable[str]) -> Split | None:
    """Split before the nodes that give the values `products`; None where the model cannot be split.

    What depends on nothing but constants stays in the tail, and so does what computes whole numbers (shapes), which
    need not have one row a sample.
    """
    proto = onnx.ModelProto.FromString(content)
    graph = proto.graph
    if any(attribute.type in (5, 10) for node in graph.node for attribute in node.attribute):
        return None
    stored = {tensor.name for tensor in graph.initializer}
    inputs = {value.name for value in graph.input} - stored
    producer = {name: position for position, node in enumerate(graph.node) for name in node.output}
    wanted = set(products)
    moving, after = set(inputs), set()
    for position, node in enumerate(graph.node):
        if moving & set(node.input):
            moving |= set(node.output)
        if wanted & set(node.output) or any(producer.get(name) in after for name in node.input):
            after.add(position)
    inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    kinds = {v.name: v.type.tensor_type.elem_type for v in [*inferred.graph.value_info, *inferred.graph.input]}
    names: set[str] = set()
    waiting = {name for place in after for name in graph.node[place].input}
    while waiting:
        name = waiting.pop()
        place = producer.get(name)
        if place in after or name in stored or not name:
            continue
        if name in moving and (place is None or kinds.get(name, TensorProto.FLOAT) in _FLOATS):
            names.add(name)
        elif place is not None:
            after.add(place)
            waiting |= set(graph.node[place].input)
    if any(producer.get(value.name) not in after for value in graph.output) or names <= inputs:
        return None
    head = onnx.ModelProto()
    head.CopyFrom(proto)
    del head.graph.output[:]
    for name in sorted(names):
        head.graph.output.append(helper.make_tensor_value_info(name, kinds.get(name) or TensorProto.FLOAT, None))
    return Split(head.SerializeToString(), tuple(sorted(names)), proto, frozenset(after))
