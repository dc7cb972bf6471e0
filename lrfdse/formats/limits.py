"""What is refused of a model before anything works on it: tensors that are cut, sizes below 0, what multiplies.

The time and the memory that a file takes are bounded by its size: what a few bytes could make large is counted first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrfdse.errors import InputError

if TYPE_CHECKING:
    import onnx

MOST_NODES = 200_000
"""Nodes of a model once the functions that it calls are written out. Chosen: an export of a large language model has
about a hundredth of that."""

_DEEPEST = 64
"""Calls of functions within each other. Chosen: exporters nest modules, about ten deep."""

_Key = tuple[str, str, str]


def check_functions(proto: onnx.ModelProto, path: Path) -> None:
    """Refuse a model whose functions call themselves, or become too many nodes where each call is written out.

    Raises
    ------
    InputError
        As said; the message names the function.
    """
    bodies: dict[_Key, Iterable[onnx.NodeProto]] = {
        (function.domain, function.name, function.overload): function.node for function in proto.functions
    }
    known: dict[_Key, tuple[int, int]] = {}

    def expanded(nodes: Iterable[onnx.NodeProto], depth: int, where: str) -> tuple[int, int]:
        """Return how many nodes there are with all calls written out, and how deep calls are nested."""
        count, height = 0, 0
        for node in every_node(nodes):
            key = (node.domain, node.op_type, node.overload)
            count += 1
            if key in bodies:
                if depth >= _DEEPEST:
                    raise InputError(f"{path}: functions call each other more than {_DEEPEST} deep, {key[1]!r} at last")
                if key not in known:
                    known[key] = expanded(bodies[key], depth + 1, f"function {key[1]!r}")
                inner, below = known[key]
                count, height = count + inner, max(height, below + 1)
                if depth + height > _DEEPEST:
                    raise InputError(f"{path}: functions call each other more than {_DEEPEST} deep, {key[1]!r} at last")
            if count > MOST_NODES:
                raise InputError(
                    f"{path}: {where} becomes more than {MOST_NODES:,} nodes with its functions written out"
                )
        return count, height

    expanded(proto.graph.node, 0, "the graph")


def check_tensors(proto: onnx.ModelProto, path: Path) -> None:
    """Refuse tensors whose sizes are below 0 or do not fit the bytes that are stored.

    Raises
    ------
    InputError
        As said; the message names the tensor and its sizes.
    """
    for tensor in every_tensor(proto):
        sizes = "x".join(map(str, tensor.dims))
        if any(size < 0 for size in tensor.dims):
            raise InputError(f"{path}: tensor {tensor.name!r} of {sizes} has a size below 0")
        # Elements outside of `raw_data` may be packed, and texts are of any length; those have at least a bit each.
        if tensor.HasField("raw_data"):
            bits = element_bits(tensor, f"{path}: tensor {tensor.name!r}")
            wanted = -(-math.prod(tensor.dims) * bits // 8)
            if wanted != len(tensor.raw_data):
                held = len(tensor.raw_data)
                raise InputError(
                    f"{path}: tensor {tensor.name!r} of {sizes} takes {wanted} bytes, but {held} are stored"
                )


def check_texts(proto: onnx.ModelProto, path: Path) -> None:
    """Refuse a model with a name that is no UTF-8: protobuf reads it as bytes, and writes it no more.

    Raises
    ------
    InputError
        As said; the message names the field.
    """
    import onnx

    left: list[Any] = [proto]
    while left:
        message = left.pop()
        if isinstance(message, onnx.TensorProto):
            # Its elements would be copied.
            fields = [(message.DESCRIPTOR.fields_by_name["name"], message.name)]
        else:
            fields = message.ListFields()
        for field, value in fields:
            single = isinstance(value, str | bytes) or hasattr(value, "ListFields")
            if field.type == field.TYPE_STRING:
                if any(not isinstance(text, str) for text in ([value] if single else value)):
                    kind = message.DESCRIPTOR.name
                    raise InputError(f"{path}: not a valid ONNX model: a {field.name} of a {kind} is no UTF-8")
            elif field.type == field.TYPE_MESSAGE:
                left += [value] if single else value


def element_bits(tensor: onnx.TensorProto, where: str) -> int:
    """Return the bits of one element.

    Raises
    ------
    InputError
        The type is none of ONNX, or texts, which have no size of their own; the message begins with `where`.
    """
    import onnx
    import onnx_ir as ir

    if tensor.data_type == onnx.TensorProto.STRING:
        raise InputError(f"{where}: texts cannot be stored as plain bytes or outside of the model")
    try:
        return ir.DataType(tensor.data_type).bitwidth
    except (ValueError, TypeError) as error:
        raise InputError(f"{where}: unknown element type {tensor.data_type}") from error


def every_node(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Yield nodes with those of their subgraphs; protobuf bounds how deep these are."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from every_node(attribute.g.node)
            for graph in attribute.graphs:
                yield from every_node(graph.node)


def every_tensor(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor of a model: of its graph, its subgraphs and its functions."""
    yield from _tensors(proto.graph.initializer, proto.graph.node)
    for function in proto.functions:
        yield from _tensors((), function.node)


def _tensors(stored: Iterable[onnx.TensorProto], nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    yield from stored
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("g"):
                yield from _tensors(attribute.g.initializer, attribute.g.node)
            for graph in attribute.graphs:
                yield from _tensors(graph.initializer, graph.node)
