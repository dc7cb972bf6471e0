"""Einsums that are a product with a constant matrix, written as MatMul."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from lrfdse.model.bodies import all_nodes
from lrfdse.model.constants import FLOATS, is_root, is_standard, stored
from lrfdse.model.passes.emit import Emitter, Names, instead_of, replace


class SpellOutEinsum(ir.passes.InPlacePass):
    """Puts MatMul in the place of Einsum nodes with a stored tensor, where they are the product with one matrix.

    That is: each index of the tensor is either summed over with the activation's or is one of the result's alone. The
    tensor is stored as a matrix; the activation and the result are turned and reshaped as far as they have to be.

    Parameters
    ----------
    ranks
        Name of a value to its number of axes, where that is known.
    """

    def __init__(self, ranks: Mapping[str, int]) -> None:
        self._ranks = ranks

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change the model; the result says whether there was such a node."""
        names, changed = Names(model), False
        for node in all_nodes(model.graph):
            if not is_standard(node) or node.op_type != "Einsum":
                continue
            found = _plan(node, self._ranks)
            if found is not None:
                replace(node.outputs[0], _written(Emitter.before(model, node, names), node, found))
                changed = True
        return ir.passes.PassResult(model, modified=changed)


@dataclass(frozen=True, slots=True)
class _Plan:
    source: ir.Value
    weight: ir.Value
    read: str
    """Indices of the activation."""
    held: str
    """Indices of the constant."""
    kept: str
    """Indices of the activation that the result has, in the result's order."""
    summed: str
    """Indices that both have and the result lacks, in the constant's order."""
    new: str
    """Indices that only the constant and the result have, in the result's order."""
    result: str


def _plan(node: ir.Node, ranks: Mapping[str, int]) -> _Plan | None:
    equation = node.attributes["equation"].as_string().replace(" ", "")
    operands = [value for value in node.inputs if value is not None]
    left, arrow, result = equation.partition("->")
    terms = left.split(",")
    if len(operands) != 2 or len(terms) != 2 or not arrow:
        return None
    constant = [is_root(value) and stored(value).dtype in FLOATS for value in operands]
    if constant[0] == constant[1]:
        return None
    place = constant.index(True)
    held, read, source = terms[place], terms[1 - place], operands[1 - place]
    if "..." in read + result:
        # As many letters as the ellipsis has axes, in both.
        rank = ranks.get(source.name or "")
        spare = [letter for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if letter not in equation]
        count = -1 if rank is None else rank - len(read.replace("...", ""))
        if not 0 <= count <= len(spare) or ("..." in read) != ("..." in result):
            return None
        read, result = (term.replace("...", "".join(spare[:count])) for term in (read, result))
    if any(len(set(term)) < len(term) for term in (held, read, result)) or "." in held + read + result:
        return None
    kept = "".join(index for index in result if index in read)
    new = "".join(index for index in result if index in held)
    summed = "".join(index for index in held if index in read)
    # Every index is of two of the three.
    if set(kept) & set(held) or set(kept) | set(summed) != set(read) or set(new) | set(summed) != set(held):
        return None
    return _Plan(source, operands[place], read, held, kept, summed, new, result) if new and summed else None


def _written(emit: Emitter, node: ir.Node, plan: _Plan) -> ir.Value:
    array = stored(plan.weight).numpy()
    sizes = dict(zip(plan.held, array.shape, strict=True))
    inner, outer = (math.prod(sizes[index] for index in part) for part in (plan.summed, plan.new))
    if plan.held in (plan.summed + plan.new, plan.new + plan.summed) and len(plan.held) == 2:
        weight = plan.weight if plan.held == plan.summed + plan.new else emit.swap_last(plan.weight, 2)
    else:
        turned = np.transpose(array, [plan.held.index(index) for index in plan.summed + plan.new])
        weight = emit.constant("weight", turned.reshape(inner, outer))
    value = _turned(emit, plan.source, plan.read, plan.kept + plan.summed)
    if len(plan.summed) > 1:
        value = emit.reshape(value, [*(0 for _ in plan.kept), inner])
    value = emit.op("MatMul", [value, weight])
    instead_of(node, value)
    if len(plan.new) > 1:
        value = emit.reshape(value, [*(0 for _ in plan.kept), *(sizes[index] for index in plan.new)])
    return _turned(emit, value, plan.kept + plan.new, plan.result)


def _turned(emit: Emitter, value: ir.Value, there: Sequence[str], wanted: Sequence[str]) -> ir.Value:
    if there == wanted:
        return value
    return emit.op("Transpose", [value], perm=[there.index(index) for index in wanted])
