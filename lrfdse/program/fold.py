"""A model with static shapes: constants folded, arithmetic on shapes gone, every tensor's shape and type known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from lrfdse.errors import InputError
from lrfdse.model.constants import is_standard
from lrfdse.model.passes.usual.integers import SpellOutIntegers
from lrfdse.model.runtime import Runtime, simplified
from lrfdse.model.shapes import (
    MODEL_BYTES,
    Port,
    check_memory,
    infer_values,
    is_known,
    ports,
    shape_option,
    value_bytes,
)
from lrfdse.model.sized import with_sizes
from lrfdse.program.branches import branches_computed
from lrfdse.program.refuse import Refusal, ends_in, foreign_domains, found_in, raise_if_any, types_in

if TYPE_CHECKING:
    import onnx


_PASSES = 4
"""Most further passes: functions of ONNX's own are made of each other two deep (SoftmaxCrossEntropyLoss). Chosen."""


def folded(model: ir.Model, shapes: Mapping[str, Sequence[int]], path: Path) -> ir.Model:
    """Return a model of fixed shapes that computes the same, constants folded by onnxruntime.

    Parameters
    ----------
    model
        Stays as it is.
    shapes
        Sizes of inputs that the model leaves open, by the input's name. An open first size counts as one sample where
        it is not given.
    path
        Where the model is from, for messages.

    Raises
    ------
    InputError
        Sizes are open or do not fit, onnxruntime cannot load the model, or it holds what cannot be compiled.
    """
    model = ir.passes.functionalize(SpellOutIntegers())(model).model
    raise_if_any([*foreign_domains(model), *ends_in(model)], path)
    model = _stated(_open(model))
    inputs = ports(model.graph, shapes, path)
    if unknown := [port for port in inputs if not is_known(port.fixed)]:
        fix = " ".join(shape_option(port) for port in unknown)
        raise InputError(f"{path}: input {'; '.join(map(str, unknown))} has open sizes: fix them with {fix}")
    sized = with_sizes(model, inputs)
    _check_constants(sized, inputs, path)
    try:
        content = _simplest(sized)
        content, refused = _without_branches(content, inputs)
    except InputError as error:
        # What nothing can compile is named before what onnxruntime says of it.
        raise_if_any([each for each in found_in(model) if each.operator != "If"], path)
        raise InputError(f"{path}: {error}") from error
    raise_if_any(refused, path)
    return typed(content, inputs, path)


def _without_branches(content: bytes, inputs: Sequence[Port]) -> tuple[bytes, list[Refusal]]:
    """Return a model whose Ifs are computed on both sides, or what is in the way of that and of all else."""
    import onnx

    model = ir.from_proto(onnx.ModelProto.FromString(content))
    made, refused = branches_computed(model, inputs)
    if refused:
        return content, [*refused, *(each for each in found_in(model) if each.operator != "If")]
    return (content if made is model else _simplest(with_sizes(made, inputs))), []


def _open(model: ir.Model) -> ir.Model:
    """Return a model whose inputs' negative sizes are open, which is how some exporters write that."""
    if not any(isinstance(size, int) and size < 0 for value in model.graph.inputs for size in value.shape or ()):
        return model
    model = model.clone()
    for value in model.graph.inputs:
        if value.shape is not None:
            value.shape = ir.Shape([None if isinstance(size, int) and size < 0 else size for size in value.shape])
    return model


def _stated(model: ir.Model) -> ir.Model:
    """Return a model whose STFTs say that they are one-sided: ONNX's inference takes the default for the contrary."""
    if not any(node.op_type == "STFT" and "onesided" not in node.attributes for node in model.graph):
        return model
    model = model.clone()
    for node in model.graph:
        if node.op_type == "STFT" and "onesided" not in node.attributes:
            node.attributes.add(ir.AttrInt64("onesided", 1))
    return model


def _check_constants(proto: onnx.ModelProto, inputs: Sequence[Port], path: Path) -> None:
    """Refuse a model that makes constants larger than any model may be: they would be computed to be folded."""
    values = {value.name: value for value in infer_values(proto, inputs, fixed=True)}
    check_memory(list(values.values()), path)
    constant = {""} | {tensor.name for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        if constant.issuperset(node.input):
            constant.update(node.output)
            for value in (values[name] for name in node.output if name in values):
                if (size := value_bytes(value)) >= MODEL_BYTES:
                    raise InputError(
                        f"{path}: constant {value.name!r} has {size / 2**30:,.1f} GiB, but models have at most 2 GiB"
                    )


def _simplest(proto: onnx.ModelProto) -> bytes:
    """Return a model after as many passes as fold anything: what one pass writes out, the next one can fold."""
    import onnx

    content, nodes = simplified(proto.SerializeToString()), len(proto.graph.node)
    for _ in range(_PASSES):
        folded_once = onnx.ModelProto.FromString(content)
        if len(folded_once.graph.node) == nodes or not found_in(ir.from_proto(folded_once)):
            break
        nodes = len(folded_once.graph.node)
        content = simplified(content)
    return content


def typed(content: bytes, inputs: Sequence[Port], path: Path) -> ir.Model:
    """Return a model in which every value has its static shape and element type.

    Parameters
    ----------
    content
        The bytes of a model that was folded.
    inputs
        Its inputs with fixed sizes.
    path
        Where the model is from, for messages.

    Raises
    ------
    InputError
        It holds what cannot be compiled, or cannot be run where that takes a run to know.
    """
    import onnx

    proto = onnx.ModelProto.FromString(content)
    model: ir.Model = ir.from_proto(proto)
    RemoveUnusedNodesPass()(model)
    raise_if_any(found_in(model), path)
    values = infer_values(proto, inputs, fixed=True)
    check_memory(values, path)
    # Ten pixels by a scale of 0.7 are seven to onnxruntime, in float32, and six to the inference of ONNX.
    known = {} if any(_scales_by_parts(node) for node in model.graph) else {value.name: value for value in values}
    missing = []
    for value in _values(model.graph):
        found = known.get(value.name or "")
        if found is None or not _is_static(found):
            missing.append(value.name or "")
            continue
        value.dtype = ir.DataType(found.type.tensor_type.elem_type)
        value.shape = ir.Shape([dim.dim_value for dim in found.type.tensor_type.shape.dim])
    if missing:
        _run_for(model, proto, inputs, missing, path)
    _leave_out_nothing(model)
    raise_if_any(types_in(model.graph), path)
    return model


def _scales_by_parts(node: ir.Node) -> bool:
    """Return whether a node resizes a picture by a number that is not whole."""
    if node.op_type not in ("Resize", "Upsample") or not is_standard(node):
        return False
    given = node.attributes.get("scales")
    scales = [] if given is None else [np.array(given.as_floats())]
    contents = [None if value is None else ir.convenience.get_const_tensor(value) for value in node.inputs[1:3]]
    scales += [each.numpy() for each in contents if each is not None and each.dtype == ir.DataType.FLOAT]
    return any(bool((each != np.rint(each)).any()) for each in scales)


def _leave_out_nothing(model: ir.Model) -> None:
    """Take tensors without elements out of what is put together: exporters leave slices of sizes that became 0."""
    changed = False
    for node in model.graph:
        if node.op_type == "Concat" and is_standard(node):
            parts = [value for value in node.inputs if value is None or value.shape is None or 0 not in value.shape]
            if parts and len(parts) < len(node.inputs):
                for place, value in enumerate(parts):
                    node.replace_input_with(place, value)
                node.resize_inputs(len(parts))
                changed = True
    if changed:
        RemoveUnusedNodesPass()(model)


def _values(graph: ir.Graph) -> list[ir.Value]:
    """Return what is computed and read, or handed out."""
    made = [value for node in graph for value in node.outputs]
    return [*graph.inputs, *(value for value in made if value.uses() or value.is_graph_output())]


def _is_static(value: onnx.ValueInfoProto) -> bool:
    tensor = value.type.tensor_type
    return (
        bool(tensor.elem_type)
        and tensor.HasField("shape")
        and all(dim.HasField("dim_value") for dim in tensor.shape.dim)
    )


def _run_for(model: ir.Model, proto: onnx.ModelProto, inputs: Sequence[Port], names: Sequence[str], path: Path) -> None:
    """Set the shapes and types that inference does not know, as one run on random inputs shows them."""
    import onnx

    from lrfdse.model.data import random_inputs

    shown = onnx.ModelProto()
    shown.CopyFrom(proto)
    there = {value.name for value in shown.graph.output}
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in there)
    runtime = Runtime(sessions=0)
    try:
        session = runtime.session(shown.SerializeToString())
        arrays = runtime.call(session, random_inputs(inputs, np.random.default_rng(0)), names)
    except InputError as error:
        raise InputError(f"{path}: shapes cannot be found: {error}") from error
    for value in _values(model.graph):
        found = arrays.get(value.name or "")
        if found is not None:
            value.dtype = ir.DataType.from_numpy(found.dtype)
            value.shape = ir.Shape(found.shape)
