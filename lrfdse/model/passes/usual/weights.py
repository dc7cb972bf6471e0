"""Weights behind operators that only move elements, or with axes of size 1 in front, stored as they are used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lrfdse.model.constants import FLOATS, is_root, is_standard, stored, trace
from lrfdse.model.passes.emit import Emitter, Names, drop_unused, instead_of, replace, take_name

_MOVING = frozenset({"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})

_WEIGHTS: Mapping[tuple[str, str], tuple[int, ...]] = {
    ("", "Conv"): (1,),
    ("", "Einsum"): (0, 1),
    ("", "Gather"): (0,),
    ("", "Gemm"): (0, 1),
    ("", "GRU"): (1,),
    ("", "LSTM"): (1,),
    ("", "MatMul"): (0, 1),
    ("", "RNN"): (1,),
    ("com.microsoft", "Attention"): (1,),
    ("com.microsoft", "FusedConv"): (1,),
    ("com.microsoft", "FusedGemm"): (0, 1),
    ("com.microsoft", "FusedMatMul"): (0, 1),
}
"""Inputs of operators at which a matrix or a kernel is looked for."""


class StoreAsUsed(ir.passes.InPlacePass):
    """Stores weights in the shape in which they are used.

    A weight behind Reshape, Transpose, Squeeze, Unsqueeze, Flatten or Identity is stored as these make it, a Cast among
    them stays; a weight of MatMul with axes of size 1 in front is stored without them. Tensors that something else
    reads, too, stay as they are, and so does every element.

    Parameters
    ----------
    ranks
        Name of a value to its number of axes, where that is known.
    """

    def __init__(self, ranks: Mapping[str, int]) -> None:
        self._ranks = ranks

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change the main graph; the result says whether a weight is stored otherwise."""
        names, changed = Names(model), False
        for node in list(model.graph):
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
                take_name(moved.root, new)
                changed = True
            if is_standard(node) and node.op_type == "MatMul":
                changed |= _squeezed(model, node, names, self._ranks)
        return ir.passes.PassResult(model, modified=changed)


@dataclass(frozen=True, slots=True)
class _Moved:
    root: ir.Value
    array: NDArray[Any]
    """The elements of the root, where and how they are used, in the type in which they are stored."""
    cast: ir.DataType | None


def _moved(value: ir.Value) -> _Moved | None:
    """Return what a value is that only moving operators have made of a stored tensor, which nothing else reads."""
    chain: list[ir.Node] = []
    while not is_root(value):
        node = value.producer()
        if node is None or not is_standard(node) or node.op_type not in _MOVING or not node.inputs:
            return None
        chain.append(node)
        if node.inputs[0] is None:
            return None
        value = node.inputs[0]
        if value.is_graph_output() or len(list(value.uses())) != 1:
            return None
    tensor = stored(value)
    casts = [ir.DataType(node.attributes["to"].as_int()) for node in chain if node.op_type == "Cast"]
    if tensor.dtype not in FLOATS or len(casts) > 1 or any(cast not in FLOATS for cast in casts):
        return None
    array: NDArray[Any] = tensor.numpy()
    for node in reversed(chain):
        moved = _apply(node, array)
        if moved is None:
            return None
        array = moved
    return _Moved(value, array, casts[0] if casts else None)


def _apply(node: ir.Node, array: NDArray[Any]) -> NDArray[Any] | None:
    if node.op_type in ("Cast", "Identity"):
        return array
    if node.op_type == "Transpose":
        return np.transpose(array, _attribute(node, "perm"))
    if node.op_type == "Flatten":
        axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 1
        axis += array.ndim if axis < 0 else 0
        return array.reshape(int(np.prod(array.shape[:axis], dtype=np.int64)), -1)
    sizes = _second(node)
    if node.op_type == "Reshape":
        if sizes is None or ("allowzero" in node.attributes and node.attributes["allowzero"].as_int()):
            return None
        return array.reshape([array.shape[k] if size == 0 else size for k, size in enumerate(sizes)])
    axes = sizes if sizes is not None else _attribute(node, "axes")
    if node.op_type == "Squeeze":
        return np.squeeze(array, None if axes is None else tuple(axes))
    return None if axes is None else np.expand_dims(array, tuple(axes))


def _second(node: ir.Node) -> list[int] | None:
    given = ir.convenience.get_const_tensor(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] else None
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
