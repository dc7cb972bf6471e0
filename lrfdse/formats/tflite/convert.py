"""From a file's graph to an ONNX model, operator by operator; what no rule stands for is named all at once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from lrfdse.base.text import listed
from lrfdse.errors import InputError
from lrfdse.formats.tflite.builder import Builder, Rules, Site, UnsupportedError
from lrfdse.formats.tflite.flatbuffer import Graph, Tensor
from lrfdse.formats.tflite.rules import elementwise, images, products, shapes

if TYPE_CHECKING:
    import onnx

RULES: Rules = {**elementwise.RULES, **images.RULES, **products.RULES, **shapes.RULES}
"""Every operator that is read, by the schema's name."""

_MOST_NAMED = 12
"""Kinds of operators that a message names. Chosen: about what fits a line."""

_TYPES = {"FLOAT32": "FLOAT", "FLOAT16": "FLOAT", "FLOAT64": "DOUBLE"}
"""ONNX's names of element types where they differ from the schema's."""


def as_onnx(graph: Graph, path: Path) -> onnx.ModelProto:
    """Return the graph as an ONNX model of the same inputs and outputs; levels are real numbers inside and at its end.

    Raises
    ------
    InputError
        Some of it cannot be mapped; the message names every kind of operator that cannot, with how many there are.
    """
    builder = Builder(graph)
    for index in graph.inputs:
        builder.feed(index)
    _write(builder, graph, path)
    try:
        names = [(builder.name_output(index), index) for index in graph.outputs]
    except UnsupportedError as error:
        raise InputError(f"{path}: damaged: an output of the graph is not computed: {error}") from error
    inputs = [_port(tensor.name, tensor, fed=True) for tensor in (graph.tensors[index] for index in graph.inputs)]
    return builder.model(inputs, [_port(name, graph.tensors[index], fed=False) for name, index in names])


def as_parts(graph: Graph, path: Path) -> tuple[onnx.ModelProto, dict[str, int], dict[int, str]]:
    """Return a model in which every operator stands alone, fed with what the operators before it computed.

    Returns
    -------
    tuple
        The model, its inputs with the tensors that they are, and the output that stands for each computed tensor.

    Raises
    ------
    InputError
        As for `as_onnx`.
    """
    builder = Builder(graph, cut=True)
    _write(builder, graph, path)
    inputs = [_port(name, graph.tensors[index], fed=True) for name, index in builder.inputs.items()]
    outputs = {index: name for index, name in builder.outputs.items() if name not in builder.inputs}
    ports = [_port(name, graph.tensors[index], fed=False) for index, name in outputs.items()]
    return builder.model(inputs, ports), dict(builder.inputs), outputs


def _write(builder: Builder, graph: Graph, path: Path) -> None:
    refused: Counter[str] = Counter()
    for operator in graph.operators:
        rule = RULES.get(operator.name)
        if rule is None:
            refused[operator.name] += 1
            continue
        if refused:
            # Operators behind one that is refused are only looked up: what they read may not be there.
            continue
        try:
            rule(Site(builder, operator))
        except UnsupportedError as error:
            refused[f"{operator.name} ({error})"] += 1
    if refused:
        named = [f"{count} x {name}" if count > 1 else name for name, count in refused.most_common()]
        raise InputError(
            f"{path}: operators that cannot be read: {listed(named, _MOST_NAMED)}; "
            "convert the model to ONNX by other means, or leave them out of it"
        )


def _port(name: str, tensor: Tensor, *, fed: bool) -> onnx.ValueInfoProto:
    from onnx import TensorProto, helper

    kind = "FLOAT" if tensor.is_level and not fed else _TYPES.get(tensor.kind, tensor.kind)
    shape: list[int | str] = list(tensor.shape)
    if tensor.is_open and shape:
        shape[0] = "batch"
    return helper.make_tensor_value_info(name, TensorProto.DataType.Value(kind), shape)
