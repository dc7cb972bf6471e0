"""Sums, products, extrema and norms over one axis."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tvm import tirx

from lrfdse.kernels.operators.machine import Emission, Machine, buffers
from lrfdse.kernels.operators.strips import (
    Combination,
    accumulator,
    clamped,
    combined,
    cover,
    identity,
    in_parts,
    row_result,
)
from lrfdse.kernels.tir import Expr, Stmt, load, named, over, sequence, splat, store

if TYPE_CHECKING:
    from lrfdse.ir.operators import Reduction

_TOGETHER = 4
"""Vectors of neighbouring results at once. Chosen, not measured."""

_COMBINATIONS: dict[str, Combination] = {"max": "max", "min": "min", "prod": "mul"}


def reduction(operator: Reduction, machine: Machine) -> Emission:
    """Return a reduction: across the lanes where the axis is innermost, else lane by lane."""
    x, y = parameters = buffers(operator.ports)
    kind = _COMBINATIONS.get(operator.kind, "add")
    size, inner = operator.size, operator.inner

    def prepared(value: Expr, lanes: int, into: list[Stmt]) -> Expr:
        if operator.kind == "l1":
            return machine.functions(lanes, into).magnitude(value)
        if operator.kind in ("l2", "sumsquare"):
            value = named(value, into)
            return value * value
        return value

    def finished(value: Expr, lanes: int, into: list[Stmt]) -> Expr:
        if operator.kind == "mean":
            return value * splat(tirx.FloatImm("float32", 1.0 / size), lanes)
        return machine.functions(lanes, into).root(named(value, into)) if operator.kind == "l2" else value

    def row(o: Expr) -> Stmt:
        made: list[Stmt] = []

        def value(i: Expr, lanes: int, into: list[Stmt]) -> Expr:
            return prepared(load(x, o * size + i, lanes), lanes, into)

        total = row_result(machine, size, value, kind, made)
        result = finished(total, 1, made)
        return sequence([*made, store(y, result, o)])

    if inner == 1:
        return Emission(parameters, over(operator.outer, row))
    lanes = cover(inner, machine.lanes).lanes
    together = max(1, min(_TOGETHER, inner // lanes))

    def block(o: Expr) -> Callable[[Expr], Stmt]:
        def strip(first: Expr) -> Stmt:
            sums = [accumulator(lanes) for _ in range(together)]
            made: list[Stmt] = [tirx.AllocBuffer(each) for each in sums]
            nothing = identity(kind, lanes, made)
            made += [store(each, nothing, 0) for each in sums]

            def step(s: Expr) -> Stmt:
                into: list[Stmt] = []
                for k, each in enumerate(sums):
                    index = (o * size + s) * inner + first + k * lanes
                    value = prepared(load(x, index, lanes), lanes, into)
                    into.append(store(each, combined(kind, load(each, 0), value), 0))
                return sequence(into)

            made.append(in_parts(size, step, sums, nothing) if kind == "add" else over(size, step))
            for k, each in enumerate(sums):
                value = finished(load(each, 0), lanes, made)
                made.append(store(y, value, o * inner + first + k * lanes, lanes))
            return sequence(made)

        return strip

    return Emission(parameters, over(operator.outer, lambda o: clamped(inner, together * lanes, block(o))))
