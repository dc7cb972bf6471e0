"""Weights behind operators that only move elements, or with axes of size 1 in front, stored as they are used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lrfdse.model.bodies import all_nodes
from lrfdse.model.constants import FLOATS, is_root, is_standard, stored, trace
from lrfdse.model.passes.emit import MOVING, Emitter, Names, drop_unused, instead_of, replace, take_name

_WEIGHTS: Mapping[tuple[str, str], tuple[int, ...]] = {
    ("", "Conv"): (1,),
    ("", "Einsum"): (0, 1),
    ("", "Gather"): (0,),
    ("", "Gemm"): (0, 1),
    ("", "GRU"): (1, 2, 3),
    ("", "LSTM"): (1, 2, 3),
    ("", "MatMul"): (0, 1),
    ("", "RNN"): (1, 2, 3),
    ("com.microsoft", "Attention"): (1,),
    ("com.microsoft", "FusedConv"): (1,),
    ("com.microsoft", "FusedGemm"): (0, 1),
    ("com.microsoft", "FusedMatMul"): (0, 1),
}
"""Inputs of operators at which a matrix, a kernel, or what belongs to one is looked for."""


class StoreAsUsed(ir.passes.InPlacePass):
    """Stores weights in the shape in which they are used.

    A weight behind Reshape, Transpose, Squeeze, Unsqueeze, Flatten or Identity is stored as these make it, a Cast among
    them stays; so is one that Concat puts together from tensors or slices of them, as PyTorch orders the gates of an
    LSTM and joins its two biases.
    A weight of MatMul with axes of size 1 in front is stored without them. Tensors that something else reads, too, stay
    as they are, and so does every element.

    Parameters
    ----------
    ranks
        Name of a value to its number of axes, where that is known.
    """

    def __init__(self, ranks: Mapping[str, int]) -> None:
        self._ranks = ranks

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change the model; the result says whether a weight is stored otherwise."""
        names, changed = Names(model), False
        for node in all_nodes(model.graph):
            places = _WEIGHTS.get((node.domain if not is_standard(node) else "", node.op_type), ())
            for place in places:
                value = node.inputs[place] if place < len(node.inputs) else None
                if value is None or trace(value) is not None or (moved := _moved(value)) is None:
                    continue
                emit = Emitter.before(model, node, names)
                new = emit.constant("weight", moved.array)
                used = new if moved.cast is None else emit.op("Cast", [new], to=int(moved.cast))
                value.replace_all_uses_with(used)
                drop_unused(value)
                take_name(moved.roots[0], new)
                changed = True
            if is_standard(node) and node.op_type == "MatMul":
                changed |= _squeezed(model, node, names, self._ranks)
        return ir.passes.PassResult(model, modified=changed)


@dataclass(frozen=True, slots=True)
class _Moved:
    roots: Sequence[ir.Value]
    array: NDArray[Any]
    """Elements of the roots, where and how they are used, in the type in which they are stored."""
    cast: ir.DataType | None


def _moved(value: ir.Value) -> _Moved | None:
    """Return what a value is that only moving operators have made of stored tensors, which nothing else reads."""
    if (found := _moving(value)) is None:
        return None
    roots, nodes = found
    types = {stored(root).dtype for root in roots}
    casts = [ir.DataType(node.attributes["to"].as_int()) for node in nodes if node.op_type == "Cast"]
    if len(types) > 1 or not types.issubset(FLOATS) or len(casts) > 1 or any(cast not in FLOATS for cast in casts):
        return None
    # A Cast of a part would leave the others in another type.
    if casts and any(node.op_type == "Concat" for node in nodes):
        return None
    arrays: dict[ir.Value, NDArray[Any]] = {root: stored(root).numpy() for root in roots}
    most = sum(array.size for array in arrays.values())
    left = nodes[::-1]
    while left:
        waiting = []
        for node in left:
            if any(each not in arrays for each in _data(node)):
                waiting.append(node)
                continue
            try:
                moved = _joined(node, arrays) if node.op_type == "Concat" else _apply(node, arrays[_data(node)[0]])
            except (ValueError, IndexError, KeyError):
                # Sizes that do not fit: onnxruntime will say so of the model as it is.
                return None
            # What repeats elements is no order of them.
            if moved is None or moved.size > most:
                return None
            arrays[node.outputs[0]] = moved
        left = waiting
    return _Moved(roots, arrays[value], casts[0] if casts else None)


def _moving(value: ir.Value) -> tuple[list[ir.Value], list[ir.Node]] | None:
    """Return the stored tensors that a value is made of, and the moving nodes between; None where there are others."""
    roots: dict[ir.Value, None] = {}
    nodes: dict[ir.Node, None] = {}
    left = [value]
    while left:
        each = left.pop()
        if is_root(each):
            roots[each] = None
            continue
        node = each.producer()
        if node is None or not is_standard(node) or node.op_type not in MOVING or not _data(node):
            return None
        if node not in nodes:
            nodes[node] = None
            left += _data(node)
    inner = [*roots, *(node.outputs[0] for node in nodes if node.outputs[0] is not value)]
    shared = any(each.is_graph_output() or any(use.node not in nodes for use in each.uses()) for each in inner)
    return None if not roots or shared else (list(roots), list(nodes))


def _data(node: ir.Node) -> list[ir.Value]:
    """Return the inputs of a moving node whose elements it moves."""
    return [each for each in (node.inputs if node.op_type == "Concat" else node.inputs[:1]) if each is not None]


def _joined(node: ir.Node, arrays: Mapping[ir.Value, NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate([arrays[each] for each in _data(node)], axis=node.attributes["axis"].as_int())


def _apply(node: ir.Node, array: NDArray[Any]) -> NDArray[Any] | None:
    if node.op_type in ("Cast", "Identity"):
        return array
    if node.op_type == "Transpose":
        return np.transpose(array, _attribute(node, "perm"))
    if node.op_type == "Flatten":
        axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 1
        axis += array.ndim if axis < 0 else 0
        return array.reshape(int(np.prod(array.shape[:axis], dtype=np.int64)), -1)
    if node.op_type == "Slice":
        return _sliced(node, array)
    sizes = _numbers(node, 1)
    if node.op_type == "Reshape":
        if sizes is None or ("allowzero" in node.attributes and node.attributes["allowzero"].as_int()):
            return None
        return array.reshape([array.shape[k] if size == 0 else size for k, size in enumerate(sizes)])
    axes = sizes if sizes is not None else _attribute(node, "axes")
    if node.op_type == "Squeeze":
        return np.squeeze(array, None if axes is None else tuple(axes))
    return None if axes is None else np.expand_dims(array, tuple(axes))


def _sliced(node: ir.Node, array: NDArray[Any]) -> NDArray[Any] | None:
    """Return a slice in steps of 1; None where its ends are attributes, as before opset 10, or not constant."""
    starts, ends, axes, steps = (_numbers(node, place) for place in range(1, 5))
    open_ends = any(
        _numbers(node, place) is None for place, value in enumerate(node.inputs) if place and value is not None
    )
    if starts is None or ends is None or open_ends or (steps is not None and set(steps) != {1}):
        return None
    cut = [slice(None)] * array.ndim
    for axis, start, end in zip(axes if axes is not None else range(len(starts)), starts, ends, strict=True):
        cut[axis] = slice(start, end)
    return array[tuple(cut)]


def _numbers(node: ir.Node, place: int) -> list[int] | None:
    """Return the whole numbers of a constant input; None where there is none."""
    value = node.inputs[place] if place < len(node.inputs) else None
    given = None if value is None else ir.convenience.get_const_tensor(value)
    return None if given is None else [int(each) for each in given.numpy().reshape(-1)]


def _attribute(node: ir.Node, name: str) -> list[int] | None:
    return list(node.attributes[name].as_ints()) if name in node.attributes else None


def _squeezed(model: ir.Model, node: ir.Node, names: Names, ranks: Mapping[str, int]) -> bool:
    """Store the weight of a MatMul without the axes of size 1 in front; return whether it had any."""
    for place in (0, 1):
        value, other = node.inputs[place], node.inputs[1 - place]
        if value is None or other is None or not is_root(value) or stored(value).dtype not in FLOATS:
            continue
        shape = tuple(stored(value).shape.numpy())
        rank = ranks.get(other.name or "")
        alone = len(list(value.uses())) == 1 and not value.is_graph_output()
        if len(shape) < 3 or set(shape[:-2]) != {1} or not alone or rank is None or rank < 2:
            continue
        emit = Emitter.before(model, node, names)
        new = emit.constant("weight", stored(value).numpy().reshape(shape[-2:]))
        if rank >= len(shape):
            node.replace_input_with(place, new)
        else:
            # The result has the weight's axes in front of those of the activation.
            made = emit.op("MatMul", [new, other] if place == 0 else [other, new])
            instead_of(node, made)
            replace(node.outputs[0], emit.unsqueeze(made, range(len(shape) - rank)))
        drop_unused(value)
        take_name(value, new)
        return True
    return False
