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
    sequence,
    splat,
    store,
    total,
    vector_type,
    zero,
)

_RESIDENT = 6 * 1024
"""Weights of a step (24 KiB) that stay in a first-level cache while the step runs, beside its other data."""


@dataclass(frozen=True, slots=True)
class Epilogue:
    """Where a step's results go and what is done to them on the way."""

    output: Buffer
    bias: Buffer | None
    period: int
    """Positions along the batch axis after which the bias repeats: those of one row."""
    relu: bool

    def store(self, value: Expr, index: Expr, bias_index: Expr, lanes: int) -> Stmt:
        """Return the statement that finishes `value` and stores it from `index` on."""
        if self.bias is not None:
            value = value + load(self.bias, bias_index, lanes)
        if self.relu:
            value = tirx.Max(value, zero(lanes))
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
    explicit_fma: bool
    """Whether an FMA must be asked for: LLVM does not fuse on 32-bit ARM by itself."""

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

        def operands(iteration: Expr, k: Expr) -> tuple[list[Expr], list[Expr]]:
            at = panel + iteration * width
            weights = [load(self.weight, at + i * weight_lanes, weight_lanes) for i in range(len(j.starts))]
            origins = [batch * (step.inner * step.columns) + k * step.columns + column for batch, column in places]
            return weights, [load(self.data, origin, data_lanes) for origin in origins]

        sums, statements = self._accumulate(len(j.starts), len(places), operands)
        for (i, row), (c, (batch, column)) in itertools.product(enumerate(j.starts), enumerate(places)):
            index = (batch * step.out + row) * step.columns + column
            bias = (self.epilogue.bias_position(batch, step.batch) * step.out + row) * step.columns + column
            statements += self._store(sums[i][c], index, bias, j.span.valid)
        return sequence(statements)

    def _panels_before(self, span: Span) -> int:
        """Return the weights packed before those of `span`."""
        before = itertools.takewhile(lambda other: other != span, self.tiling.out)
        return sum(s.count * self.tiling.depth * self.tiling.panel_width(s) for s in before)

    def _accumulate(
        self, rows: int, columns: int, operands: Callable[[Expr, Expr], tuple[list[Expr], list[Expr]]]
    ) -> tuple[list[list[Expr]], list[Stmt]]:
        """Return the sums over the inner axis, and the statements that compute them."""
        t = self.tiling
        lanes, unroll = t.schedule.lanes, t.schedule.unroll
        sets = [
            [[tirx.decl_buffer((1,), vector_type(lanes), name="acc") for _ in range(columns)] for _ in range(rows)]
            for _ in range(min(t.chains, t.depth))
        ]
        buffers = [buffer for chain in sets for row in chain for buffer in row]
        statements = [tirx.AllocBuffer(b) for b in buffers] + [store(b, zero(lanes), 0) for b in buffers]

        def loop(span: Span, done: int, first: int, count: int, width: int) -> Stmt:
            def body(block: Expr) -> Stmt:
                made: list[Stmt] = []
                for u in range(width):
                    number = first + block * width + u
                    k = span.start + number * span.stride + span.offsets[0]
                    made += self._iteration(sets[u % len(sets)], *operands(done + number, k))
                return sequence(made)

            return over(count, body)

        done = 0
        for span in t.inner:
            bodies, rest = divmod(span.count, unroll)
            if bodies:
                statements.append(loop(span, done, 0, bodies, unroll))
            if rest:
                statements.append(loop(span, done, bodies * unroll, rest, 1))
            done += span.count
        sums = [[total([load(chain[i][c], 0) for chain in sets]) for c in range(columns)] for i in range(rows)]
        return sums, statements

    def _iteration(self, sums: list[list[Buffer]], weights: list[Expr], data: list[Expr]) -> list[Stmt]:
        """Return one iteration of the inner loop: the outer product of weights and data added to the sums."""
        axis, lanes = self.tiling.schedule.axis, self.tiling.schedule.lanes
        weight_spread, data_spread = (lanes if axis == "columns" else 1), (lanes if axis == "out" else 1)
        statements: list[Stmt] = []

        def update(i: int, c: int, left: Expr, right: Expr) -> None:
            before = load(sums[i][c], 0)
            if self.explicit_fma:
                after = tirx.call_llvm_pure_intrin(vector_type(lanes), "llvm.fma", left, right, before)
            else:
                after = before + left * right
            statements.append(store(sums[i][c], after, 0))

        # The shorter side stays in registers, the longer passes by one operand at a time.
        if len(weights) <= len(data):
            held = [splat(named(w, statements), weight_spread) for w in weights]
            for c, value in enumerate(data):
                passing = splat(named(value, statements), data_spread)
                for i, w in enumerate(held):
                    update(i, c, w, passing)
        else:
            held = [splat(named(d, statements), data_spread) for d in data]
            for i, value in enumerate(weights):
                passing = splat(named(value, statements), weight_spread)
                for c, d in enumerate(held):
                    update(i, c, passing, d)
        return statements

    def _store(self, value: Expr, index: Expr, bias: Expr, valid: int) -> list[Stmt]:
        """Return the statements that store one accumulator, of whose lanes `valid` exist."""
        t = self.tiling
        axis, lanes = t.schedule.axis, t.schedule.lanes
        statements: list[Stmt] = []
        if axis == "inner":
            one = folded(value, lanes, statements)
            return [*statements, self.epilogue.store(one, index, bias, 1)]
        if lanes == 1 or axis == "columns" or (t.step.columns == 1 and valid == lanes):
            return [self.epilogue.store(value, index, bias, lanes)]
        held = named(value, statements)
        stride = t.step.columns
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
