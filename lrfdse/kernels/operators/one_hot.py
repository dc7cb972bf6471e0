"""Vectors that are one value everywhere but at one index."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvm import tirx

from lrfdse.ir.ports import ELEMENT_SIZE
from lrfdse.kernels.operators.machine import Emission, Machine, flat
from lrfdse.kernels.operators.rearrange import BITS
from lrfdse.kernels.operators.runs import nothing, spread
from lrfdse.kernels.tir import Expr, Stmt, either, load, named, over, sequence, store

if TYPE_CHECKING:
    from lrfdse.ir.indexed import OneHot


def one_hot(operator: OneHot, machine: Machine) -> Emission:
    """Return a loop that writes the first value everywhere, and one that writes the second where indices say."""
    element = BITS[ELEMENT_SIZE[operator.element]]
    indices, values, y = parameters = tuple(
        flat(port.size, f"p{number}", operator.index if number == 0 else element)
        for number, port in enumerate(operator.ports)
    )
    depth, inner = operator.depth, operator.inner

    def place(index: Expr, into: list[Stmt]) -> Expr:
        """Return an index as one of 32 bits below `depth`, or a number outside of the axis."""
        kind = str(index.ty.dtype)
        if kind not in ("float32", "float64", "int64"):
            index, kind = tirx.Cast("int32", index), "int32"
        number = tirx.FloatImm if kind.startswith("float") else tirx.IntImm
        # What no index of 32 bits holds is nowhere; NaN is, too.
        bounded = tirx.Max(tirx.Min(named(index, into), number(kind, depth)), number(kind, -depth - 1))
        whole = named(tirx.Cast("int32", named(bounded, into)), into)
        return named(tirx.Select(whole < 0, whole + depth, whole), into)

    def mark(o: Expr, i: Expr) -> Stmt:
        made: list[Stmt] = []
        at = place(load(indices, o * inner + i), made)
        put = store(y, load(values, 1), (o * depth + at) * inner + i)
        return sequence([*made, either(tirx.And(at >= 0, at < depth), put, nothing())])

    made: list[Stmt] = []
    off = named(load(values, 0), made)
    made.append(spread(y, 0, operator.ports[2].size, off, machine))
    made.append(over(operator.outer, lambda o: over(inner, lambda i: mark(o, i))))
    return Emission(parameters, sequence(made))
