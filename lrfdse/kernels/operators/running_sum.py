"""Sums of all elements up to each one of an axis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvm import tirx

from lrfdse.kernels.operators.machine import Emission, Machine, buffers
from lrfdse.kernels.operators.runs import fenced
from lrfdse.kernels.operators.strips import clamped, cover
from lrfdse.kernels.tir import Expr, Stmt, load, named, over, sequence, splat, store

if TYPE_CHECKING:
    from lrfdse.ir.operators import RunningSum


def running_sum(operator: RunningSum, machine: Machine) -> Emission:
    """Return loops along the axis, each of which keeps the sums of neighbouring runs; of floats in vectors.

    Sums are of the elements' type and in the order of the axis, as onnxruntime computes them.
    """
    x, y = parameters = buffers(operator.ports)
    size, inner, element = operator.size, operator.inner, operator.element
    lanes = cover(inner, machine.lanes).lanes if element == "float32" else 1
    kind = element if lanes == 1 else f"{element}x{lanes}"
    zero = tirx.FloatImm(element, 0.0) if element.startswith("float") else tirx.IntImm(element, 0)

    def strip(o: Expr, first: Expr) -> Stmt:
        total = tirx.decl_buffer((1,), kind, name="total")
        made: list[Stmt] = [tirx.AllocBuffer(total)]
        made.append(store(total, splat(named(fenced(zero), made), lanes), 0))

        def step(s: Expr) -> Stmt:
            into: list[Stmt] = []
            at = (o * size + (size - 1 - s if operator.reverse else s)) * inner + first
            before = named(load(total, 0), into)
            after = named(before + load(x, at, lanes), into)
            into.append(store(total, after, 0))
            return sequence([*into, store(y, before if operator.exclusive else after, at, lanes)])

        return sequence([*made, over(size, step)])

    return Emission(parameters, over(operator.outer, lambda o: clamped(inner, lanes, lambda i: strip(o, i))))
