"""Transposed convolutions: every output is computed once from the inputs that meet in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lrfdse.ir.window import Window
from lrfdse.kernels.emit import Access, StepEmitter, tiles
from lrfdse.kernels.layout import RESIDENT, Tiling
from lrfdse.kernels.operators.border import Border, bordered
from lrfdse.kernels.operators.convolution import Part, over_windows
from lrfdse.kernels.operators.finish import Finish, Spot
from lrfdse.kernels.operators.machine import Emission, Machine, buffers
from lrfdse.kernels.operators.neighbours import merged
from lrfdse.kernels.operators.phases import Phases, phases, reach
from lrfdse.kernels.operators.strips import strips
from lrfdse.kernels.operators.tilings import tiling_of
from lrfdse.kernels.results import Place
from lrfdse.kernels.tir import Buffer, Expr, Stmt, over, parted, sequence, zero

if TYPE_CHECKING:
    from lrfdse.ir.kernel import StepSchedule
    from lrfdse.ir.products import Convolution, TransposedConvolution


@dataclass(frozen=True, slots=True)
class _Phase:
    """Results of one row of outputs of a phase."""

    finish: Finish
    first: Expr
    """The pixel of its first output."""
    stride: int
    outputs: int

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
        pixel = self.first + batch * self.stride
        varying, constant = parted(batch)
        further = self.stride * self.outputs
        index = self.first * self.outputs + varying * further + row + constant * further
        return Spot(index, index, row, pixel)


def transposed(operator: TransposedConvolution, schedule: StepSchedule, machine: Machine) -> Emission:
    """Return a transposed convolution."""
    w = operator.window
    together = merged(operator, machine.target)
    if together is not None:
        return _merged(operator, together, schedule, machine)
    found = list(phases(w))
    size = sum(p.rows.count * p.columns.count * _tiling(operator, p, schedule).weight_size for p in found if p.taps)
    x, weight, *further, y = parameters = buffers(operator.ports, size)
    finish = Finish(machine, operator.epilogue, tuple(further), y)
    (top, bottom), (left, right) = reach(w, 0), reach(w, 1)
    around = Window(w.batch, w.out, (1, 1), pads=(top, left, bottom, right))
    border = bordered(x, around, operator.channels, machine)
    made = list(border.statements)
    before = 0
    for each in found:
        emitter = _PhaseEmitter(machine, operator, each, schedule, border.buffer, weight, finish, border.image, before)
        if each.taps:
            made.append(emitter.statement((top, left)))
            before += each.rows.count * each.columns.count * emitter.tiling.weight_size
        else:
            made.append(emitter.nothing())
    return Emission(parameters, sequence(made), border.work)


def _merged(operator: TransposedConvolution, wide: Convolution, schedule: StepSchedule, machine: Machine) -> Emission:
    """Return a transposed convolution whose row of the kernel makes a row of outputs, see `merged`."""
    rows, tiling = operator.window.strides[0], tiling_of(wide, schedule)
    x, weight, *further, y = parameters = buffers(operator.ports, rows * tiling.weight_size)
    finish = Finish(machine, wide.epilogue, tuple(further), y)
    line = operator.window.image[1] * operator.outputs

    def row(number: Expr) -> Stmt:
        part = Part(rows * line, 0, number * line, number * tiling.weight_size)
        return over_windows(wide, tiling, Border(x, wide.window.image, [], None), weight, finish, machine, part=part)

    return Emission(parameters, over(rows, row))


def _tiling(operator: TransposedConvolution, each: Phases, schedule: StepSchedule) -> Tiling:
    return Tiling.of(each.step(operator), schedule)


@dataclass(frozen=True, slots=True)
class _PhaseEmitter:
    """Emits the outputs of equal phases."""

    machine: Machine
    operator: TransposedConvolution
    phases: Phases
    schedule: StepSchedule
    x: Buffer
    weight: Buffer
    finish: Finish
    image: tuple[int, int]
    """Height and width of `x`, padding included."""
    before: int
    """Packed weights of the phases before."""

    @property
    def tiling(self) -> Tiling:
        """Tiles of one row of outputs."""
        return _tiling(self.operator, self.phases, self.schedule)

    def statement(self, pads: tuple[int, int]) -> Stmt:
        """Return the loops over phases, rows and tiles; `pads` lie before the image."""
        o, p, tiling = self.operator, self.phases, self.tiling
        rows, columns, channels, width = p.rows, p.columns, o.channels, self.image[1]
        loops = [(rows.taps, rows.distance * width * channels)]
        if columns.distance != 1:
            loops.append((columns.taps, columns.distance * channels))
        loops = [(count, distance) for count, distance in loops if count > 1]

        def emitter(image: Expr, i: Expr, j: Expr, r: Expr) -> StepEmitter:
            line = (image * self.image[0] + r + (rows.origin + pads[0])) * width + (columns.origin + pads[1])

            def data(section: tuple[Expr, ...], k: Expr, batch: Expr, column: Expr) -> Expr:
                varying, constant = parted(batch)
                index = (line + varying) * channels + k
                for number, (_, distance) in zip(section, loops, strict=True):
                    index = index + number * distance
                return index + constant * channels

            start = self.before + (i * columns.count + j) * tiling.weight_size
            access = Access(data, None, tuple(count for count, _ in loops), start)
            return StepEmitter(
                tiling, self.x, self.weight, self._row(image, i, j, r), self.machine.instructions, access
            )

        def lines(i: Expr, j: Expr) -> Stmt:
            if tiling.weight_size <= RESIDENT:
                return self._rows(lambda image, r: emitter(image, i, j, r).by_positions())
            return tiles(tiling.out, lambda out: self._rows(lambda image, r: emitter(image, i, j, r).panel(out)))

        return over(rows.count, lambda i: over(columns.count, lambda j: lines(i, j)))

    def nothing(self) -> Stmt:
        """Return the loops over outputs that no input meets."""
        rows, columns, outputs = self.phases.rows, self.phases.columns, self.operator.outputs

        def pixels(i: Expr, j: Expr) -> Stmt:
            def pixel(image: Expr, r: Expr, c: Expr) -> Stmt:
                row = self._row(image, i, j, r)
                return strips(outputs, self.machine.lanes, lambda k, lanes: row.results(zero(lanes), c, k, 0, lanes, 1))

            return self._rows(lambda image, r: over(columns.outputs, lambda c: pixel(image, r, c)))

        return over(rows.count, lambda i: over(columns.count, lambda j: pixels(i, j)))

    def _rows(self, body: Callable[[Expr, Expr], Stmt]) -> Stmt:
        rows = self.phases.rows.outputs
        return over(self.operator.window.batch, lambda image: over(rows, lambda r: body(image, r)))

    def _row(self, image: Expr, i: Expr, j: Expr, r: Expr) -> _Phase:
        w, p = self.operator.window, self.phases
        line = image * w.image[0] + p.rows.first + i + r * w.strides[0]
        first = line * w.image[1] + p.columns.first + j
        return _Phase(self.finish, first, w.strides[1], self.operator.outputs)
