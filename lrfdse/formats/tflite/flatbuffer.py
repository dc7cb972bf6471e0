"""The content of a TensorFlow Lite file as plain objects, each size checked before anything is made of it."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrfdse.base.text import one_line
from lrfdse.errors import InputError, ToolError
from lrfdse.formats.limits import MOST_NODES

IDENTIFIER = b"TFL3"
"""Stands at byte 4 of every TensorFlow Lite file of schema version 3 (`file_identifier` in schema.fbs)."""

_VERSION = 3
"""Version of the schema, the only one that LiteRT reads (TFLITE_SCHEMA_VERSION in its version.h)."""

_MOST_AXES = 8
"""Axes of a tensor. LiteRT's kernels take 8 at most where they broadcast (kMaxSmallSize in runtime_shape.h)."""

_SMALL, _MOST_TIMES = 1 << 26, 16
"""Constants may become so many bytes in memory, or so many times the file, if that is more. Chosen: int8 weights become
four times as many in float32, while tensors that share one buffer could become anything."""

DTYPES = {
    "FLOAT32": np.float32,
    "FLOAT16": np.float16,
    "FLOAT64": np.float64,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
}
"""The schema's names of element types that are read, and NumPy's types of them."""


def schema() -> Any:
    """Return the classes of the schema, which LiteRT's package ships.

    Raises
    ------
    ToolError
        The package is not installed.
    """
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError as error:
        raise ToolError(
            "ai-edge-litert, which reads TensorFlow Lite files, is not installed: run `pip install 'lrfdse[tflite]'`"
        ) from error
    return schema_py_generated


@dataclass(frozen=True, slots=True)
class Quantization:
    """How whole numbers stand for real ones: ``scale * (level - zero)``, for each index of an axis or for all."""

    scale: NDArray[np.float64]
    zero: NDArray[np.float64]
    axis: int

    @property
    def step(self) -> float:
        """The largest difference between neighbouring levels."""
        return float(self.scale.max())

    def values(self, levels: NDArray[Any]) -> NDArray[np.float32]:
        """Return the real numbers, float32."""
        sizes = [1] * levels.ndim
        if self.scale.size > 1:
            sizes[self.axis] = self.scale.size
        found = (levels.astype(np.float64) - self.zero.reshape(sizes)) * self.scale.reshape(sizes)
        return found.astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A tensor of the file."""

    index: int
    name: str
    """As in the file, made unique."""
    kind: str
    """The schema's name of the element type, a key of `DTYPES`."""
    shape: tuple[int, ...]
    is_open: bool
    """Whether the first size is open: a batch of any size."""
    data: NDArray[Any] | None
    """What is stored; None where the tensor is computed or fed."""
    quantization: Quantization | None

    @property
    def is_level(self) -> bool:
        """Whether it holds levels that stand for real numbers."""
        return self.quantization is not None and self.kind in ("INT8", "UINT8", "INT16", "INT32", "INT64")


@dataclass(frozen=True, slots=True, eq=False)
class Operator:
    """An operator: indices of tensors, -1 for an input that is left out."""

    index: int
    name: str
    """The schema's name, as "CONV_2D"; of a custom operator "CUSTOM" and its own."""
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Any = field(repr=False)
    """The schema's options object, None where it has none."""


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """The main graph of a file."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read_graph(content: bytes, path: Path) -> Graph:
    """Return the main graph of a TensorFlow Lite file; what other graphs hold is only run by control flow.

    Raises
    ------
    InputError
        The file is of another format or schema version, damaged, or its constants would take far more memory than
        it; the message begins with `path`.
    ToolError
        The schema is not installed.
    """
    if len(content) < 8 or content[4:8] != IDENTIFIER:
        raise InputError(f"{path}: not a TensorFlow Lite model: it lacks the identifier {IDENTIFIER.decode()}")
    try:
        return _whole(content, path)
    except struct.error as error:
        raise InputError(f"{path}: damaged, or cut short: it refers to what lies behind its end") from error


def _whole(content: bytes, path: Path) -> Graph:
    s = schema()
    model = s.Model.GetRootAs(content, 0)
    if model.Version() != _VERSION:
        raise InputError(f"{path}: schema version {model.Version()} is unknown: only version {_VERSION} is")
    if not _bounded(model.SubgraphsLength(), content, "subgraphs", path) >= 1:
        raise InputError(f"{path}: not a TensorFlow Lite model: it holds no graph")
    return _Reader(model, content, path).graph()


def _bounded(count: int, content: bytes, what: str, path: Path) -> int:
    """Return a count of entries, of which each takes four bytes of the file at least."""
    if count > min(len(content) // 4, MOST_NODES):
        raise InputError(f"{path}: it claims {count:,} {what}, more than fit a file of {len(content):,} bytes")
    return count


class _Reader:
    """Reads one file."""

    def __init__(self, model: Any, content: bytes, path: Path) -> None:
        s = schema()
        self._model, self._content, self._path = model, content, path
        self._graph = model.Subgraphs(0)
        self._kinds = {value: name for name, value in vars(s.TensorType).items() if isinstance(value, int)}
        self._codes = {value: name for name, value in vars(s.BuiltinOperator).items() if isinstance(value, int)}
        self._names: set[str] = set()
        self._left = max(_SMALL, _MOST_TIMES * len(content))

    def graph(self) -> Graph:
        graph = self._graph
        count = _bounded(graph.TensorsLength(), self._content, "tensors", self._path)
        used = _bounded(graph.OperatorsLength(), self._content, "operators", self._path)
        operators = tuple(self._operator(graph.Operators(i), i, count) for i in range(used))
        inputs = self._indices(graph.InputsAsNumpy(), "graph", count)
        outputs = self._indices(graph.OutputsAsNumpy(), "graph", count)
        if not inputs or not outputs or -1 in (*inputs, *outputs):
            raise InputError(f"{self._path}: the graph has no input or no output")
        made = {index for operator in operators for index in operator.outputs} | set(inputs)
        tensors = tuple(self._tensor(graph.Tensors(i), i, i in made) for i in range(count))
        return Graph(tensors, operators, inputs, outputs)

    def _operator(self, operator: Any, index: int, count: int) -> Operator:
        place = operator.OpcodeIndex()
        codes = _bounded(self._model.OperatorCodesLength(), self._content, "operator codes", self._path)
        if place >= codes:
            raise InputError(f"{self._path}: damaged: operator {index} is of kind {place}, but there are {codes} kinds")
        code = self._model.OperatorCodes(place)
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        name = self._codes.get(number, f"operator {number}")
        if name == "CUSTOM":
            name = f"CUSTOM {one_line((code.CustomCode() or b'').decode('utf-8', 'replace'), 40)!r}"
        where = f"operator {index}, {name},"
        inputs = self._indices(operator.InputsAsNumpy(), where, count)
        outputs = self._indices(operator.OutputsAsNumpy(), where, count)
        kind, table = operator.BuiltinOptionsType(), operator.BuiltinOptions()
        options = None if table is None or not kind else schema().BuiltinOptionsCreator(kind, table)
        return Operator(index, name, inputs, outputs, options)

    def _indices(self, found: Any, where: str, count: int) -> tuple[int, ...]:
        indices = () if isinstance(found, int) else tuple(map(int, found))
        if len(indices) > count or any(not -1 <= index < count for index in indices):
            raise InputError(f"{self._path}: damaged: {where} reads or writes a tensor that is not there")
        return indices

    def _tensor(self, tensor: Any, index: int, is_made: bool) -> Tensor:
        name = self._name((tensor.Name() or b"").decode("utf-8", "replace"), index)
        where = f"{self._path}: tensor {one_line(name, 60)!r}"
        shape = _sizes(tensor.ShapeAsNumpy(), where)
        signature = _sizes(tensor.ShapeSignatureAsNumpy(), where, least=-1)
        kind = self._kinds.get(tensor.Type(), str(tensor.Type()))
        data = None if is_made else self._data(tensor, shape, kind, where)
        quantization = None if tensor.Quantization() is None else _quantization(tensor.Quantization(), shape, where)
        return Tensor(index, name, kind, shape, signature[:1] == (-1,), data, quantization)

    def _name(self, wanted: str, index: int) -> str:
        name = wanted or f"tensor_{index}"
        if name in self._names:
            name = f"{name}#{index}"
        self._names.add(name)
        return name

    def _data(self, tensor: Any, shape: tuple[int, ...], kind: str, where: str) -> NDArray[Any] | None:
        number = tensor.Buffer()
        if number >= self._model.BuffersLength():
            raise InputError(f"{where}: damaged: its buffer {number} is not there")
        buffer = self._model.Buffers(number)
        if buffer.Offset() > 1:
            raise InputError(f"{where} lies behind the flatbuffer, as in files beyond 2 GiB: not supported")
        if not buffer.DataLength():
            is_empty = 0 in shape and kind in DTYPES
            return np.zeros(shape, DTYPES[kind]) if is_empty else None
        if kind not in DTYPES:
            raise InputError(f"{where} is of type {kind}, which is not supported")
        if tensor.Sparsity() is not None:
            # Only DENSIFY reads it, and that is named with all others that nothing stands for.
            return None
        dtype = np.dtype(DTYPES[kind])
        wanted = math.prod(shape) * dtype.itemsize
        if wanted != buffer.DataLength():
            sizes = "x".join(map(str, shape))
            raise InputError(f"{where} of {sizes} takes {wanted} bytes, but {buffer.DataLength()} are stored")
        self._left -= math.prod(shape) * max(4, dtype.itemsize)
        if self._left < 0:
            raise InputError(f"{where}: tensors that share their bytes become too large for memory: refused")
        return np.frombuffer(buffer.DataAsNumpy().tobytes(), dtype.newbyteorder("<")).reshape(shape).astype(dtype)


def _sizes(found: Any, where: str, least: int = 0) -> tuple[int, ...]:
    sizes = () if isinstance(found, int) else tuple(map(int, found[: _MOST_AXES + 1]))
    if len(sizes) > _MOST_AXES or any(size < least for size in sizes):
        raise InputError(f"{where}: damaged: its sizes are {'x'.join(map(str, sizes))}")
    return sizes


def _quantization(found: Any, shape: tuple[int, ...], where: str) -> Quantization | None:
    if not found.ScaleLength():
        return None
    scale = np.array(found.ScaleAsNumpy(), np.float64)
    zero = np.array(found.ZeroPointAsNumpy(), np.float64) if found.ZeroPointLength() else np.zeros(scale.shape)
    axis = found.QuantizedDimension()
    if zero.size == 1:
        zero = np.broadcast_to(zero, scale.shape)
    fits = scale.size == 1 or (axis < len(shape) and shape[axis] == scale.size)
    if not (fits and zero.shape == scale.shape and np.isfinite(scale).all() and (scale >= 0).all()):
        raise InputError(f"{where}: damaged: its {scale.size} scales and {zero.size} zero points do not fit it")
    if not scale.all():
        return None
    return Quantization(scale, zero, axis)
