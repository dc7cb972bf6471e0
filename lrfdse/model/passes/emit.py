"""Writing nodes into a graph, with the forms that the graph's opset and IR version know."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lrfdse.base.text import free_name
from lrfdse.ir.quantized import LEVELS, Rounding
from lrfdse.model.bodies import around, bodies_of, owners_of

_INITIALIZERS_STAND_ALONE = 4
"""IR version of ONNX from which an initializer need not be an input of the graph as well (onnx/docs/IR.md)."""


_PER_AXIS = 13
"""Opset from which DequantizeLinear takes a scale for each index of an axis (onnx/docs/Changelog.md)."""
MOVING = frozenset({"Cast", "Concat", "Flatten", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"})
"""Operators that only move elements, or store them in another type."""

_MADE_OF_CONSTANTS = MOVING | {"Constant", "DequantizeLinear"}
"""Operators that may stand between a stored tensor and its use."""


class Names:
    """Names that no value of a model has, in its main graph or in any subgraph.

    Bodies of If and Loop see the values around them, so a name counts everywhere, and those that onnx_ir would give to
    nameless values when it writes a file are what PyTorch's exporter has in such bodies.

    Parameters
    ----------
    model
        The model.
    """

    def __init__(self, model: ir.Model) -> None:
        self._taken = {value.name for value in (*model.graph.inputs, *model.graph.initializers.values())}
        for node in ir.traversal.RecursiveGraphIterator(model.graph):
            self._taken.update(value.name for value in node.outputs)
            for body in bodies_of(node):
                self._taken.update(value.name for value in (*body.inputs, *body.initializers.values()))

    def free(self, wanted: str) -> str:
        """Return `wanted`, with a number behind it where that is taken, and take it."""
        return free_name(wanted, self._taken)


class Emitter:
    """Nodes in the making, to stand before `anchor`; constants of one label are stored once, in the main graph.

    Parameters
    ----------
    model
        The model that gets the nodes.
    anchor
        The node that they stand before.
    prefix
        Begins the names of what is stored.
    shared
        Label to constant, for what several uses of a layer share.
    names
        Gives names to what is added.
    """

    def __init__(
        self, model: ir.Model, anchor: ir.Node, prefix: str, shared: dict[str, ir.Value], names: Names
    ) -> None:
        self._graph = model.graph if anchor.graph is None else anchor.graph
        self._main = model.graph
        self._names = names
        self._opset = model.graph.opset_imports.get("", 0) or model.graph.opset_imports.get("ai.onnx", 0)
        self._stand_alone = model.ir_version >= _INITIALIZERS_STAND_ALONE
        self._anchor = anchor
        self._prefix = prefix
        self._shared = shared

    @classmethod
    def before(cls, model: ir.Model, node: ir.Node, names: Names) -> Emitter:
        """Return what writes nodes before `node`, to stand in its place, under names that begin with its own."""
        return cls(model, node, node.name or node.outputs[0].name or node.op_type, {}, names)

    def at(self, node: ir.Node) -> Emitter:
        """Return what writes nodes before another one, and shares what is stored."""
        other = copy.copy(self)
        other._anchor, other._graph = node, self._main if node.graph is None else node.graph
        return other

    @property
    def opset(self) -> int:
        """Version of ONNX's own operators that the model imports."""
        return self._opset

    def free(self, label: str) -> str:
        """Return a name for a value, and take it."""
        return self._names.free(f"{self._prefix}.{label}")

    def op(self, op_type: str, inputs: Sequence[ir.Value | None], **attributes: Any) -> ir.Value:
        """Add a node and return its output."""
        node = ir.node(op_type, inputs, attributes)
        node.outputs[0].name = self._names.free(f"{self._prefix}.{op_type}")
        self._graph.insert_before(self._anchor, node)
        return node.outputs[0]

    def constant(self, label: str, array: NDArray[Any]) -> ir.Value:
        """Return the constant stored under `label`, storing it if it is not there yet."""
        if label not in self._shared:
            self._shared[label] = self._store(f"{self._prefix}.{label}", array)
        return self._shared[label]

    def dequantized(self, label: str, levels: NDArray[np.int8], scales: NDArray[np.float32], axis: int) -> ir.Value:
        """Store int8 levels and a float32 scale for each index along `axis`, and return their product.

        That is DequantizeLinear; before opset 13, which has none with an axis, Cast and Mul.
        """
        whole = self.constant(f"{label}int8", levels)
        if self._opset >= _PER_AXIS:
            value = self.op("DequantizeLinear", [whole, self.constant(f"{label}scale", scales)], axis=axis)
        else:
            column = scales[:, None] if axis == 0 else scales[None, :]
            floats = self.op("Cast", [whole], to=int(ir.DataType.FLOAT))
            value = self.op("Mul", [floats, self.constant(f"{label}scale", column)])
        value.type, value.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(levels.shape)
        return value

    def scaled(self, levels: ir.Value, scales: ir.Value, dtype: ir.DataType) -> ir.Value:
        """Multiply int8 levels by a float32 scale for each index of their last axis, in the type that is to be given.

        That is DequantizeLinear; before opset 13, Cast and Mul.
        """
        if self._opset >= _PER_AXIS:
            value = self.op("DequantizeLinear", [levels, scales], axis=-1)
        else:
            value = self.op("Mul", [self.op("Cast", [levels], to=int(ir.DataType.FLOAT)), scales])
        return value if dtype == ir.DataType.FLOAT else self.op("Cast", [value], to=int(dtype))

    def widened(self, label: str, halves: NDArray[np.float16], dtype: ir.DataType) -> ir.Value:
        """Store float16 numbers, and return them in another type."""
        value = self.op("Cast", [self.constant(f"{label}.float16", halves)], to=int(dtype))
        value.type, value.shape = ir.TensorType(dtype), ir.Shape(halves.shape)
        return value

    def rounded(self, label: str, value: ir.Value, rounding: Rounding) -> ir.Value:
        """Round a float32 value to 8 bits, and return what its levels stand for."""
        zero = np.array(-rounding.least - LEVELS // 2, np.int8)
        how = [
            self.constant(f"{label}scale", np.array(rounding.scale, np.float32)),
            self.constant(f"{label}zero", zero),
        ]
        levels = self.op("QuantizeLinear", [value, *how])
        floats = self.op("DequantizeLinear", [levels, *how])
        for made, element in ((levels, ir.DataType.INT8), (floats, ir.DataType.FLOAT)):
            made.type, made.shape = ir.TensorType(element), value.shape
        return floats

    def integers(self, values: Sequence[int]) -> ir.Value:
        """Return a constant vector of 64-bit whole numbers."""
        label = "shape." + "x".join(str(value).replace("-", "m") for value in values)
        return self.constant(label, np.array(values, dtype=np.int64))

    def number(self, value: float, dtype: ir.DataType) -> ir.Value:
        """Return a constant without axes."""
        return self.constant(f"number.{value}", np.array(value).astype(dtype.numpy()))

    def clip(self, value: ir.Value, low: float | None, high: float | None) -> ir.Value:
        """Bound the elements of a float32 value; None is no bound."""
        if self._opset < 11:
            bounds = {name: bound for name, bound in (("min", low), ("max", high)) if bound is not None}
            return self.op("Clip", [value], **bounds)
        limits = [None if bound is None else self.number(bound, ir.DataType.FLOAT) for bound in (low, high)]
        return self.op("Clip", [value, *limits])

    def unsqueeze(self, value: ir.Value, axes: Sequence[int]) -> ir.Value:
        """Insert axes of size 1, at the places that they have then."""
        if self._opset < 13:
            return self.op("Unsqueeze", [value], axes=list(axes))
        return self.op("Unsqueeze", [value, self.integers(axes)])

    def squeeze(self, value: ir.Value, axis: int) -> ir.Value:
        """Leave out an axis of size 1."""
        if self._opset < 13:
            return self.op("Squeeze", [value], axes=[axis])
        return self.op("Squeeze", [value, self.integers([axis])])

    def reshape(self, value: ir.Value, sizes: Sequence[int]) -> ir.Value:
        """Reshape to constant sizes, one of which may be -1."""
        return self.op("Reshape", [value, self.integers(sizes)])

    def cut(self, value: ir.Value, end: int, axis: int) -> ir.Value:
        """Keep the elements before `end` along one axis."""
        if self._opset < 10:
            return self.op("Slice", [value], starts=[0], ends=[end], axes=[axis])
        return self.op("Slice", [value, self.integers([0]), self.integers([end]), self.integers([axis])])

    def split(self, value: ir.Value, sizes: Sequence[int], axis: int) -> list[ir.Value]:
        """Cut into parts of these sizes along one axis, counted from the front."""
        given, attributes = ([value, self.integers(sizes)], {}) if self._opset >= 13 else ([value], {"split": sizes})
        node = ir.node("Split", given, {"axis": axis, **attributes}, num_outputs=len(sizes))
        for part in node.outputs:
            part.name = self._names.free(f"{self._prefix}.Split")
        self._graph.insert_before(self._anchor, node)
        return list(node.outputs)

    def pad_columns(self, value: ir.Value, count: int) -> ir.Value:
        """Append `count` columns of zeros to a matrix."""
        pads = [0, 0, 0, count]
        if self._opset < 11:
            return self.op("Pad", [value], pads=pads)
        return self.op("Pad", [value, self.integers(pads)])

    def swap_last(self, value: ir.Value, rank: int) -> ir.Value:
        """Exchange the last two axes of a value of `rank` dimensions."""
        return self.op("Transpose", [value], perm=[*range(rank - 2), rank - 1, rank - 2])

    def _store(self, wanted: str, array: NDArray[Any]) -> ir.Value:
        name = self._names.free(wanted)
        # NumPy gives a number an axis on the way.
        tensor = ir.tensor(np.ascontiguousarray(array).reshape(array.shape), name=name)
        if not self._stand_alone:
            node = ir.node("Constant", [], {"value": tensor})
            node.outputs[0].name = name
            # Uses in other bodies may share it.
            chain = around(self._anchor.graph, owners_of(self._main))
            self._main.insert_before(chain[-1] if chain else self._anchor, node)
            return node.outputs[0]
        value = ir.val(name, const_value=tensor)
        self._main.register_initializer(value)
        return value


def instead_of(old: ir.Node, new: ir.Value) -> None:
    """Give the node that makes `new` the name of `old`, and what the exporter noted of it."""
    made = new.producer()
    assert made is not None
    made.name = old.name
    made.metadata_props.update(old.metadata_props)


def replace(old: ir.Value, new: ir.Value) -> None:
    """Put `new` in the place of `old`, under its name, and remove the node that made `old`."""
    node = old.producer()
    assert node is not None and node.graph is not None
    name, graph = old.name, node.graph
    new.type, new.shape = old.type, old.shape
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    inputs = list(node.inputs)
    graph.remove(node, safe=True)
    new.name = name
    for value in inputs:
        if value is not None:
            drop_unused(value)


def take_name(old: ir.Value, new: ir.Value) -> None:
    """Give a stored tensor the name of one that was removed in its favour, unless that is still there."""
    if not old.uses() and not old.is_graph_output() and old.graph is None:
        new.name = old.name


def drop_unused(value: ir.Value) -> None:
    """Remove a constant that nothing reads any more, with what only it needed; leave everything else."""
    left: list[ir.Value | None] = [value]
    while left:
        last = left.pop()
        if last is not None and not last.uses() and not last.is_graph_output():
            left += _removed(last)


def _removed(value: ir.Value) -> list[ir.Value | None]:
    """Remove what stores or makes a value that nothing reads, where that is a constant; return what it read."""
    node, graph = value.producer(), value.graph
    if node is None:
        if graph is None or value.const_value is None or not isinstance(graph, ir.Graph):
            return []
        if value.is_graph_input():
            graph.inputs.remove(value)
        if value.name is not None and value.name in graph.initializers:
            del graph.initializers[value.name]
        return []
    if node.op_type not in _MADE_OF_CONSTANTS or node.graph is None:
        return []
    inputs = list(node.inputs)
    node.graph.remove(node, safe=True)
    return inputs
