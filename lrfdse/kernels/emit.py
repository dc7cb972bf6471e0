"""One scheduled step as TIR: loops over register tiles, every tile unrolled, every vector access explicit.

The statements are already in the form that TVM's LLVM back end takes: flat buffers, `Ramp` accesses, one stack buffer
of one vector for each accumulator (LLVM promotes it to a register). No TIR pass rewrites them, so what a schedule
says is what runs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm import tirx

from lrfdse.ir.factorization import Step
from lrfdse.kernels.arithmetic import Arithmetic, Floats
from lrfdse.kernels.inner import InnerLoop, Operands
from lrfdse.kernels.instructions import Instructions
from lrfdse.kernels.layout import Span, Tiling
from lrfdse.kernels.results import Finish, Place, finished_apart, one_by_one
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
    splat,
    store,
    strided_load,
    strided_store,
    touch,
    zero,
)


@dataclass(frozen=True, slots=True)
class Epilogue:
    """What is done to the results of one step of a chain: scaled, a bias added, negative ones made zero."""

    step: Step
    output: Buffer
    bias: Buffer | None
    period: int
    """Positions along the batch axis after which the bias repeats: those of one row."""
    relu: bool
    scale: Buffer | None = None
    """What each of the step's outputs is multiplied by."""
    along_columns: bool = False
    """Whether a vector of results lies along the columns, so that all of it is of one output."""

    @property
    def apart(self) -> int:
        """None: results are finished in their registers, see `Finish`."""
        return 0

    def results(self, value: Expr, batch: Expr, row: Expr, column: Expr, lanes: int, stride: int) -> list[Stmt]:
        """Return the statements that finish and store a vector, see `Finish`."""
        rows, columns = self.step.out, self.step.columns
        index = (batch * rows + row) * columns + column
        bias = (self._bias_position(batch) * rows + row) * columns + column
        if self.scale is not None:
            factor = load(self.scale, row) if self.along_columns else load(self.scale, row, lanes)
            value = value * (splat(factor, lanes) if self.along_columns else factor)
        return [self.store(value, index, bias, lanes, stride)]

    def together(self, values: Sequence[Expr], places: Sequence[Place], lanes: int) -> list[Stmt]:
        """Return the statements that finish and store vectors side by side, see `Finish`."""
        return one_by_one(self, values, places, lanes)

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

    def _bias_position(self, position: Expr) -> Expr:
        """Return where along the bias a position along the batch axis falls."""
        if self.period == 1:
            return 0
        return position if self.period == self.step.batch else tirx.floormod(position, self.period)


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile along one axis inside its loop."""

    span: Span
    block: Expr

    @property
    def starts(self) -> list[Expr]:
        """First element of each vector."""
        first = self.span.start + self.block * self.span.stride
        if self.span.last is not None:
            first = tirx.Min(first, self.span.last)
        return [first + offset for offset in self.span.offsets]


def tiles(axis: tuple[Span, ...], body: Callable[[Tile], Stmt]) -> Stmt:
    """Return the loops over all tiles of an axis."""

    def loop(span: Span) -> Stmt:
        return over(span.count, lambda block: body(Tile(span, block)))

    return sequence([loop(span) for span in axis])


@dataclass(frozen=True, slots=True)
class Access:
    """Where a step's operands lie; positions are those along the step's axes.

    A long inner axis may consist of equal sections that lie apart, such as the rows of a convolution's window: loops
    over sections lie around the loop over one of them, and sums pass from one to the next.
    """

    data: Callable[[tuple[Expr, ...], Expr, Expr, Expr], Expr]
    """Index of an input by section, place in the section, and positions along batch and columns."""
    weight: Callable[[Expr, Expr], Expr] | None = None
    """Index of a weight by its place along inner axis and out axis; None where weights are packed in order of use."""
    sections: tuple[int, ...] = ()
    """How many sections there are, one factor a loop."""
    weights_before: Expr | None = None
    """Packed weights before those of this step; None where there are none."""
    touched: int = 0
    """Elements from one position along the batch axis to the next, where a tile's inputs are read from line to line
    before they are used; 0 where they are not.

    A tile reads its positions side by side. A core in order stops for the first line of each of them, unless a
    prefetcher has seen all that lies before it.
    """

    def touches(self, buffer: Buffer, first: tuple[Expr, ...], batch: Expr, count: int, inner: int, line: int) -> Stmt:
        """Return the statement that reads the inputs of `count` positions from line to line, one section after another.

        Parameters
        ----------
        buffer
            The inputs.
        first
            Numbers of sections before those of the loops in `sections`.
        batch
            The first position.
        count
            Positions that lie side by side.
        inner
            Elements of one position in each section.
        line
            Elements of a cache line.
        """

        def nest(numbers: tuple[Expr, ...]) -> Stmt:
            if len(numbers) < len(self.sections):
                return over(self.sections[len(numbers)], lambda number: nest((*numbers, number)))
            origin = self.data((*first, *numbers), 0, batch, 0)
            return touch(buffer, origin, (count - 1) * self.touched + inner, line)

        return nest(())


def passed(section: tuple[Expr, ...], sections: tuple[int, ...]) -> Expr:
    """Return how many sections lie before one, given its number and the count of each loop."""
    found: Expr = 0
    for number, count in zip(section, sections, strict=True):
        found = found * count + number
    return found


def dense(step: Step, gap: int = 0) -> Access:
    """Return the access of a step on dense arrays, with so many elements behind each position along the batch axis."""

    def data(_: tuple[Expr, ...], k: Expr, batch: Expr, column: Expr) -> Expr:
        return batch * (step.inner * step.columns + gap) + k * step.columns + column

    return Access(data)


@dataclass(frozen=True, slots=True)
class StepEmitter:
    """Emits one step: ``out[p, j, q] = sum_k weight[j, k] * data[p, k, q]``."""

    tiling: Tiling
    data: Buffer
    weight: Buffer
    finish: Finish
    instructions: Instructions
    access: Access
    arithmetic: Arithmetic | None = None
    """What is done to weights and data; None for products of floats."""

    @property
    def sums(self) -> Arithmetic:
        """What is done to weights and data."""
        return self.arithmetic or Floats(self.tiling.schedule, self.instructions, self.tiling.storage)

    def statement(self) -> Stmt:
        """Return the loops over all tiles."""
        t = self.tiling
        if t.by_positions:
            # All weight panels meet one group of positions after the other, so that outputs are written in order ...
            return self.by_positions()
        # ... unless the weights would leave the first cache level each time.
        return tiles(t.out, self.panel)

    def by_positions(self) -> Stmt:
        """Return the loops over all tiles, positions outside."""
        t = self.tiling
        return self._positions(lambda p, q: tiles(t.out, lambda j: self._tile(j, p, q)))

    def panel(self, j: Tile) -> Stmt:
        """Return the loops over all positions of one tile along the out axis."""
        return self._positions(lambda p, q: self._tile(j, p, q))

    def _positions(self, body: Callable[[Tile, Tile], Stmt]) -> Stmt:
        """Return the loops over tiles of positions."""
        t = self.tiling

        def touched(p: Tile) -> list[Stmt]:
            if not self.access.touched:
                return []
            inner = t.depth // math.prod(self.access.sections)
            count = len(p.span.offsets)
            return [self.access.touches(self.data, (), p.starts[0], count, inner, self.instructions.line)]

        return tiles(t.batch, lambda p: sequence([*touched(p), tiles(t.columns, lambda q: body(p, q))]))

    def _tile(self, j: Tile, p: Tile, q: Tile) -> Stmt:
        """Return the code of one register tile: zero, accumulate over the inner axis, store."""
        t, access = self.tiling, self.access
        axis, lanes = t.schedule.axis, t.schedule.lanes
        places = list(itertools.product(p.starts, q.starts))
        width = t.panel_width(j.span)
        panel = self.panel_at(j)
        length = t.depth // math.prod(access.sections)
        weight_lanes, data_lanes = (1 if axis == "columns" else lanes), (1 if axis == "out" else lanes)

        def operands(section: tuple[Expr, ...], iteration: Expr, k: Expr) -> Operands:
            if access.weight is None:
                at = panel + (passed(section, access.sections) * length + iteration) * width
                weights = [load(self.weight, at + i * weight_lanes, weight_lanes) for i in range(len(j.starts))]
            else:
                weights = [load(self.weight, access.weight(k, start), weight_lanes) for start in j.starts]
            origins = [access.data(section, k, batch, column) for batch, column in places]
            return Operands(weights, [load(self.data, origin, data_lanes) for origin in origins])

        loop = InnerLoop(
            t, self.instructions, self.sums, self.weight, len(j.starts), len(places), operands, access.sections
        )
        sums, statements = loop.sums()
        return sequence([*statements, *self.stores(sums, j, places)])

    def stores(self, sums: list[list[Expr]], out: Tile, places: Sequence[tuple[Expr, Expr]]) -> list[Stmt]:
        """Return the statements that store the accumulators of a tile.

        `out` is the tile along the out axis, `places` the positions along batch and columns.
        """
        schedule, made = self.tiling.schedule, list[Stmt]()
        rows, valid = out.starts, out.span.valid
        side_by_side = schedule.axis == "out" and self.tiling.step.columns == 1 and valid == schedule.lanes > 1
        if side_by_side and self.finish.apart:
            return finished_apart(self.finish, sums, out.starts, out.span.offsets, places[0][0], schedule.lanes)
        if side_by_side:
            values = [value for of_row in sums for value in of_row]
            at = [Place(batch, row, column, number) for number, row in enumerate(rows) for batch, column in places]
            return self.finish.together(values, at, schedule.lanes)
        for row, of_row in zip(rows, sums, strict=True):
            for value, (batch, column) in zip(of_row, places, strict=True):
                made += self.store(value, batch, row, column, valid)
        return made

    def panel_at(self, j: Tile) -> Expr:
        """Return where the packed weights of a tile along the out axis begin."""
        t = self.tiling
        before = itertools.takewhile(lambda other: other != j.span, t.out)
        panel = sum(s.count * t.depth * t.panel_width(s) for s in before)
        panel = panel + j.block * (t.depth * t.panel_width(j.span))
        return panel if self.access.weights_before is None else panel + self.access.weights_before

    def store(self, value: Expr, batch: Expr, row: Expr, column: Expr, valid: int) -> list[Stmt]:
        """Return the statements that store one accumulator, of whose lanes `valid` exist."""
        t = self.tiling
        axis, lanes, stride = t.schedule.axis, t.schedule.lanes, t.step.columns
        statements: list[Stmt] = []
        if axis == "inner":
            if self.instructions.reducing and self.instructions.ahead is not None:
                # The sum of a group takes longer than adding its registers first.
                one = named(
                    reduced(folded(value, lanes, statements, min(lanes, self.instructions.ahead.lanes))), statements
                )
            else:
                one = folded(value, lanes, statements)
            return [*statements, *self.finish.results(one, batch, row, column, 1, 1)]
        if lanes == 1 or axis == "columns" or (stride == 1 and valid == lanes):
            return self.finish.results(value, batch, row, column, lanes, 1)
        held = named(value, statements)
        if stride > 1 and self.instructions.strided:
            whole = held if valid == lanes else part(held, 0, valid)
            return [*statements, *self.finish.results(whole, batch, row, column, valid, stride)]
        for first, size in [(lane, 1) for lane in range(valid)] if stride > 1 else _pieces(valid):
            statements += self.finish.results(part(held, first, size), batch, row + first, column, size, 1)
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
