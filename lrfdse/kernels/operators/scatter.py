"""Elements that are put where indices say."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tvm import tirx

from lrfdse.ir.ports import ELEMENT_SIZE
from lrfdse.kernels.operators.machine import Emission, Machine, flat
from lrfdse.kernels.operators.rearrange import BITS, placed
from lrfdse.kernels.operators.runs import copied
from lrfdse.kernels.tir import Buffer, Expr, Stmt, load, over, sequence, store

if TYPE_CHECKING:
    from lrfdse.ir.indexed import Joining, ScatterElements, ScatterND


def scatter_nd(operator: ScatterND, machine: Machine) -> Emission:
    """Return a copy of x, and a loop over the indices that writes a run for each."""
    x, indices, updates, y = parameters = _buffers(operator)
    inner, extents, joining = operator.inner, operator.extents, operator.joining

    def one(c: Expr) -> Stmt:
        made: list[Stmt] = []
        row: Expr = 0
        for place, extent in enumerate(extents):
            row = row * extent + placed(load(indices, c * len(extents) + place), extent, made)
        if joining == "none":
            made.append(copied(updates, c * inner, y, row * inner, inner, machine))
        else:
            made.append(over(inner, lambda i: _put(y, row * inner + i, load(updates, c * inner + i), joining)))
        return sequence(made)

    whole = copied(x, 0, y, 0, operator.ports[0].size, machine)
    return Emission(parameters, sequence([whole, over(operator.count, one)]))


def scatter_elements(operator: ScatterElements, machine: Machine) -> Emission:
    """Return a copy of x, and loops over the axes of the updates that write single elements."""
    x, indices, updates, y = parameters = _buffers(operator)
    shape, sizes = operator.shape, operator.updates
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]

    def nest(axis: int, number: Expr, at: Expr) -> Stmt:
        """Return the loops from an axis on; `number` counts updates, `at` is where those before the axis are in y."""
        if axis < len(sizes):
            step = 0 if axis == operator.axis else strides[axis]
            return over(sizes[axis], lambda i: nest(axis + 1, number * sizes[axis] + i, at + i * step))
        made: list[Stmt] = []
        place = placed(load(indices, number), shape[operator.axis], made)
        made.append(_put(y, at + place * strides[operator.axis], load(updates, number), operator.joining))
        return sequence(made)

    return Emission(parameters, sequence([copied(x, 0, y, 0, operator.ports[0].size, machine), nest(0, 0, 0)]))


def _buffers(operator: ScatterND | ScatterElements) -> tuple[Buffer, ...]:
    """Return the parameters; what is only moved is moved as bits."""
    element = BITS[ELEMENT_SIZE[operator.element]] if operator.joining == "none" else operator.element
    return tuple(
        flat(port.size, f"p{number}", operator.index if number == 1 else element)
        for number, port in enumerate(operator.ports)
    )


def _put(y: Buffer, at: Expr, value: Expr, joining: Joining) -> Stmt:
    before = load(y, at)
    if joining == "add":
        value = before + value
    elif joining == "mul":
        value = before * value
    elif joining in ("max", "min"):
        value = (tirx.Max if joining == "max" else tirx.Min)(before, value)
    return store(y, value, at)
