"""Matrix products: with a constant weight, and of two activations."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lrfdse.ir.epilogue import NO_EPILOGUE
from lrfdse.ir.storage import FLOAT32
from lrfdse.kernels.blocked import BlockedEmitter
from lrfdse.kernels.blocks import Blocks
from lrfdse.kernels.emit import Access, StepEmitter, Tile, dense, tiles
from lrfdse.kernels.layout import RESIDENT
from lrfdse.kernels.lines import are_touched, gap, rows_crowd
from lrfdse.kernels.operators.finish import Finish, Spot
from lrfdse.kernels.operators.machine import Emission, Machine, buffers, flat
from lrfdse.kernels.operators.runs import copied
from lrfdse.kernels.operators.strips import strips
from lrfdse.kernels.operators.tilings import tiling_of
from lrfdse.kernels.results import Place
from lrfdse.kernels.tir import Expr, Stmt, load, over, parted, sequence, store

if TYPE_CHECKING:
    from lrfdse.ir.factorization import Step
    from lrfdse.ir.kernel import StepSchedule
    from lrfdse.ir.products import BatchedProduct, FullyConnected
    from lrfdse.kernels.layout import Tiling


_PACKED_FROM = 4
"""Tiles of positions that meet a right matrix from which it is copied where its rows crowd. Chosen, not measured."""


@dataclass(frozen=True, slots=True)
class Dense:
    """Results of a step in an output of shape (batch, rows, columns)."""

    finish: Finish
    tiling: Tiling

    @property
    def apart(self) -> int:
        """Vectors that are finished side by side, see `lrfdse.kernels.results.Finish`."""
        return self.finish.apart

    def results(self, value: Expr, batch: Expr, row: Expr, column: Expr, lanes: int, stride: int) -> list[Stmt]:
        """Return the statements that finish and store a vector, see `lrfdse.kernels.results.Finish`."""
        return self.finish.store(value, self._spot(batch, row, column, stride), lanes)

    def together(self, values: Sequence[Expr], places: Sequence[Place], lanes: int) -> list[Stmt]:
        """Return the statements that finish and store vectors side by side, see `lrfdse.kernels.results.Finish`."""
        return self.finish.store_all(
            values, [self._spot(p.batch, p.row, p.column, 1) for p in places], [p.vector for p in places], lanes
        )

    def _spot(self, batch: Expr, row: Expr, column: Expr, stride: int) -> Spot:
        step = self.tiling.step
        varying, constant = parted(batch)
        index = (varying * step.out + row) * step.columns + column + constant * (step.out * step.columns)
        return Spot(index, index, row, batch, stride, self.tiling.schedule.axis == "columns")


@dataclass(frozen=True, slots=True)
class _Placed:
    """Results of matrix `number` of a batch."""

    finish: Finish
    operator: BatchedProduct
    number: Expr

    @property
    def apart(self) -> int:
        """Vectors that are finished side by side, see `lrfdse.kernels.results.Finish`."""
        return self.finish.apart

    def results(self, value: Expr, batch: Expr, row: Expr, column: Expr, lanes: int, stride: int) -> list[Stmt]:
        """Return the statements that finish and store a vector, see `lrfdse.kernels.results.Finish`."""
        return self.finish.store(value, self._spot(batch, row), lanes)

    def together(self, values: Sequence[Expr], places: Sequence[Place], lanes: int) -> list[Stmt]:
        """Return the statements that finish and store vectors side by side, see `lrfdse.kernels.results.Finish`."""
        return self.finish.store_all(
            values, [self._spot(p.batch, p.row) for p in places], [p.vector for p in places], lanes
        )

    def _spot(self, batch: Expr, row: Expr) -> Spot:
        o = self.operator
        index = self.number * o.result.batch + batch * o.result.row + row
        line = self.number * o.rows + batch
        return Spot(index, line * o.columns + row, row, line)


def fully_connected(operator: FullyConnected, schedule: StepSchedule, machine: Machine) -> Emission:
    """Return a product with a constant weight."""
    tiling = tiling_of(operator, schedule)
    x, weight, *further, y = parameters = buffers(operator.ports, tiling.weight_size)
    finish = Finish(machine, operator.epilogue, tuple(further), y)
    step = operator.step
    run = step.inner * step.columns
    after = []
    if _is_finished_late(operator, tiling, machine):
        after = [_finished_rows(finish, step, machine)]
        finish = dataclasses.replace(finish, epilogue=NO_EPILOGUE, further=())
    space = gap(tiling, machine.target, run)
    work = flat(step.batch * (run + space), "work") if space else None
    body = []
    if work is not None:
        # Rows that crowd in the cache are read from a copy with gaps between them.
        body.append(over(step.batch, lambda r: copied(x, r * run, work, r * (run + space), run, machine)))
    source = x if work is None else work
    access = dense(step, space)
    if are_touched(tiling, machine.target, step.input_size):
        access = dataclasses.replace(access, touched=run + space)
    emitter = StepEmitter(tiling, source, weight, Dense(finish, tiling), machine.instructions, access)
    if schedule.inner_block:
        blocks = Blocks.of(tiling)
        work = flat(blocks.scratch, "work") if blocks.scratch else None
        blocked = BlockedEmitter(blocks, lambda _: emitter, work).statement()
        return Emission(parameters, sequence([blocked, *after]), work)
    return Emission(parameters, sequence([*body, emitter.statement(), *after]), work)


def _is_finished_late(operator: FullyConnected, tiling: Tiling, machine: Machine) -> bool:
    """Return whether results are finished row by row when all of them are there.

    Where all positions pass by one panel after the other, an epilogue reads a few elements of each row of a further
    input of the size of the results, and a core in order waits for each: no prefetcher sees the next row coming.
    """
    target, step = machine.target, operator.step
    reads = "same" in operator.epilogue.sources and step.columns == 1
    passes = step.batch > 1 and (tiling.schedule.inner_block > 0 or not tiling.by_positions)
    far = FLOAT32.bytes_of(step.output_size) > 1024 * target.l1.kib
    return reads and passes and far and target.in_order and step.out % target.lanes == 0


def _finished_rows(finish: Finish, step: Step, machine: Machine) -> Stmt:
    """Return the loops that finish what a product has stored, in the order in which it lies."""
    target = machine.target
    lanes = max(n * target.lanes for n in target.groups if step.out % (n * target.lanes) == 0)

    def row(r: Expr) -> Stmt:
        def strip(i: Expr, width: int) -> list[Stmt]:
            index = r * step.out + i
            return finish.store(load(finish.output, index, width), Spot(index, index, i, r), width)

        return strips(step.out, lanes, strip)

    return over(step.batch, row)


def batched(operator: BatchedProduct, schedule: StepSchedule, machine: Machine) -> Emission:
    """Return the products of a batch of two activations."""
    tiling = tiling_of(operator, schedule)
    left, right, *further, y = parameters = buffers(operator.ports)
    finish = Finish(machine, operator.epilogue, tuple(further), y)
    work = flat(tiling.weight_size, "work") if _packs(operator, tiling, machine) else None

    def weight(number: Expr, k: Expr, row: Expr) -> Expr:
        return number * operator.right.batch + k * operator.right.row + row

    def one(number: Expr) -> StepEmitter:
        def data(_: tuple[Expr, ...], k: Expr, batch: Expr, column: Expr) -> Expr:
            return number * operator.left.batch + batch * operator.left.row + k

        placed = _Placed(finish, operator, number)
        if work is not None:
            return StepEmitter(tiling, left, work, placed, machine.instructions, Access(data))
        access = Access(data, lambda k, row: weight(number, k, row))
        return StepEmitter(tiling, left, right, placed, machine.instructions, access)

    def packed(number: Expr, emitter: StepEmitter, out: Tile) -> Stmt:
        lanes, width, first = tiling.schedule.lanes, tiling.panel_width(out.span), emitter.panel_at(out)

        def row(k: Expr) -> Stmt:
            return sequence(
                [
                    store(work, load(right, weight(number, k, start), lanes), first + k * width + i * lanes, lanes)
                    for i, start in enumerate(out.starts)
                ]
            )

        return over(operator.inner, row)

    def matrix(number: Expr) -> Stmt:
        emitter = one(number)
        made = [tiles(tiling.out, lambda out: packed(number, emitter, out))] if work is not None else []
        if operator.inner * operator.columns <= RESIDENT:
            return sequence([*made, emitter.by_positions()])
        return sequence([*made, tiles(tiling.out, emitter.panel)])

    return Emission(parameters, over(operator.batch, matrix), work)


def _packs(operator: BatchedProduct, tiling: Tiling, machine: Machine) -> bool:
    """Return whether right matrices are copied in the order of use.

    It is so where their rows drive each other out of the first cache level: an in-order core would stop for them at
    every tile of positions.
    """
    tiles_met = sum(span.count for span in tiling.batch)
    crowded = rows_crowd(operator.inner, operator.right.row, machine.target)
    return machine.target.in_order and tiles_met >= _PACKED_FROM and crowded
