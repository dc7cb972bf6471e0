"""Operators of a TensorFlow Lite file replaced by chains of others; everything else of the file stays as it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrfdse.formats.chain import Product, Slide
from lrfdse.formats.tflite.flatbuffer import schema
from lrfdse.formats.tflite.parts import DEQUANTIZE_VERSION, RELU, SAME, VALID, Parts, packed

_QUANTIZE_VERSION = 2
"""Version of QUANTIZE that gives levels of 16 bits, too (tools/versioning/op_version.cc of LiteRT)."""


@dataclass(frozen=True, slots=True, eq=False)
class Replacement:
    """What stands in the place of one operator, whose fused activation the last of them takes over."""

    operator: int
    parts: tuple[Product, ...] | tuple[Slide, ...]
    widths: tuple[int, int]
    """Inputs and outputs of the chain, which may be padded beyond those of the operator."""
    outputs: int
    """Outputs of the operator."""
    bias: NDArray[np.float32] | None
    floored: bool = False
    """Whether a ReLU is to be written out that the operator has by the levels of its output alone."""


def patched(content: bytes, replacements: Sequence[Replacement], names: Mapping[int, str] | None = None) -> bytes:
    """Return the file with operators replaced; stored tensors that nothing reads any more are left out.

    Products of one column are FULLY_CONNECTED, those of several BATCH_MATMUL with the weight on the left, and RESHAPE
    stands between: there are no transpositions. Weights of int8 and float16 stand behind DEQUANTIZE, so that LiteRT
    computes in float32 what the design computes, and bytes of the file are those of the weights. Where the operator
    reads or gives levels, DEQUANTIZE stands before its chain and QUANTIZE behind it.

    Parameters
    ----------
    content
        A file that `lrfdse.formats.tflite.flatbuffer.read_graph` reads.
    replacements
        One for each operator that is to be replaced.
    names
        Tensors of the original that are to be called otherwise.
    """
    s = schema()
    model = s.ModelT.InitFromObj(s.Model.GetRootAs(content, 0))
    graph = model.subgraphs[0]
    chosen = {each.operator: each for each in replacements}
    operators, writer = [], _Writer(model, graph)
    for index, operator in enumerate(graph.operators):
        if index not in chosen:
            operators.append(operator)
            continue
        writer.begin(operator)
        writer.replace(operator, chosen[index])
        operators += writer.made
    graph.operators = operators
    for index, name in (names or {}).items():
        graph.tensors[index].name = name
    _drop_unused(model, graph)
    return packed(model, len(content))


class _Writer:
    """Writes operators into a graph; the latest tensor is what the next one reads."""

    def __init__(self, model: Any, graph: Any) -> None:
        self._s, self._graph, self._parts = schema(), graph, Parts(model, graph)
        self._weights: dict[int, int] = {}
        self.made: list[Any] = []

    def begin(self, operator: Any) -> None:
        """Begin a chain that reads what an operator reads."""
        self.made = []
        self._value = int(operator.inputs[0])
        tensor = self._graph.tensors[self._value]
        self._sizes = tuple(map(int, tensor.shape))
        signature = tensor.shapeSignature
        self._is_open = signature is not None and len(signature) > 0 and int(signature[0]) == -1
        self._name = _text(self._graph.tensors[int(operator.outputs[0])].name)

    def replace(self, operator: Any, chosen: Replacement) -> None:
        """Write a chain that ends in the operator's own output."""
        output, activation = int(operator.outputs[0]), operator.builtinOptions.fusedActivationFunction
        activation = activation or (RELU if chosen.floored else 0)
        if self._has_levels(self._value):
            self._op("DEQUANTIZE", [], self._sizes, "DequantizeOptions", version=DEQUANTIZE_VERSION)
        is_convolution = isinstance(chosen.parts[-1], Slide)
        if not is_convolution:
            self._flatten(int(self._graph.tensors[int(operator.inputs[1])].shape[-1]))
        last = self._slides(chosen) if is_convolution else self._products(chosen)
        if last is not None:
            # The last product gives the outputs themselves, and adds the bias.
            last.builtinOptions.fusedActivationFunction = activation
            if chosen.bias is not None:
                last.inputs = [*last.inputs[:2], self._constant(chosen.bias, "bias")]
        elif chosen.bias is not None or activation:
            bias = np.zeros(chosen.outputs, np.float32) if chosen.bias is None else chosen.bias
            self._op("ADD", [self._constant(bias, "bias")], self._sizes, "AddOptions", activation)
        wanted = tuple(map(int, self._graph.tensors[output].shape))
        if self._sizes != wanted:
            self._reshape(-1, *wanted[1:])
        if self._has_levels(output):
            self._op("QUANTIZE", [], self._sizes, "QuantizeOptions", version=_QUANTIZE_VERSION)
        self.made[-1].outputs = [output]

    def _has_levels(self, index: int) -> bool:
        return bool(self._graph.tensors[index].type != self._s.TensorType.FLOAT32)

    def _flatten(self, inputs: int) -> None:
        """Make rows of what is read, as FULLY_CONNECTED itself does where the last axis is no row."""
        if self._sizes[-1] == inputs:
            return
        # Where a shape is computed when the model runs, that in the file is only a place holder.
        rows = max(1, math.prod(self._sizes) // inputs)
        self._op(
            "RESHAPE", [self._constant(np.array([-1, inputs], np.int32), "sizes")], (rows, inputs), "ReshapeOptions"
        )
        self.made[-1].builtinOptions.newShape = [-1, inputs]

    def _products(self, chosen: Replacement) -> Any | None:
        """Write products and return the last operator where it gives exactly the outputs."""
        inputs, (wide, whole) = self._sizes[-1], chosen.widths
        for part in chosen.parts:
            assert isinstance(part, Product)
            inner = part.weight.shape[1]
            if wide > inputs and part is chosen.parts[0]:
                self._reshape(-1, inputs)
                widths = self._constant(np.array([[0, 0], [0, wide - inputs]], np.int32), "padding")
                self._op("PAD", [widths], (self._sizes[0], wide), "PadOptions")
            if part.columns > 1:
                self._reshape(-1, inner, part.columns)
                weight = self._weight(part, axis=1)
                product = (self._sizes[0], part.weight.shape[0], part.columns)
                self._op("BATCH_MATMUL", [weight], product, "BatchMatMulOptions", first=True)
            else:
                self._reshape(-1, inner)
                sizes = (self._sizes[0], part.weight.shape[0])
                self._op("FULLY_CONNECTED", [self._weight(part, axis=0), -1], sizes, "FullyConnectedOptions")
        if self._sizes[1:] == (chosen.outputs,) and chosen.parts[-1].weight.shape[0] == chosen.outputs:
            return self.made[-1]
        self._reshape(-1, whole)
        if whole > chosen.outputs:
            begin, size = (np.array(numbers, np.int32) for numbers in ([0, 0], [-1, chosen.outputs]))
            cut = [self._constant(begin, "begin"), self._constant(size, "size")]
            self._op("SLICE", cut, (self._sizes[0], chosen.outputs), "SliceOptions")
        return None

    def _slides(self, chosen: Replacement) -> Any:
        """Write convolutions and return the last."""
        for part in chosen.parts:
            assert isinstance(part, Slide)
            kernel = part.weight.shape[1:3]
            reach = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, part.dilations, strict=True)]
            same, pads = self._same(reach, part.strides), part.pads
            padding = SAME if any(pads) and pads == same else VALID
            if any(pads) and padding == VALID:
                widths = np.array([[0, 0], [pads[0], pads[2]], [pads[1], pads[3]], [0, 0]], np.int32)
                n, rows, columns, channels = self._sizes
                sizes = (n, rows + pads[0] + pads[2], columns + pads[1] + pads[3], channels)
                self._op("PAD", [self._constant(widths, "padding")], sizes, "PadOptions")
                pads = (0, 0, 0, 0)
            spatial = [
                (size + before + after - length) // stride + 1
                for size, before, after, length, stride in zip(
                    self._sizes[1:3], pads[:2], pads[2:], reach, part.strides, strict=True
                )
            ]
            outputs = part.weight.shape[0]
            stored = [self._constant(part.weight, "filters"), self._constant(np.zeros(outputs, np.float32), "zero")]
            self._op("CONV_2D", stored, (self._sizes[0], *spatial, outputs), "Conv2DOptions")
            options = self.made[-1].builtinOptions
            options.padding = padding
            options.strideH, options.strideW = part.strides
            options.dilationHFactor, options.dilationWFactor = part.dilations
        return self.made[-1]

    def _same(self, reach: Sequence[int], strides: Sequence[int]) -> tuple[int, int, int, int]:
        totals = [
            max((math.ceil(size / stride) - 1) * stride + length - size, 0)
            for size, stride, length in zip(self._sizes[1:3], strides, reach, strict=True)
        ]
        return (totals[0] // 2, totals[1] // 2, totals[0] - totals[0] // 2, totals[1] - totals[1] // 2)

    def _reshape(self, *sizes: int) -> None:
        total = math.prod(self._sizes)
        known = math.prod(size for size in sizes if size > 0)
        whole = tuple(total // known if size == -1 else size for size in sizes)
        if whole == self._sizes:
            return
        stored = self._constant(np.array(sizes, np.int32), "sizes")
        self._op("RESHAPE", [stored], whole, "ReshapeOptions")
        self.made[-1].builtinOptions.newShape = list(sizes)

    def _weight(self, part: Product, axis: int) -> int:
        if id(part) not in self._weights:
            array = part.weight if axis == 0 else part.weight[None]
            if part.weight.dtype == np.float16:
                stored = self._dequantized(self._parts.constant(array, self._label("factor")), array.shape)
            elif part.scales is None:
                stored = self._constant(array, "factor")
            else:
                stored = self._parts.levels(array, part.scales, axis, self._label("factor"))
                stored = self._dequantized(stored, array.shape)
            self._weights[id(part)] = stored
        return self._weights[id(part)]

    def _dequantized(self, stored: int, sizes: tuple[int, ...]) -> int:
        value, before = self._value, self._sizes
        self._value = stored
        is_open, self._is_open = self._is_open, False
        self._op("DEQUANTIZE", [], sizes, "DequantizeOptions", version=DEQUANTIZE_VERSION)
        made, self._value, self._sizes, self._is_open = self._value, value, before, is_open
        return made

    def _op(
        self,
        name: str,
        given: Sequence[int],
        sizes: tuple[int, ...],
        options: str,
        activation: int | None = None,
        first: bool = False,
        version: int = 1,
    ) -> None:
        given = [*given, self._value] if first else [self._value, *given]
        signature = (-1, *sizes[1:]) if self._is_open else None
        self._value = self._parts.tensor(sizes, "FLOAT32", self._label(name), signature)
        self._sizes = sizes
        values = {} if activation is None else {"fusedActivationFunction": activation}
        self.made.append(self._parts.operator(name, given, [self._value], options, version, **values))

    def _constant(self, array: NDArray[Any], label: str) -> int:
        return self._parts.constant(array, self._label(label))

    def _label(self, label: str) -> str:
        return f"{self._name}/lrfdse/{label}"


def _drop_unused(model: Any, graph: Any) -> None:
    """Leave out tensors that no operator has, number the others anew, and empty the buffers that nothing names."""
    used = {int(index) for operator in graph.operators for index in (*operator.inputs, *operator.outputs) if index >= 0}
    used |= {int(index) for index in (*graph.inputs, *graph.outputs)}
    signatures = [each for each in model.signatureDefs or () if each.subgraphIndex == 0]
    maps = [entry for each in signatures for entry in (*(each.inputs or ()), *(each.outputs or ()))]
    used |= {int(entry.tensorIndex) for entry in maps}
    kept = [index for index in range(len(graph.tensors)) if index in used]
    new = {old: place for place, old in enumerate(kept)} | {-1: -1}
    graph.tensors = [graph.tensors[index] for index in kept]
    for operator in graph.operators:
        operator.inputs = [new[int(index)] for index in operator.inputs]
        operator.outputs = [new[int(index)] for index in operator.outputs]
    graph.inputs, graph.outputs = ([new[int(index)] for index in each] for each in (graph.inputs, graph.outputs))
    for entry in maps:
        entry.tensorIndex = new[int(entry.tensorIndex)]
    named = {int(tensor.buffer) for each in model.subgraphs for tensor in each.tensors}
    named |= {int(each.buffer) for each in model.metadata or ()}
    for place, buffer in enumerate(model.buffers):
        if place not in named:
            buffer.data = None


def _text(name: Any) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
