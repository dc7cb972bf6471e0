"""One scheduled step as TIR: loops over register tiles, every tile unrolled, every vector access explicit.

The statements are already in the form that TVM's LLVM back end takes: flat buffers, `Ramp` accesses, one stack buffer
of one vector for each accumulator (LLVM promotes it to a register). No TIR pass rewrites them, so what a schedule
says is what runs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx

from lrfdse.kernels.inner import InnerLoop, Instructions, Operands
from lrfdse.kernels.layout import Span, Tiling
from lrfdse.kernels.tir import (
    Buffer,
    Expr,
    Stmt,
    folded,
    load,
    named,
    over,
    part,
    reduced,
    sequence,
    store,
    strided_load,
    strided_store,
    zero,
)

_RESIDENT = 6 * 1024
"""Weights of a step (24 KiB) that stay in a first-level cache while the step runs, beside its other data.

Chosen, not measured: three quarters of the 32 KiB that all shipped targets have."""


@dataclass(frozen=True, slots=True)
class Epilogue:
    """What is done to a step's results, and the buffer that takes them."""

    output: Buffer
    bias: Buffer | None
    period: int
    """Positions along the batch axis after which the bias repeats: those of one row."""
    relu: bool

    def store(self, value: Expr, index: Expr, bias_index: Expr, lanes: int, stride: int = 1) -> Stmt:
        """Return the statement that finishes `value` and stores it from `index` on, every `stride` elements."""
        strided = stride > 1 and lanes > 1
        if self.bias is not None:
            bias = self.bias, bias_index
            value = value + (strided_load(*bias, stride, lanes) if strided else load(*bias, lanes))
        if self.relu:
            value = tirx.Max(value, zero(lanes))
        if strided:
            return strided_store(self.output, value, index, stride, lanes)
        return store(self.output, value, index, lanes)

    def bias_position(self, position: Expr, batch: int) -> Expr:
        """Return where along the bias a position along the batch axis falls."""
        if self.period == 1:
            return 0
        return position if self.period == batch else tirx.floormod(position, self.period)


@dataclass(frozen=True, slots=True)
class _Tile:
    """One tile along one axis inside its loop."""

    span: Span
    block: Expr

    @property
    def starts(self) -> list[Expr]:
        """First element of each vector."""
        return [self.span.start + self.block * self.span.stride + offset for offset in self.span.offsets]


def _tiles(axis: tuple[Span, ...], body: Callable[[_Tile], Stmt]) -> Stmt:
    """Return the loops over all tiles of an axis."""

    def loop(span: Span) -> Stmt:
        return over(span.count, lambda block: body(_Tile(span, block)))

    return sequence([loop(span) for span in axis])


@dataclass(frozen=True, slots=True)
class StepEmitter:
    """Emits one step: ``out[p, j, q] = sum_k weight[j, k] * data[p, k, q]``."""

    tiling: Tiling
    data: Buffer
    weight: Buffer
    epilogue: Epilogue
    instructions: Instructions

    def statement(self) -> Stmt:
        """Return the loops over all tiles."""
        t = self.tiling
        if t.schedule.axis == "columns" or t.weight_size <= _RESIDENT:
            # All weight panels meet one group of positions after the other, so that outputs are written in order ...
            return _tiles(t.batch, lambda p: _tiles(t.columns, lambda q: _tiles(t.out, lambda j: self._tile(j, p, q))))
        # ... unless the weights would leave the first cache level each time.
        return _tiles(t.out, lambda j: _tiles(t.batch, lambda p: _tiles(t.columns, lambda q: self._tile(j, p, q))))

    def _tile(self, j: _Tile, p: _Tile, q: _Tile) -> Stmt:
        """Return the code of one register tile: zero, accumulate over the inner axis, store."""
        t = self.tiling
        step, axis, lanes = t.step, t.schedule.axis, t.schedule.lanes
        places = list(itertools.product(p.starts, q.starts))
        width = t.panel_width(j.span)
        panel = self._panels_before(j.span) + j.block * (t.depth * width)
        weight_lanes, data_lanes = (1 if axis == "columns" else lanes), (1 if axis == "out" else lanes)

        def operands(iteration: Expr, k: Expr) -> Operands:
            at = panel + iteration * width
            weights = [load(self.weight, at + i * weight_lanes, weight_lanes) for i in range(len(j.starts))]
            origins = [batch * (step.inner * step.columns) + k * step.columns + column for batch, column in places]
            return Operands(weights, [load(self.data, origin, data_lanes) for origin in origins])

        loop = InnerLoop(t, self.instructions, self.weight, len(j.starts), len(places), operands)
        sums, statements = loop.sums()
        for (i, row), (c, (batch, column)) in itertools.product(enumerate(j.starts), enumerate(places)):
            index = (batch * step.out + row) * step.columns + column
            bias = (self.epilogue.bias_position(batch, step.batch) * step.out + row) * step.columns + column
            statements += self._store(sums[i][c], index, bias, j.span.valid)
        return sequence(statements)

    def _panels_before(self, span: Span) -> int:
        """Return the weights packed before those of `span`."""
        before = itertools.takewhile(lambda other: other != span, self.tiling.out)
        return sum(s.count * self.tiling.depth * self.tiling.panel_width(s) for s in before)

    def _store(self, value: Expr, index: Expr, bias: Expr, valid: int) -> list[Stmt]:
        """Return the statements that store one accumulator, of whose lanes `valid` exist."""
        t = self.tiling
        axis, lanes = t.schedule.axis, t.schedule.lanes
        statements: list[Stmt] = []
        if axis == "inner":
            if self.instructions.reducing and self.instructions.ahead is not None:
                # The sum of a group takes longer than adding its registers first.
                one = named(
                    reduced(folded(value, lanes, statements, min(lanes, self.instructions.ahead.lanes))), statements
                )
            else:
                one = folded(value, lanes, statements)
            return [*statements, self.epilogue.store(one, index, bias, 1)]
        if lanes == 1 or axis == "columns" or (t.step.columns == 1 and valid == lanes):
            return [self.epilogue.store(value, index, bias, lanes)]
        held = named(value, statements)
        stride = t.step.columns
        if stride > 1 and self.instructions.strided:
            whole = held if valid == lanes else part(held, 0, valid)
            return [*statements, self.epilogue.store(whole, index, bias, valid, stride)]
        for first, size in [(lane, 1) for lane in range(valid)] if stride > 1 else _pieces(valid):
            at = first * stride
            statements.append(self.epilogue.store(part(held, first, size), index + at, bias + at, size))
        return statements


def _pieces(size: int) -> list[tuple[int, int]]:
    """Split `size` elements into powers of two: (first, size) of each.

    >>> _pieces(5)
    [(0, 4), (4, 1)]
    """
    pieces = []
    first = 0
    while first < size:
        piece = 1 << ((size - first).bit_length() - 1)
        pieces.append((first, piece))
        first += piece
    return pieces
