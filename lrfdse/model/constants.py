"""Constants of a graph: which values are known without running it, and which tensor they come from."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)
"""Element types of weights that can be factorized."""

_TRANSPARENT = ("Identity", "Transpose", "Cast")


@dataclass(frozen=True, slots=True)
class Constant:
    """A value that is a stored tensor, perhaps behind DequantizeLinear, and then Identity, Transpose or Cast."""

    root: ir.Value
    """The initializer, or the output of the Constant node."""
    transposed: bool
    dtype: ir.DataType | None
    """Element type where it is used."""
    dequantizer: ir.Node | None = None
    """The DequantizeLinear that multiplies the stored levels by constant scales; None where elements are stored."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape where it is used."""
        sizes = tuple(stored(self.root).shape.numpy())
        return sizes[::-1] if self.transposed else sizes

    def array(self) -> NDArray[Any]:
        """Return the elements, levels multiplied by their scales, in the shape that is used."""
        array = self.stored_form()
        return array.T if self.transposed else array

    def stored_form(self) -> NDArray[Any]:
        """Return the elements, levels multiplied by their scales, in the shape that is stored."""
        levels = stored(self.root).numpy()
        scales = self.scales()
        return levels if scales is None else levels.astype(scales.dtype) * scales

    @property
    def form(self) -> Hashable:
        """How elements come from what is stored, for two uses of one tensor to be compared."""
        node = self.dequantizer
        if node is None:
            return self.dtype
        return self.dtype, node.inputs[1], node.attributes["axis"].as_int() if "axis" in node.attributes else 1

    def scales(self) -> NDArray[Any] | None:
        """Return what levels are worth, of a shape that fits the stored tensor; None where elements are stored."""
        if self.dequantizer is None:
            return None
        value = self.dequantizer.inputs[1]
        assert value is not None
        scales, rank = stored(value).numpy(), len(stored(self.root).shape)
        if scales.size == 1:
            return np.asarray(scales).reshape((1,) * rank)
        axis = self.dequantizer.attributes["axis"].as_int() if "axis" in self.dequantizer.attributes else 1
        return np.asarray(scales).reshape([-1 if place == axis % rank else 1 for place in range(rank)])


def is_standard(node: ir.Node) -> bool:
    """Return whether the operator is one of ONNX's own."""
    return node.domain in ("", "ai.onnx")


def node_name(node: ir.Node) -> str:
    """Return the node's name, or its first output's where it has none."""
    return node.name or next((value.name for value in node.outputs if value.name), None) or node.op_type


def stored(value: ir.Value) -> ir.TensorProtocol:
    """Return the tensor of a root."""
    tensor = ir.convenience.get_const_tensor(value)
    assert tensor is not None
    return tensor


def is_root(value: ir.Value) -> bool:
    """Return whether the value is an initializer or comes from a Constant node that holds a tensor."""
    if value.const_value is not None and value.producer() is None:
        return True
    node = value.producer()
    return (
        node is not None
        and is_standard(node)
        and node.op_type == "Constant"
        and not isinstance(ir.convenience.get_const_tensor(value), (ir.StringTensor, type(None)))
    )


def trace(value: ir.Value | None) -> Constant | None:
    """Follow a value to the tensor it is, or return None."""
    transposed = False
    dtype: ir.DataType | None = None
    while value is not None:
        if is_root(value):
            return Constant(value, transposed, dtype or stored(value).dtype)
        node = value.producer()
        if node is not None and is_dequantizer(node):
            root, scale = node.inputs[0], node.inputs[1]
            assert root is not None and scale is not None
            return Constant(root, transposed, dtype or stored(scale).dtype, node)
        if node is None or not is_transparent(node):
            return None
        if node.op_type == "Cast" and dtype is None:
            dtype = ir.DataType(node.attributes["to"].as_int())
        transposed ^= node.op_type == "Transpose"
        value = node.inputs[0]
    return None


def is_transparent(node: ir.Node) -> bool:
    """Return whether the node hands a matrix on, at most turned or in another type."""
    if not is_standard(node) or node.op_type not in _TRANSPARENT:
        return False
    # Any other permutation of a constant is rare enough to be left alone.
    return node.op_type != "Transpose" or "perm" not in node.attributes or node.attributes["perm"].as_ints() == (1, 0)


def is_dequantizer(node: ir.Node) -> bool:
    """Return whether the node multiplies stored levels by stored scales and does nothing else.

    Levels are of int8 or int32, there is one scale, or one for each index of an axis, and zero points are all 0.
    """
    if not is_standard(node) or node.op_type != "DequantizeLinear" or len(node.inputs) < 2:
        return False
    parts = [value for value in node.inputs if value is not None]
    if len(parts) < 2 or node.inputs[1] is None or not all(is_root(value) for value in parts):
        return False
    if "block_size" in node.attributes and node.attributes["block_size"].as_int():
        return False
    levels, scales = stored(parts[0]), stored(parts[1])
    rank = len(levels.shape)
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 1
    if levels.dtype not in (ir.DataType.INT8, ir.DataType.INT32) or scales.dtype != ir.DataType.FLOAT:
        return False
    if scales.size != 1 and not (-rank <= axis < rank and tuple(scales.shape.numpy()) == (levels.shape[axis],)):
        return False
    return len(parts) < 3 or not stored(parts[2]).numpy().any()


def readers(root: ir.Value) -> Iterator[ir.Node | None]:
    """Yield the nodes that compute with a root; None for a graph output.

    It is seen through what is transparent, and through a DequantizeLinear of constant scales.
    """
    # A chain of such nodes may be longer than Python's stack.
    left = [iter((root,))]
    while left:
        value = next(left[-1], None)
        if value is None:
            left.pop()
            continue
        if value.is_graph_output():
            yield None
        handed_on = []
        for usage in value.uses():
            if is_transparent(usage.node) or (usage.idx == 0 and is_dequantizer(usage.node)):
                handed_on.append(usage.node.outputs[0])
            else:
                yield usage.node
        left.append(iter(handed_on))


def known_values(graph: ir.Graph) -> set[ir.Value]:
    """Return the values that depend on constants alone, those in bodies among them."""
    nodes = list(ir.traversal.RecursiveGraphIterator(graph))
    bodies = {node.graph for node in nodes} - {graph}
    known = set(graph.initializers.values())
    known.update(value for body in bodies if isinstance(body, ir.Graph) for value in body.initializers.values())
    for node in nodes:
        inputs = [value for value in node.inputs if value is not None]
        has_body = any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values())
        if not has_body and all(value in known or is_root(value) for value in inputs) and (inputs or _constant(node)):
            known.update(node.outputs)
    return known


def vector_along(array: NDArray[Any], size: int, axis: int, rank: int) -> NDArray[np.float64] | None:
    """Return a constant that broadcasts along one axis as a vector, or None if it does more.

    Parameters
    ----------
    array
        The constant.
    size
        Elements of the vector.
    axis
        -1 or -2.
    rank
        Axes of the value that it is added to, which it must not enlarge.
    """
    if array.ndim > rank:
        return None
    if array.size == 1:
        return np.full(size, float(array.reshape(-1)[0]))
    sizes = (1,) * (2 - array.ndim) + array.shape
    if sizes[axis] != size or array.size != size:
        return None
    with np.errstate(invalid="ignore"):
        return array.reshape(-1).astype(np.float64)


def _constant(node: ir.Node) -> bool:
    return is_standard(node) and node.op_type == "Constant"
