"""Products of one input with several stored matrices, written as one product that is split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lrfdse.model.carriers import mark_joined
from lrfdse.model.constants import FLOATS, is_root, is_standard, known_values, node_name, readers, stored
from lrfdse.model.match.products import only_reader
from lrfdse.model.names import joint_name, layer_name, module_of
from lrfdse.model.passes.emit import Emitter, Names, drop_unused, replace


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """A MatMul or Gemm of an activation and a stored matrix that nothing else reads, with the bias behind it."""

    node: ir.Node
    source: ir.Value
    weight: ir.Value
    is_turned: bool
    """Whether the matrix is stored as (outputs, inputs)."""
    bias: ir.Value | None
    end: ir.Value
    """The result, bias included."""

    @property
    def matrix(self) -> NDArray[Any]:
        """The matrix, shape (inputs, outputs)."""
        array = stored(self.weight).numpy()
        return array.T if self.is_turned else array

    @property
    def outputs(self) -> int:
        """Elements that it gives for a row."""
        return int(stored(self.weight).shape.numpy()[0 if self.is_turned else 1])

    @property
    def shift(self) -> NDArray[Any]:
        """The bias, or zeros, shape (outputs,)."""
        if self.bias is None:
            return np.zeros(self.outputs, stored(self.weight).numpy().dtype)
        return stored(self.bias).numpy().reshape(-1)

    @property
    def name(self) -> str:
        """What a layer of its own would be called."""
        return layer_name(self.weight.name or "", module_of(self.node) or self.node.name or "", set())


class JoinProducts(ir.passes.InPlacePass):
    """Puts one product and a Split in the place of products that read the same value, in the main graph.

    Queries, keys and values of an attention are such, and gates of a network. Every element is computed from the same
    row and column as before. Products stay as they are whose matrix is quantized, scaled, shared or computed.

    Parameters
    ----------
    ranks
        Name of a value to its number of axes, where that is known.
    """

    def __init__(self, ranks: Mapping[str, int]) -> None:
        self._ranks = ranks

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change the model; the result says whether anything was joined."""
        names, known = Names(model), known_values(model.graph)
        groups: dict[tuple[ir.Value, ir.DataType | None], list[_Part]] = {}
        for node in model.graph:
            part = _part(node, known)
            if part is not None and (part.source.name or "") in self._ranks:
                groups.setdefault((part.source, stored(part.weight).dtype), []).append(part)
        several = [group for group in groups.values() if len(group) > 1]
        for group in several:
            _join(model, group, self._ranks[group[0].source.name or ""], names)
        return ir.passes.PassResult(model, modified=bool(several))


def _join(model: ir.Model, parts: Sequence[_Part], rank: int, names: Names) -> None:
    emit = Emitter(model, parts[0].node, joint_name([part.name for part in parts]), {}, names)
    whole = emit.op(
        "MatMul", [parts[0].source, emit.constant("weight", np.concatenate([part.matrix for part in parts], 1))]
    )
    product = whole.producer()
    assert product is not None
    mark_joined(product, [node_name(part.node) for part in parts])
    if any(part.bias is not None for part in parts):
        whole = emit.op("Add", [whole, emit.constant("bias", np.concatenate([part.shift for part in parts]))])
    pieces = emit.split(whole, [part.outputs for part in parts], rank - 1)
    for part, piece in zip(parts, pieces, strict=True):
        is_behind = part.end is not part.node.outputs[0]
        operands = list(part.node.inputs)
        replace(part.end, piece)
        if is_behind:
            model.graph.remove(part.node, safe=True)
            for value in operands[1:]:
                if value is not None:
                    drop_unused(value)


def _part(node: ir.Node, known: set[ir.Value]) -> _Part | None:
    if not is_standard(node) or node.op_type not in ("Gemm", "MatMul") or len(node.inputs) < 2:
        return None
    source, weight = node.inputs[:2]
    if source is None or weight is None or source in known or not is_root(weight) or list(readers(weight)) != [node]:
        return None
    sizes = tuple(stored(weight).shape.numpy())
    if len(sizes) != 2 or 0 in sizes or stored(weight).dtype not in FLOATS:
        return None
    out = node.outputs[0]
    if node.op_type == "MatMul":
        add = only_reader(out, "Add")
        bias = None if add is None else next((each for each in add.inputs if each is not out), None)
        if add is not None and _is_bias(bias, sizes[1], weight):
            return _Part(node, source, weight, False, bias, add.outputs[0])
        return _Part(node, source, weight, False, None, out)
    given = {
        name: node.attributes[name].value for name in ("alpha", "beta", "transA", "transB") if name in node.attributes
    }
    turned, bias = bool(given.get("transB", 0)), node.inputs[2] if len(node.inputs) > 2 else None
    if given.get("alpha", 1.0) != 1.0 or given.get("transA", 0):
        return None
    if bias is not None and (given.get("beta", 1.0) != 1.0 or not _is_bias(bias, sizes[0 if turned else 1], weight)):
        return None
    return _Part(node, source, weight, turned, bias, out)


def _is_bias(value: ir.Value | None, outputs: int, weight: ir.Value) -> bool:
    """Return whether a value is stored and holds a number for each output, along the last axis."""
    if value is None or not is_root(value) or stored(value).dtype != stored(weight).dtype:
        return False
    sizes = tuple(stored(value).shape.numpy())
    return bool(sizes) and sizes[-1] == outputs and int(np.prod(sizes)) == outputs
