"""Resized images: tables of neighbours and fractions, and one loop over pixels that reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lrfdse.kernels.operators.constants import Constants
from lrfdse.kernels.operators.machine import Emission, Machine, buffers
from lrfdse.kernels.operators.runs import copied
from lrfdse.kernels.operators.strips import strips
from lrfdse.kernels.tir import Expr, Stmt, kept, load, named, over, sequence, splat, store

if TYPE_CHECKING:
    from lrfdse.ir.operators import Interpolation


def interpolation(operator: Interpolation, machine: Machine, constants: Constants) -> Emission:
    """Return resized images, one pixel after the other, channels on the lanes."""
    x, y = parameters = buffers(operator.ports)
    rows, columns, channels = operator.rows, operator.columns, operator.channels
    nearest = not any(fraction for _, _, fraction in (*rows, *columns))
    height, width = operator.image
    sides = range(1 if nearest else 2)
    row_tables, column_tables = (
        [constants.table(np.array([entry[side] for entry in table], dtype=np.int32)) for side in sides]
        for table in (rows, columns)
    )
    row_parts, column_parts = (
        constants.table(np.array([entry[2] for entry in table], dtype=np.float32)) for table in (rows, columns)
    )

    def pixel(image: Expr, r: Expr, c: Expr, lines: list[Expr], fraction: Expr) -> Stmt:
        inner: list[Stmt] = []
        places = [named(load(table, c), inner) for table in column_tables]
        target = ((image * len(rows) + r) * len(columns) + c) * channels
        corners = [[named((line + place) * channels, inner) for place in places] for line in lines]
        if nearest:
            inner.append(copied(x, corners[0][0], y, target, channels, machine))
            return sequence(inner)
        across = named(load(column_parts, c), inner)

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
        lines = [named((image * height + load(table, r)) * width, inner) for table in row_tables]
        fraction = named(load(row_parts, r), inner)
        inner.append(over(len(columns), lambda c: pixel(image, r, c, lines, fraction)))
        return sequence(inner)

    return Emission(parameters, over(operator.batch, lambda image: over(len(rows), lambda r: row(image, r))))
