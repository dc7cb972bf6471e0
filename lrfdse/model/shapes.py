"""Shapes: what the model fixes itself, and what one timed inference makes of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from lrfdse.base.machine import memory_bytes
from lrfdse.base.text import one_line
from lrfdse.errors import InputError
from lrfdse.model.constants import Constant, trace
from lrfdse.model.samples import sample_axes

Sizes = tuple[int | None, ...]

_LARGEST_SHAPE_TENSOR = 1024
"""Elements above which a tensor is not folded: one that holds sizes, axes or indices for shapes is far smaller.
Chosen."""


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of a model."""

    name: str
    dtype: str
    """NumPy's name of the element type."""
    shape: Sizes | None
    """The shape as the model declares it: None for an open size; None altogether where not even the rank is known."""
    labels: tuple[str, ...] = ()
    """The sizes in words, with the names of the open ones."""
    fixed: Sizes | None = None
    """The shape in the timed inference: `--shape` applied, and an open first size taken as one sample."""
    limit: int = 2
    """Whole-number inputs lie below this: the rows of the table that they look up, where there is one."""
    axis: int | None = 0
    """Axis along which samples are fed together; None where a sample is an input of the whole shape."""

    def __post_init__(self) -> None:
        if self.shape == ():
            object.__setattr__(self, "axis", None)

    def __str__(self) -> str:
        sizes = "a scalar" if self.shape == () else "x".join(self.labels) or "of unknown shape"
        return one_line(f"{self.name} ({sizes}, {self.dtype})")


def ports(graph: ir.Graph, shape: Mapping[str, Sequence[int]], path: Path) -> tuple[Port, ...]:
    """Return the inputs that a caller feeds, with `shape` applied, and the axes of their samples as declared.

    Raises
    ------
    InputError
        `shape` names no input, or does not fit what the model declares.
    """
    values = [value for value in graph.inputs if value.const_value is None]
    names = [value.name or "" for value in values]
    if not values:
        raise InputError(f"{path}: the model has no input to run it on")
    if unknown := sorted(set(shape) - set(names)):
        raise InputError(f"--shape {unknown[0]}: the model has no such input; its inputs are {', '.join(names)}")
    found = tuple(_port(value, shape.get(value.name or ""), path) for value in values)
    for port in found:
        if 0 in (port.shape or ()):
            raise InputError(f"{path}: input {port.name!r} has a size of 0: there is nothing to run")
    axes = sample_axes(*([getattr(port, each) for port in found] for each in ("shape", "labels", "fixed")))
    return tuple(_with_axis(port, axis) for port, axis in zip(found, axes, strict=True))


def _with_axis(port: Port, axis: int | None) -> Port:
    """Return an input with its axis of samples, which is one sample long in the timed inference where it is open."""
    fixed = port.fixed
    if axis is not None and fixed is not None and fixed[axis] is None:
        fixed = (*fixed[:axis], 1, *fixed[axis + 1 :])
    return replace(port, axis=axis, fixed=fixed)


def infer_values(proto: onnx.ModelProto, inputs: Sequence[Port], fixed: bool) -> list[onnx.ValueInfoProto]:
    """Return the values that ONNX's inference knows, with the inputs' sizes fixed or as declared; none where it fails.

    Shapes recorded in the file are left out: those of an export at another size would contradict.
    """
    bare = onnx.ModelProto()
    bare.CopyFrom(proto)
    del bare.graph.value_info[:]
    _empty_large_tensors(bare.graph)
    sizes = {port.name: port.fixed if fixed else port.shape for port in inputs}
    for value in bare.graph.input:
        found = sizes.get(value.name)
        if found is not None:
            value.type.tensor_type.shape.ClearField("dim")
            for size in found:
                dim = value.type.tensor_type.shape.dim.add()
                if size is not None:
                    dim.dim_value = size
    for value in bare.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        inferred = onnx.shape_inference.infer_shapes(bare, data_prop=True)
    except Exception:  # Inference gives up in many ways; the caller then runs the model.
        return []
    return [*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output]


def sizes_of(values: Sequence[onnx.ValueInfoProto]) -> dict[str, Sizes]:
    """Return value name to shape, of those that have one."""
    return {
        value.name: tuple(
            dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim
        )
        for value in values
        if value.type.tensor_type.HasField("shape")
    }


def check_memory(values: Sequence[onnx.ValueInfoProto], path: Path) -> None:
    """Refuse a model of which one value of one inference is larger than this machine's memory.

    Raises
    ------
    InputError
        As said; the message names the value with its sizes.
    """
    there = memory_bytes()
    for value in values:
        if (needed := value_bytes(value)) > there:
            sizes = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
            raise InputError(
                f"{path}: one inference needs {needed / 2**30:,.1f} GiB for {value.name!r} of "
                f"{'x'.join(map(str, sizes))}, but this machine has {there / 2**30:,.1f} GiB"
            )


MODEL_BYTES = 1 << 31
"""Bytes of a model file have to be fewer: protocol buffers count them in 31 bits."""


def value_bytes(value: onnx.ValueInfoProto) -> int:
    """Return how many bytes a value of known sizes has; 0 where one of them is open, or the value is a scalar."""
    sizes = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    return math.prod(sizes) * _bits(value.type.tensor_type.elem_type) // 8 if sizes and min(sizes) > 0 else 0


def _bits(element_type: int) -> int:
    """Return the bits of an element, 1 where they are not known."""
    try:
        return ir.DataType(element_type).bitwidth
    except (ValueError, TypeError):
        return 1


def _empty_large_tensors(graph: onnx.GraphProto) -> None:
    """Drop the elements of weights, which shape inference does not look at but would copy several times."""
    held = [attribute.t for node in graph.node if node.op_type == "Constant" for attribute in node.attribute]
    for tensor in (*graph.initializer, *held):
        if math.prod(tensor.dims) > _LARGEST_SHAPE_TENSOR:
            for field in ("raw_data", "float_data", "double_data", "int32_data", "int64_data"):
                tensor.ClearField(field)


def is_known(sizes: Sizes | None) -> bool:
    """Return whether every size is known."""
    return sizes is not None and None not in sizes


def shape_option(port: Port) -> str:
    """Return the option that would fix an input, with the open sizes as question marks."""
    if port.fixed is None:
        return f"--shape {port.name}=AxBxC"
    return f"--shape {port.name}={'x'.join('?' if size is None else str(size) for size in port.fixed)}"


def run_sizes(port: Port) -> tuple[int, ...]:
    """Return the sizes of an input in one inference.

    Raises
    ------
    InputError
        One of them is open.
    """
    if not is_known(port.fixed) or port.fixed is None:
        raise InputError(f"input {port} has open sizes: fix them with {shape_option(port)}")
    return tuple(int(size or 1) for size in port.fixed)


def _port(value: ir.Value, given: Sequence[int] | None, path: Path) -> Port:
    name = value.name or ""
    dtype = _dtype_name(value.dtype)
    limit = _lookup_rows(value)
    if value.shape is None:
        fixed = None if given is None else tuple(int(size) for size in given)
        return Port(name, dtype, None, (), fixed, limit)
    shape: Sizes = tuple(size if isinstance(size, int) else None for size in value.shape)
    labels = tuple(str(size) if isinstance(size, int) else str(size.value or "?") for size in value.shape)
    declared = "x".join(labels)
    if given is None:
        default = tuple(1 if size is None and axis == 0 else size for axis, size in enumerate(shape))
        return Port(name, dtype, shape, labels, default, limit)
    option = f"--shape {name}={'x'.join(map(str, given))}"
    if len(given) != len(shape) or any(own not in (None, size) for own, size in zip(shape, given, strict=False)):
        raise InputError(f"{option} does not fit {path}: the model declares {declared}")
    if min(given, default=1) < 1:
        raise InputError(f"{option}: sizes must be at least 1")
    return Port(name, dtype, shape, labels, tuple(int(size) for size in given), limit)


def _dtype_name(dtype: ir.DataType | None) -> str:
    if dtype is None or dtype in (ir.DataType.UNDEFINED, ir.DataType.STRING):
        return "unknown" if dtype is None else dtype.name.lower()
    return str(np.dtype(dtype.numpy()).name)


_CARRIED = frozenset({"Cast", "Expand", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
"""Operators behind which a value still holds the same whole numbers."""


def _lookup_rows(value: ir.Value) -> int:
    """Return how many numbers the value may hold: 2 where nothing in the model tells.

    It is the rows of the smallest table that the value looks up, or the classes that it is spread over: by OneHot, or
    by comparing it with a constant that lists them.
    """
    rows, left, seen = [], [value], {value}
    while left:
        for usage in left.pop().uses():
            node, place = usage.node, usage.idx
            if node.op_type in _CARRIED and place == 0 and node.outputs[0] not in seen:
                seen.add(node.outputs[0])
                left.append(node.outputs[0])
            elif node.op_type == "Gather" and place == 1 and (table := trace(node.inputs[0])):
                axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
                if -len(table.shape) <= axis < len(table.shape):
                    rows.append(table.shape[axis])
            elif node.op_type in ("Equal", "OneHot") and (place == 0 or node.op_type == "Equal"):
                other = trace(node.inputs[1 - place])
                if other is not None and math.prod(other.shape) > (1 if node.op_type == "Equal" else 0):
                    rows.append(_classes(other, node.op_type))
    return min((count for count in rows if count > 2), default=2)


def _classes(constant: Constant, kind: str) -> int:
    """Return one more than the largest of the classes that Equal compares with, or the classes that OneHot makes."""
    array = constant.array()
    if not np.isfinite(array).all():
        return 0
    return int(array.max()) + (kind == "Equal")
