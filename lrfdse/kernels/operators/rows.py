"""Operators on rows: softmax and normalization."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvm import tirx

from lrfdse.kernels.operators.finish import Finish, Spot
from lrfdse.kernels.operators.machine import Emission, Machine, buffers
from lrfdse.kernels.operators.strips import cover, row_result, strips
from lrfdse.kernels.tir import Expr, Stmt, load, named, over, sequence, splat, store

if TYPE_CHECKING:
    from lrfdse.ir.operators import Normalization, Softmax


def softmax(operator: Softmax, machine: Machine) -> Emission:
    """Return the softmax of rows, or its logarithm: a maximum, the sum of exponentials, a scaling or a difference."""
    x, y = parameters = buffers(operator.ports)
    size = operator.size

    def row(r: Expr) -> Stmt:
        made: list[Stmt] = []
        first = r * size
        largest = row_result(machine, size, lambda i, lanes, into: load(x, first + i, lanes), "max", made)

        def exponential(i: Expr, lanes: int, into: list[Stmt]) -> Expr:
            value = machine.functions(lanes, into).exp_below(load(x, first + i, lanes) - splat(largest, lanes))
            if not operator.log:
                into.append(store(y, value, first + i, lanes))
            return value

        total = row_result(machine, size, exponential, "add", made)
        if operator.log:
            shift = named(largest + machine.functions(1, made).log(total), made)
            made.append(
                strips(
                    size,
                    machine.lanes,
                    lambda i, lanes: [store(y, load(x, first + i, lanes) - splat(shift, lanes), first + i, lanes)],
                )
            )
        else:
            made += _scaled(machine, operator, y, first, named(tirx.FloatImm("float32", 1.0) / total, made))
        return sequence(made)

    return Emission(parameters, over(operator.rows, row))


def _scaled(machine: Machine, operator: Softmax, y: Expr, first: Expr, factor: Expr) -> list[Stmt]:
    """Return the statements that multiply a row by a factor in its place."""
    c = cover(operator.size, machine.lanes)
    made: list[Stmt] = []
    if c.last is not None:
        # The overlapping vector is read before its first elements are multiplied.
        last = named(load(y, first + c.last, c.lanes) * splat(factor, c.lanes), made)

    def scale(i: Expr, lanes: int) -> list[Stmt]:
        return [store(y, load(y, first + i, lanes) * splat(factor, lanes), first + i, lanes)]

    made.append(strips(c.count * c.lanes, c.lanes, scale))
    if c.last is not None:
        made.append(store(y, last, first + c.last, c.lanes))
    return made


def normalization(operator: Normalization, machine: Machine) -> Emission:
    """Return normalized rows: a mean, a variance around it, and the scaled differences with the epilogue."""
    x, *further, y = parameters = buffers(operator.ports)
    finish = Finish(machine, operator.epilogue, tuple(further), y)
    size = operator.size
    share = tirx.FloatImm("float32", 1.0 / size)

    def row(r: Expr) -> Stmt:
        made: list[Stmt] = []
        first = r * size
        mean = None
        if operator.centred:
            total = row_result(machine, size, lambda i, lanes, into: load(x, first + i, lanes), "add", made)
            mean = named(total * share, made)

        def difference(i: Expr, lanes: int, into: list[Stmt]) -> Expr:
            value = load(x, first + i, lanes)
            return named(value if mean is None else value - splat(mean, lanes), into)

        def square(i: Expr, lanes: int, into: list[Stmt]) -> Expr:
            value = difference(i, lanes, into)
            return value * value

        variance = row_result(machine, size, square, "add", made)
        functions = machine.functions(1, made)
        root = functions.root(variance * share + tirx.FloatImm("float32", operator.epsilon))
        factor = named(tirx.FloatImm("float32", 1.0) / root, made)

        def scaled(i: Expr, lanes: int) -> list[Stmt]:
            into: list[Stmt] = []
            value = difference(i, lanes, into) * splat(factor, lanes)
            return into + finish.store(value, Spot(first + i, first + i, i, r), lanes)

        made.append(strips(size, machine.lanes, scaled))
        return sequence(made)

    return Emission(parameters, over(operator.rows, row))
