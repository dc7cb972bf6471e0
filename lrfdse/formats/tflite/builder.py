"""An ONNX graph in the making: TensorFlow Lite's tensors as values, images with channels last or first as needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lrfdse.base.text import free_name
from lrfdse.formats.tflite.flatbuffer import DTYPES, Graph, Operator, Tensor

if TYPE_CHECKING:
    import onnx

OPSET = 17
"""ONNX's operator set that graphs are written in: onnxruntime reads it since 1.12, and it has all that is needed."""

_IR_VERSION = 8
"""ONNX's IR version that goes with `OPSET` (onnx/docs/Versioning.md)."""

_FIRST, _LAST = (0, 3, 1, 2), (0, 2, 3, 1)
"""Orders of axes by which channels come first, and last again."""

ACTIVATIONS = {0: "NONE", 1: "RELU", 2: "RELU_N1_TO_1", 3: "RELU6", 4: "TANH"}
"""Fused activations by their number in the schema (ActivationFunctionType)."""


class UnsupportedError(Exception):
    """An operator that cannot be mapped, with the reason; `convert` names all of them at once."""


class Builder:
    """Nodes, constants and the ONNX values that stand for tensors.

    Tensors of quantized levels are in real numbers here. A tensor of four axes may have two values: as it is, and with
    channels first, as ONNX's convolutions take it.

    Parameters
    ----------
    graph
        The file's main graph.
    cut
        Whether every computed tensor that an operator reads is an input of the ONNX graph, so that each operator can be
        compared alone on what LiteRT gave it.
    """

    def __init__(self, graph: Graph, cut: bool = False) -> None:
        self._graph, self._cut = graph, cut
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self.inputs: dict[str, int] = {}
        """Inputs of the ONNX graph and the tensors that they stand for."""
        self._names = {tensor.name for tensor in graph.tensors}
        self._plain: dict[int, str] = {}
        self._given: set[str] = set()
        """Values that have the name of an output of the graph."""
        self._first: dict[int, str] = {}
        self.outputs: dict[int, str] = {}
        """Of a graph that is cut: the value of each computed tensor."""
        self.constants: dict[int, NDArray[Any]] = {}
        """Real values of tensors that are stored, or computed from such alone."""
        for tensor in graph.tensors:
            if tensor.data is not None and tensor.kind in DTYPES:
                self.constants[tensor.index] = _real(tensor)

    def tensor(self, index: int) -> Tensor:
        """Return a tensor by its number."""
        return self._graph.tensors[index]

    def free(self, wanted: str) -> str:
        """Return a name that nothing has, and take it."""
        return free_name(wanted, self._names)

    def node(self, op_type: str, inputs: Sequence[str], name: str, output: str = "", **attributes: Any) -> str:
        """Add a node and return its only output."""
        return self.nodes_of(op_type, inputs, name, [output or self.free(f"{name}/{op_type}")], **attributes)[0]

    def nodes_of(
        self, op_type: str, inputs: Sequence[str], name: str, outputs: list[str], **attributes: Any
    ) -> list[str]:
        """Add a node of several outputs and return them."""
        from onnx import helper

        made = helper.make_node(op_type, list(inputs), outputs, name=self.free(f"{name}:{op_type}"), **attributes)
        self.nodes.append(made)
        return outputs

    def constant(self, array: NDArray[Any], name: str) -> str:
        """Store an array under a name like the one given, and return its name."""
        from onnx import numpy_helper

        stored = self.free(name)
        self.initializers[stored] = numpy_helper.from_array(np.asarray(array, order="C"), stored)
        return stored

    def integers(self, numbers: Sequence[int], name: str) -> str:
        """Store whole numbers as ONNX takes sizes, axes and indices."""
        return self.constant(np.array(numbers, np.int64), name)

    def plain(self, index: int) -> str:
        """Return the value of a tensor as the file has it.

        Raises
        ------
        UnsupportedError
            Nothing computes it.
        """
        if index not in self._plain:
            tensor = self.tensor(index)
            if index in self.constants:
                self._plain[index] = self._store(index, tensor.name)
            elif index in self._first and not self._cut:
                self._plain[index] = self._turned(self._first[index], tensor, _LAST, tensor.name)
            elif self._cut:
                self._plain[index] = self._fed(tensor)
            else:
                raise UnsupportedError(f"nothing computes its input {tensor.name!r}")
        return self._plain[index]

    def channels_first(self, index: int) -> str:
        """Return the value of a tensor of four axes, channels before rows and columns."""
        if index not in self._first:
            tensor = self.tensor(index)
            if index in self.constants:
                name = f"{tensor.name}/channels-first"
                self._first[index] = self.constant(self.constants[index].transpose(_FIRST), name)
            else:
                name = self.free(f"{tensor.name}/channels-first")
                self._first[index] = self._turned(self.plain(index), tensor, _FIRST, name)
        return self._first[index]

    def is_first(self, index: int) -> bool:
        """Return whether a computed tensor has a value with channels first already."""
        return index in self._first

    def give(self, index: int, value: str, first: bool = False) -> None:
        """Say what value stands for a computed tensor."""
        if self._cut:
            # Who reads it reads what LiteRT computed; the value itself is an output to compare.
            self.outputs[index] = self._as_plain(index, value) if first else value
        elif first:
            self._first[index] = value
        else:
            self._plain[index] = value

    def alias(self, index: int, source: int) -> None:
        """Let a tensor be another one: what moves no number needs no node."""
        if source in self.constants:
            self.constants[index] = self.constants[source].reshape(self.tensor(index).shape)
        elif self.is_first(source) and not self._cut:
            self._first[index] = self._first[source]
        else:
            self.give(index, self.plain(source))

    def feed(self, index: int) -> None:
        """Make a tensor an input of the graph; levels become real numbers behind it."""
        self._plain[index] = self._fed(self.tensor(index))

    def name_output(self, index: int) -> str:
        """Return the value of an output of the graph, which has the name of its tensor."""
        value, wanted = self.plain(index), self.tensor(index).name
        if value == wanted or self._cut:
            return value
        if wanted in self.inputs or wanted in self.initializers:
            return self.node("Identity", [value], wanted, self.free(wanted))
        made = any(value in node.output for node in self.nodes)
        if not made or value in self._given:
            return self.node("Identity", [value], wanted, wanted)
        for node in self.nodes:
            for names in (node.input, node.output):
                for place, name in enumerate(names):
                    if name == value:
                        names[place] = wanted
        self._plain = {i: wanted if name == value else name for i, name in self._plain.items()}
        self._first = {i: wanted if name == value else name for i, name in self._first.items()}
        self._given.add(wanted)
        return wanted

    def model(self, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]) -> onnx.ModelProto:
        """Return the finished model."""
        from onnx import helper

        graph = helper.make_graph(self.nodes, "main", inputs, outputs, list(self.initializers.values()))
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION)

    def _store(self, index: int, name: str) -> str:
        from onnx import numpy_helper

        if name in self.initializers:
            return name
        array = self.constants[index]
        self.initializers[name] = numpy_helper.from_array(np.asarray(array, order="C"), name)
        return name

    def _fed(self, tensor: Tensor) -> str:
        name = tensor.name
        self.inputs[name] = tensor.index
        if not tensor.is_level:
            return name
        found = tensor.quantization
        assert found is not None
        real = self.node("Cast", [name], f"{name}/real", to=1)
        if found.zero.any():
            zero = self.constant(found.zero.astype(np.float32).reshape(-1)[:1], f"{name}/zero")
            real = self.node("Sub", [real, zero], f"{name}/real")
        return self.node("Mul", [real, self.constant(found.scale.astype(np.float32)[:1], f"{name}/scale")], name)

    def _turned(self, value: str, tensor: Tensor, order: Sequence[int], output: str) -> str:
        return self.node("Transpose", [value], tensor.name, output, perm=list(order))

    def _as_plain(self, index: int, value: str) -> str:
        tensor = self.tensor(index)
        return self._turned(value, tensor, _LAST, self.free(f"{tensor.name}/plain"))


class Site:
    """One operator while it is mapped: its tensors, its options, and how nodes are added for it.

    Parameters
    ----------
    builder
        The graph in the making.
    operator
        The operator.
    """

    def __init__(self, builder: Builder, operator: Operator) -> None:
        self.g, self.operator = builder, operator
        self.options = operator.options
        self.name = f"{operator.name}_{operator.index}"

    def given(self, place: int) -> bool:
        """Return whether there is an input at a place."""
        return place < len(self.operator.inputs) and self.operator.inputs[place] >= 0

    def input(self, place: int = 0) -> Tensor:
        """Return an input's tensor.

        Raises
        ------
        UnsupportedError
            There is none.
        """
        if not self.given(place):
            raise UnsupportedError(f"input {place} is missing")
        return self.g.tensor(self.operator.inputs[place])

    def output(self, place: int = 0) -> Tensor:
        """Return an output's tensor.

        Raises
        ------
        UnsupportedError
            There is none.
        """
        if place >= len(self.operator.outputs) or self.operator.outputs[place] < 0:
            raise UnsupportedError(f"output {place} is missing")
        return self.g.tensor(self.operator.outputs[place])

    def plain(self, place: int = 0) -> str:
        """Return the value of an input as the file has it."""
        return self.g.plain(self.input(place).index)

    def constant(self, place: int, what: str) -> NDArray[Any]:
        """Return the real values of an input that is stored.

        Raises
        ------
        UnsupportedError
            It is computed when the model runs.
        """
        index = self.input(place).index
        if index not in self.g.constants:
            raise UnsupportedError(f"its {what} is not stored but computed")
        return self.g.constants[index]

    def integers(self, place: int, what: str) -> list[int]:
        """Return the whole numbers that an input stores."""
        return [int(number) for number in self.constant(place, what).reshape(-1)]

    def option(self, name: str, default: Any = 0) -> Any:
        """Return an option by the schema's name; the default where the operator has no options."""
        return getattr(self.options, name, default)

    def op(self, op_type: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node and return its value."""
        return self.g.node(op_type, inputs, self.name, **attributes)

    def number(self, value: float, like: Tensor | None = None) -> str:
        """Store one number, float32 or of a tensor's type."""
        dtype = np.float32 if like is None or like.is_level else DTYPES[like.kind]
        return self.g.constant(np.array(value, dtype), f"{self.name}/constant")

    def whole(self, numbers: Sequence[int]) -> str:
        """Store sizes, axes or indices."""
        return self.g.integers(numbers, f"{self.name}/sizes")

    def finish(self, value: str, first: bool = False) -> None:
        """Apply the fused activation and say that the value is the output."""
        kind = ACTIVATIONS.get(self.option("fusedActivationFunction", 0))
        if kind is None:
            raise UnsupportedError("its fused activation is not supported")
        tensor = self.output()
        made = self.activated(value, kind)
        made = self.op("Relu", [made]) if is_floored(self.operator, tensor) else made
        self.g.give(tensor.index, made, first)

    def activated(self, value: str, kind: str) -> str:
        """Return a value behind an activation."""
        if kind == "NONE":
            return value
        if kind == "RELU6":
            return self.op("Clip", [value, self.number(0.0), self.number(6.0)])
        if kind == "RELU_N1_TO_1":
            return self.op("Clip", [value, self.number(-1.0), self.number(1.0)])
        return self.op({"RELU": "Relu", "TANH": "Tanh"}[kind], [value])


def is_floored(operator: Operator, tensor: Tensor) -> bool:
    """Return whether an operator cuts off what is below 0, though it does not say so.

    No level of its output is below 0 then: that is how converters leave out a ReLU.
    """
    kind = ACTIVATIONS.get(getattr(operator.options, "fusedActivationFunction", 0))
    if not tensor.is_level or tensor.quantization is None or kind in ("RELU", "RELU6"):
        return False
    lowest = {"INT8": -128, "UINT8": 0, "INT16": -32768}.get(tensor.kind)
    is_natural = operator.name in ("SOFTMAX", "LOGISTIC", "RELU", "RELU6", "QUANTIZE")
    return bool(tensor.quantization.zero[0] == lowest) and not is_natural


def _real(tensor: Tensor) -> NDArray[Any]:
    assert tensor.data is not None
    if tensor.quantization is not None and tensor.is_level:
        return tensor.quantization.values(tensor.data)
    return tensor.data.astype(np.float32) if tensor.kind == "FLOAT16" else tensor.data


Rule = Callable[[Site], None]
"""What maps one kind of operator: adds its nodes and says which values its outputs are."""

Rules = dict[str, Rule]
"""The schema's name of an operator to its rule."""
