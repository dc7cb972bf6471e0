"""Resized images: tables of neighbours and fractions in scratch memory, and one loop over pixels that reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvm import tirx

from lrfdse.kernels.operators.machine import Emission, Machine, buffers, flat
from lrfdse.kernels.operators.runs import copied
from lrfdse.kernels.operators.strips import strips
from lrfdse.kernels.tir import Buffer, Expr, Stmt, kept, load, named, over, sequence, splat, store

if TYPE_CHECKING:
    from lrfdse.ir.operators import Interpolation

_FIELDS = 3
"""Numbers of a table's entry: low, high, fraction."""

_LONGEST_PERIOD = 16
"""Entries up to which a table's period is looked for. Chosen, not measured."""

Entry = tuple[int, int, float]
"""Low, high and fraction of an output position."""


def interpolation(operator: Interpolation, machine: Machine) -> Emission:
    """Return resized images, one pixel after the other, channels on the lanes."""
    x, y = parameters = buffers(operator.ports)
    rows, columns, channels = operator.rows, operator.columns, operator.channels
    work = flat(_FIELDS * (len(rows) + len(columns)), "work")
    made = [*_table(work, 0, rows), *_table(work, _FIELDS * len(rows), columns)]
    nearest = not any(fraction for _, _, fraction in (*rows, *columns))
    height, width = operator.image

    def number(index: Expr, into: list[Stmt]) -> Expr:
        return named(tirx.Cast("int32", load(work, index)), into)

    def pixel(image: Expr, r: Expr, c: Expr, lines: list[Expr], fraction: Expr) -> Stmt:
        inner: list[Stmt] = []
        at = _FIELDS * (len(rows) + c)
        places = [number(at + i, inner) for i in range(1 if nearest else 2)]
        target = ((image * len(rows) + r) * len(columns) + c) * channels
        corners = [[named((line + place) * channels, inner) for place in places] for line in lines]
        if nearest:
            inner.append(copied(x, corners[0][0], y, target, channels, machine))
            return sequence(inner)
        across = named(load(work, at + 2), inner)

        def finished(i: Expr, lanes: int) -> list[Stmt]:
            into: list[Stmt] = []

            def between(low: Expr, high: Expr, part: Expr) -> Expr:
                low = kept(low, into)
                return kept(machine.multiplied(splat(part, lanes), high - low, low, lanes), into)

            pair = [between(load(x, low + i, lanes), load(x, high + i, lanes), across) for low, high in corners]
            value = between(pair[0], pair[1], fraction)
            return [*into, store(y, value, target + i, lanes)]

        inner.append(strips(channels, machine.lanes, finished))
        return sequence(inner)

    def row(image: Expr, r: Expr) -> Stmt:
        inner: list[Stmt] = []
        lines = [
            named((image * height + number(_FIELDS * r + i, inner)) * width, inner) for i in range(1 if nearest else 2)
        ]
        fraction = named(load(work, _FIELDS * r + 2), inner)
        inner.append(over(len(columns), lambda c: pixel(image, r, c, lines, fraction)))
        return sequence(inner)

    made.append(over(operator.batch, lambda image: over(len(rows), lambda r: row(image, r))))
    return Emission(parameters, sequence(made), work)


def _table(work: Buffer, first: int, entries: tuple[Entry, ...]) -> list[Stmt]:
    """Return the statements that write a table: loops over its periods, and what stands around them one by one."""
    made: list[Stmt] = []
    start = 0
    while start < len(entries):
        period, count = _periods(entries[start:])
        step = entries[start + period][0] - entries[start][0] if count > 1 else 0

        def write(block: Expr, start: int = start, period: int = period, step: int = step) -> Stmt:
            stores = []
            for i, (low, high, fraction) in enumerate(entries[start : start + period]):
                at = first + _FIELDS * (start + i) + block * (_FIELDS * period)
                for field, value in enumerate((low, high)):
                    whole = tirx.IntImm("int32", value) + block * step
                    stores.append(store(work, tirx.Cast("float32", whole), at + field))
                stores.append(store(work, tirx.FloatImm("float32", fraction), at + 2))
            return sequence(stores)

        made.append(over(count, write))
        start += period * count
    return made


def _periods(entries: tuple[Entry, ...]) -> tuple[int, int]:
    """Return the period of what a table begins with and how many follow, such that they cover most.

    >>> _periods(((0, 1, 0.25), (0, 1, 0.75), (1, 2, 0.25), (1, 2, 0.75), (2, 2, 0.0)))
    (2, 2)
    """
    best = (1, 1)
    for period in range(1, min(_LONGEST_PERIOD, len(entries) // 2) + 1):
        step = entries[period][0] - entries[0][0]
        size = period
        while size < len(entries):
            low, high, fraction = entries[size - period]
            if entries[size] != (low + step, high + step, fraction):
                break
            size += 1
        if size // period > 1 and size // period * period > best[0] * best[1]:
            best = (period, size // period)
    return best
