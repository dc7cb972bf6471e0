"""A TensorFlow Lite graph in the making: ONNX's values as tensors, images with channels last or first as needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lrfdse.formats.tflite.flatbuffer import schema
from lrfdse.formats.tflite.parts import DEQUANTIZE_VERSION, KINDS, Parts, packed

if TYPE_CHECKING:
    import onnx

TO_FIRST, TO_LAST = (0, 3, 1, 2), (0, 2, 3, 1)
"""Orders of axes by which channels come first, and last."""

_FUSES = ("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "SUB", "MUL", "DIV")
"""Operators that apply an activation to what they give, as far as LiteRT's kernels of all of them do."""

_VERSION = 3
"""Version of the schema, the only one that LiteRT reads (TFLITE_SCHEMA_VERSION in its version.h)."""


class UnsupportedError(Exception):
    """An operator that cannot be written, with the reason; `write_file` names all of them at once."""


@dataclass(frozen=True, slots=True)
class Value:
    """What is known of a value of the ONNX graph."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Levels:
    """A stored tensor of int8, and what a level is worth for each index of an axis."""

    levels: NDArray[np.int8]
    scales: NDArray[np.float32]
    axis: int


class Writing:
    """Tensors and operators, and those that stand for values of the ONNX graph.

    A value of four axes may have two tensors: as it is, and with channels last, as convolutions take it here.

    Parameters
    ----------
    graph
        The ONNX graph.
    values
        What is known of its values.
    """

    def __init__(self, graph: onnx.GraphProto, values: Mapping[str, Value]) -> None:
        from onnx import numpy_helper

        s = schema()
        self._model, self._graph = s.ModelT(), s.SubGraphT()
        self._model.version, self._model.description = _VERSION, "lrfdse"
        self._model.buffers, self._model.operatorCodes, self._model.subgraphs = [s.BufferT()], [], [self._graph]
        self._graph.tensors, self._graph.operators = [], []
        self._parts = Parts(self._model, self._graph)
        self._values, self._outputs = values, [port.name for port in graph.output]
        self._reads = Counter(name for node in graph.node for name in node.input)
        self._reads.update(self._outputs)
        self._plain: dict[str, int] = {}
        self._last: dict[str, int] = {}
        self._makers: dict[int, tuple[str, Any]] = {}
        self._stored: dict[tuple[Any, ...], int] = {}
        self._given: Counter[int] = Counter()
        self.constants: dict[str, NDArray[Any]] = {
            tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer
        }
        """Arrays of values that are stored."""
        self.levels: dict[str, Levels] = {}
        """Of those, the ones that are stored in int8."""
        for port in graph.input:
            known = self.value(port.name)
            self._plain[port.name] = self._parts.tensor(known.shape, self._kind(known), port.name)
            self._graph.tensors[-1].name = port.name
        self._graph.inputs = list(self._plain.values())

    def value(self, name: str) -> Value:
        """Return what is known of a value.

        Raises
        ------
        UnsupportedError
            Its sizes are not.
        """
        if name in self.constants:
            return Value(self.constants[name].dtype, self.constants[name].shape)
        if name not in self._values:
            raise UnsupportedError(f"the sizes of {name!r} are known when the model runs only")
        return self._values[name]

    def plain(self, name: str) -> int:
        """Return the tensor of a value as the ONNX graph has it."""
        if name not in self._plain:
            if name in self.constants:
                self._plain[name] = self.weight(name)
            elif name in self._last:
                shape = self.value(name).shape
                self._plain[name] = self.turned(self._last[name], [shape[i] for i in TO_LAST], TO_FIRST, name)
            else:
                raise UnsupportedError(f"nothing computes its input {name!r}")
        return self._plain[name]

    def last(self, name: str) -> int:
        """Return the tensor of a value of four axes with channels last."""
        if name not in self._last:
            if name in self.constants:
                self._last[name] = self.weight(name, TO_LAST)
            else:
                self._last[name] = self.turned(self.plain(name), self.value(name).shape, TO_LAST, name)
        return self._last[name]

    def is_last(self, name: str) -> bool:
        """Return whether a computed value has a tensor with channels last already."""
        return name in self._last and name not in self.constants

    def give(self, name: str, tensor: int, last: bool = False) -> None:
        """Say what tensor stands for a computed value."""
        (self._last if last else self._plain)[name] = tensor
        self._given[tensor] += 1

    def alias(self, name: str, source: str) -> None:
        """Let a value be another one."""
        if source in self.constants:
            self.constants[name] = self.constants[source]
            if source in self.levels:
                self.levels[name] = self.levels[source]
            return
        for known in (self._plain, self._last):
            if source in known:
                self.give(name, known[source], known is self._last)

    def op(
        self, kind: str, inputs: Sequence[int], sizes: Sequence[int], name: str, options: str = "", **values: Any
    ) -> int:
        """Add an operator of one float32 output; see `Parts.operator`."""
        version = values.pop("version", 1)
        return self._op(kind, inputs, sizes, "FLOAT32", name, options, version, values)

    def like(self, tensor: int, kind: str, inputs: Sequence[int], sizes: Sequence[int], name: str, options: str) -> int:
        """Add an operator whose output has the element type of a tensor."""
        (found,) = (
            key for key, number in vars(schema().TensorType).items() if number == self._graph.tensors[tensor].type
        )
        return self._op(kind, [tensor, *inputs], sizes, found, name, options, 1, {})

    def reshaped(self, tensor: int, sizes: Sequence[int], name: str) -> int:
        """Return a tensor of other sizes; the same one where it has these."""
        kind, maker = self._makers.get(tensor, ("", None))
        if kind == "RESHAPE":
            tensor = maker.inputs[0]
        if tuple(self._graph.tensors[tensor].shape) == tuple(sizes):
            return tensor
        return self.copied(tensor, sizes, name)

    def copied(self, tensor: int, sizes: Sequence[int], name: str) -> int:
        """Return a tensor of its own with the same elements."""
        made = self.like(tensor, "RESHAPE", [self.integers(sizes)], sizes, name, "ReshapeOptions")
        self._makers[made][1].builtinOptions.newShape = list(sizes)
        return made

    def cast(self, tensor: int, dtype: np.dtype[Any], sizes: Sequence[int], name: str) -> int:
        """Return a tensor of an element type as one of float32."""
        types = schema().TensorType
        values = {"inDataType": getattr(types, KINDS[dtype]), "outDataType": types.FLOAT32}
        return self.op("CAST", [tensor], sizes, name, "CastOptions", **values)

    def turned(self, tensor: int, sizes: Sequence[int], order: Sequence[int], name: str) -> int:
        """Return a tensor with its axes in another order, by RESHAPE where no element moves."""
        wanted = [sizes[i] for i in order]
        if (long := [i for i in order if sizes[i] != 1]) == sorted(long):
            return self.reshaped(tensor, wanted, name)
        return self.like(tensor, "TRANSPOSE", [self.integers(order)], wanted, name, "TransposeOptions")

    def constant(self, array: NDArray[Any], name: str = "constant") -> int:
        """Store an array, once for all that are equal, and return its tensor."""
        array = np.ascontiguousarray(array).reshape(array.shape)
        if array.dtype not in KINDS:
            raise UnsupportedError(f"constant {name!r} is of {array.dtype}")
        key = array.shape, array.dtype.str, array.tobytes()
        if key not in self._stored:
            self._stored[key] = self._parts.constant(array, name)
        return self._stored[key]

    def integers(self, numbers: Sequence[Any]) -> int:
        """Store whole numbers, or rows of them, as sizes, axes and widths are given."""
        return self.constant(np.array(numbers, np.int32), "integers")

    def weight(self, name: str, order: Sequence[int] | None = None, more: int = 0) -> int:
        """Store a constant behind DEQUANTIZE if it is of int8.

        Parameters
        ----------
        name
            The value.
        order
            The order in which it is to have its axes; None leaves them.
        more
            Axes of size 1 that it gets before the others.
        """
        found, axes = self.levels.get(name), range(more)
        order = tuple(range(self.constants[name].ndim) if order is None else order)
        if found is None:
            return self.constant(np.expand_dims(self.constants[name].transpose(order), tuple(axes)), name)
        key = name, order, more
        if key not in self._stored:
            whole = np.ascontiguousarray(np.expand_dims(found.levels.transpose(order), tuple(axes)))
            stored = self._parts.levels(whole, found.scales, order.index(found.axis) + more, name)
            self._stored[key] = self.op(
                "DEQUANTIZE", [stored], whole.shape, name, "DequantizeOptions", version=DEQUANTIZE_VERSION
            )
        return self._stored[key]

    def fuse(self, name: str, activation: int) -> tuple[int, bool] | None:
        """Let the operator that gives a value apply an activation, where nothing else reads the value.

        Returns
        -------
        tuple
            The tensor that now holds what the activation gives, and whether channels are last; None where an operator
            of its own is needed.
        """
        places = [(known[name], known is self._last) for known in (self._plain, self._last) if name in known]
        if len(places) != 1 or self._reads[name] != 1 or self._given[places[0][0]] != 1:
            return None
        kind, made = self._makers.get(places[0][0], ("", None))
        if kind not in _FUSES or made.builtinOptions.fusedActivationFunction:
            return None
        made.builtinOptions.fusedActivationFunction = activation
        return places[0]

    def finish(self) -> bytes:
        """Return the file."""
        taken = set(self._graph.inputs)
        self._graph.outputs = []
        for name in self._outputs:
            tensor = self.plain(name)
            if tensor in taken or tensor not in self._makers:
                tensor = self.copied(tensor, self.value(name).shape, name)
            taken.add(tensor)
            self._graph.tensors[tensor].name = name
            self._graph.outputs.append(tensor)
        self._drop_unused()
        return packed(self._model)

    def _drop_unused(self) -> None:
        """Leave out operators that nothing reads any more, as a RESHAPE before another one."""
        read, kept = set(self._graph.outputs), []
        for operator in reversed(self._graph.operators):
            if read.intersection(operator.outputs):
                read.update(operator.inputs)
                kept.append(operator)
        self._graph.operators = kept[::-1]

    def _op(
        self,
        kind: str,
        inputs: Sequence[int],
        sizes: Sequence[int],
        element: str,
        name: str,
        options: str,
        version: int,
        values: Mapping[str, Any],
    ) -> int:
        made = self._parts.tensor(sizes, element, f"{name}/{kind}")
        operator = self._parts.operator(kind, inputs, [made], options, version, **values)
        self._graph.operators.append(operator)
        self._makers[made] = kind, operator
        return made

    @staticmethod
    def _kind(value: Value) -> str:
        if value.dtype not in KINDS:
            raise UnsupportedError(f"an input of {value.dtype}")
        return KINDS[value.dtype]
