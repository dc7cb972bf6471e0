"""Matrix products: with a constant weight, and of two activations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lrfdse.kernels.blocked import BlockedEmitter
from lrfdse.kernels.blocks import Blocks
from lrfdse.kernels.emit import Access, StepEmitter, dense, tiles
from lrfdse.kernels.layout import RESIDENT
from lrfdse.kernels.lines import gap
from lrfdse.kernels.operators.finish import Finish, Spot
from lrfdse.kernels.operators.machine import Emission, Machine, buffers, flat
from lrfdse.kernels.operators.runs import copied
from lrfdse.kernels.operators.tilings import tiling_of
from lrfdse.kernels.tir import Expr, Stmt, over, sequence

if TYPE_CHECKING:
    from lrfdse.ir.kernel import StepSchedule
    from lrfdse.ir.products import BatchedProduct, FullyConnected
    from lrfdse.kernels.layout import Tiling


@dataclass(frozen=True, slots=True)
class Dense:
    """Results of a step in an output of shape (batch, rows, columns)."""

    finish: Finish
    tiling: Tiling

    @property
    def groups(self) -> tuple[int, ...]:
        """Vectors that are finished as one, see `lrfdse.kernels.results.Finish`."""
        return self.finish.groups

    @property
    def places(self) -> int:
        """Places that are finished side by side, see `lrfdse.kernels.results.Finish`."""
        return self.finish.places

    def results(self, value: Expr, batch: Expr, row: Expr, column: Expr, lanes: int, stride: int) -> list[Stmt]:
        """Return the statements that finish and store a vector, see `lrfdse.kernels.results.Finish`."""
        return self.finish.store(value, self._spot(batch, row, column, stride), lanes)

    def together(
        self, values: Sequence[Expr], places: Sequence[tuple[Expr, Expr]], row: Expr, lanes: int
    ) -> list[Stmt]:
        """Return the statements that finish and store vectors of the same rows, see `lrfdse.kernels.results.Finish`."""
        return self.finish.store_all(values, [self._spot(batch, row, column, 1) for batch, column in places], lanes)

    def _spot(self, batch: Expr, row: Expr, column: Expr, stride: int) -> Spot:
        step = self.tiling.step
        index = (batch * step.out + row) * step.columns + column
        return Spot(index, index, row, batch, stride, self.tiling.schedule.axis == "columns")


@dataclass(frozen=True, slots=True)
class _Placed:
    """Results of matrix `number` of a batch."""

    finish: Finish
    operator: BatchedProduct
    number: Expr

    @property
    def groups(self) -> tuple[int, ...]:
        """Vectors that are finished as one, see `lrfdse.kernels.results.Finish`."""
        return self.finish.groups

    @property
    def places(self) -> int:
        """Places that are finished side by side, see `lrfdse.kernels.results.Finish`."""
        return self.finish.places

    def results(self, value: Expr, batch: Expr, row: Expr, column: Expr, lanes: int, stride: int) -> list[Stmt]:
        """Return the statements that finish and store a vector, see `lrfdse.kernels.results.Finish`."""
        return self.finish.store(value, self._spot(batch, row), lanes)

    def together(
        self, values: Sequence[Expr], places: Sequence[tuple[Expr, Expr]], row: Expr, lanes: int
    ) -> list[Stmt]:
        """Return the statements that finish and store vectors of the same rows, see `lrfdse.kernels.results.Finish`."""
        return self.finish.store_all(values, [self._spot(batch, row) for batch, _ in places], lanes)

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
    space = gap(tiling, machine.target, run)
    work = flat(step.batch * (run + space), "work") if space else None
    body = []
    if work is not None:
        # Rows that crowd in the cache are read from a copy with gaps between them.
        body.append(over(step.batch, lambda r: copied(x, r * run, work, r * (run + space), run, machine)))
    source = x if work is None else work
    emitter = StepEmitter(tiling, source, weight, Dense(finish, tiling), machine.instructions, dense(step, space))
    if schedule.inner_block:
        blocks = Blocks.of(tiling)
        work = flat(blocks.scratch, "work") if blocks.scratch else None
        return Emission(parameters, BlockedEmitter(blocks, lambda _: emitter, work).statement(), work)
    return Emission(parameters, sequence([*body, emitter.statement()]), work)


def batched(operator: BatchedProduct, schedule: StepSchedule, machine: Machine) -> Emission:
    """Return the products of a batch of two activations."""
    tiling = tiling_of(operator, schedule)
    left, right, *further, y = parameters = buffers(operator.ports)
    finish = Finish(machine, operator.epilogue, tuple(further), y)

    def one(number: Expr) -> StepEmitter:
        def data(_: tuple[Expr, ...], k: Expr, batch: Expr, column: Expr) -> Expr:
            return number * operator.left.batch + batch * operator.left.row + k

        def weight(k: Expr, row: Expr) -> Expr:
            return number * operator.right.batch + k * operator.right.row + row

        access = Access(data, weight)
        return StepEmitter(tiling, left, right, _Placed(finish, operator, number), machine.instructions, access)

    def matrix(number: Expr) -> Stmt:
        emitter = one(number)
        if operator.inner * operator.columns <= RESIDENT:
            return emitter.by_positions()
        return tiles(tiling.out, emitter.panel)

    return Emission(parameters, over(operator.batch, matrix))
