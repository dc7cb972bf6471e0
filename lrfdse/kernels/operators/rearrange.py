"""Copies of any rearrangement, and gathers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from tvm import tirx

from lrfdse.ir.ports import ELEMENT_SIZE, Element
from lrfdse.kernels.operators.machine import Emission, Machine, flat
from lrfdse.kernels.operators.runs import copied, filled, nothing, spread
from lrfdse.kernels.operators.strips import clamped
from lrfdse.kernels.tir import Buffer, Expr, Stmt, load, named, over, sequence, store

if TYPE_CHECKING:
    from lrfdse.ir.indexed import Gather
    from lrfdse.ir.operators import Copy

_BLOCK = 8
"""Elements along both sides of a block of a transposition, which is in registers and cache lines at once.

Chosen, not measured."""


BITS: dict[int, Element] = {1: "int8", 2: "int16", 4: "int32", 8: "int64"}
"""What elements are moved as, by their size: no machine needs to know float16."""


@dataclass(frozen=True, slots=True)
class _Axis:
    """One axis of a copy."""

    size: int
    source: int
    target: int


def copy(operator: Copy, machine: Machine) -> Emission:
    """Return a copy: whole runs where both sides are contiguous, blocks where two axes change places."""
    element = BITS[ELEMENT_SIZE[operator.element]]
    x, y = (flat(port.size, port.role, element) for port in operator.ports)
    made = [nothing()]
    if operator.fill is not None:
        number = np.array([operator.fill]).astype(operator.element).view(element)
        made.append(filled(y, 0, operator.size, int(number[0]), machine))
    if math.prod(operator.shape):
        made.append(_copied(x, y, operator, machine))
    return Emission((x, y), sequence(made))


def _copied(x: Buffer, y: Buffer, operator: Copy, machine: Machine) -> Stmt:
    axes = _joined(operator)
    # The output is written in order: its contiguous axis is the inner one.
    axes.sort(key=lambda axis: -axis.target)
    inner = axes.pop() if axes else _Axis(1, 1, 1)
    if inner.target == 1 and inner.source in (0, 1):
        return _nest(axes, lambda at, to: _run(x, at, y, to, inner, machine), operator.source, operator.to)
    across = min(axes, key=lambda axis: abs(axis.source), default=None)
    if across is None or abs(across.source) >= abs(inner.source):
        return _nest(axes, lambda at, to: _scattered(x, at, y, to, inner), operator.source, operator.to)
    axes.remove(across)
    return _nest(axes, lambda at, to: _transposed(x, at, y, to, across, inner), operator.source, operator.to)


def _joined(operator: Copy) -> list[_Axis]:
    """Return the axes of a copy without those of one element, neighbours that move alike as one."""
    axes: list[_Axis] = []
    for size, source, target in zip(operator.shape, operator.strides, operator.to_strides, strict=True):
        if size == 1:
            continue
        outer = axes[-1] if axes else None
        if outer and outer.source == size * source and outer.target == size * target:
            axes[-1] = _Axis(outer.size * size, source, target)
        else:
            axes.append(_Axis(size, source, target))
    return axes


def _nest(axes: list[_Axis], body: Callable[[Expr, Expr], Stmt], at: Expr, to: Expr) -> Stmt:
    """Return loops over the outer axes around what `body` makes of both sides' indices."""
    if not axes:
        return body(at, to)
    outer, *rest = axes
    return over(outer.size, lambda i: _nest(rest, body, at + i * outer.source, to + i * outer.target))


def _run(x: Buffer, at: Expr, y: Buffer, to: Expr, axis: _Axis, machine: Machine) -> Stmt:
    if axis.source == 1:
        return copied(x, at, y, to, axis.size, machine)
    made: list[Stmt] = []
    value = named(load(x, at), made)
    return sequence([*made, spread(y, to, axis.size, value, machine)])


def _scattered(x: Buffer, at: Expr, y: Buffer, to: Expr, axis: _Axis) -> Stmt:
    """Return a loop of single elements, a few an iteration."""
    width = min(_BLOCK, axis.size)

    def block(first: Expr) -> Stmt:
        return sequence(
            [store(y, load(x, at + (first + i) * axis.source), to + (first + i) * axis.target) for i in range(width)]
        )

    return clamped(axis.size, width, block)


def _transposed(x: Buffer, at: Expr, y: Buffer, to: Expr, across: _Axis, inner: _Axis) -> Stmt:
    """Return loops over blocks of two axes, of which one is contiguous before and the other one afterwards."""
    rows, columns = min(_BLOCK, across.size), min(_BLOCK, inner.size)

    def block(r: Expr, c: Expr) -> Stmt:
        made = []
        for i in range(rows):
            for j in range(columns):
                value = load(x, at + (r + i) * across.source + (c + j) * inner.source)
                made.append(store(y, value, to + (r + i) * across.target + (c + j) * inner.target))
        return sequence(made)

    return clamped(across.size, rows, lambda r: clamped(inner.size, columns, lambda c: block(r, c)))


def placed(value: Expr, extent: int, into: list[Stmt]) -> Expr:
    """Return an index of any whole numbers as one of 32 bits: counted from the end where negative, and clipped."""
    kind = str(value.ty.dtype)
    wide = "int64" if ELEMENT_SIZE[kind] == ELEMENT_SIZE["int64"] else "int32"  # type: ignore[index]
    index = named(value if kind == wide else tirx.Cast(wide, value), into)
    size, nothing = tirx.IntImm(wide, extent), tirx.IntImm(wide, 0)
    counted = named(tirx.Select(index < nothing, index + size, index), into)
    clipped = named(tirx.Max(tirx.Min(counted, size - tirx.IntImm(wide, 1)), nothing), into)
    return named(tirx.Cast("int32", clipped), into)


def gather(operator: Gather, machine: Machine) -> Emission:
    """Return gathered runs; indices are counted from the end where negative, and clipped."""
    element = BITS[ELEMENT_SIZE[operator.element]]
    x, indices, y = parameters = tuple(
        flat(port.size, f"p{number}", operator.index if number == 1 else element)
        for number, port in enumerate(operator.ports)
    )
    extent, inner, count = operator.extent, operator.inner, operator.count

    def one(o: Expr, c: Expr) -> Stmt:
        made: list[Stmt] = []
        place = placed(load(indices, c), extent, made)
        made.append(copied(x, (o * extent + place) * inner, y, (o * count + c) * inner, inner, machine))
        return sequence(made)

    return Emission(parameters, over(operator.outer, lambda o: over(count, lambda c: one(o, c))))
