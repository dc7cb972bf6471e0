"""Convolutions as products over windows, whose addresses follow the rows of the image or of a copy of it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from tvm import tirx

from lrfdse.kernels.blocked import BlockedEmitter
from lrfdse.kernels.blocks import Blocks
from lrfdse.kernels.emit import Access, StepEmitter, tiles
from lrfdse.kernels.layout import cover
from lrfdse.kernels.lines import are_touched, panels_inside
from lrfdse.kernels.operators.border import Border, bordered, planes
from lrfdse.kernels.operators.finish import Finish, Spot
from lrfdse.kernels.operators.machine import Emission, Machine, buffers
from lrfdse.kernels.operators.neighbours import columns_left, period, widened
from lrfdse.kernels.operators.tilings import block_channels, is_flat, runs_of, sections_of, tiling_of
from lrfdse.kernels.results import Place
from lrfdse.kernels.tir import Buffer, Expr, Stmt, over, parted, sequence

if TYPE_CHECKING:
    from lrfdse.ir.kernel import StepSchedule
    from lrfdse.ir.products import Convolution
    from lrfdse.kernels.arithmetic import Arithmetic
    from lrfdse.kernels.layout import Tiling


@dataclass(frozen=True, slots=True)
class _Row:
    """Results of one row of output pixels, of the channels of one group."""

    finish: Finish
    first: Expr
    """Its first pixel."""
    outputs: int
    channels_before: Expr
    """Output channels of the groups before."""
    start: Expr | None = None
    """Its first element, where that does not follow from its first pixel."""
    period: int = 0
    """Channels after which what an epilogue reads of each repeats; 0 where it does not."""

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
        pixel = self.first + batch
        channel = self.channels_before + row
        varying, constant = parted(batch)
        start = self.first * self.outputs if self.start is None else self.start
        index = start + varying * self.outputs + channel + constant * self.outputs
        return Spot(index, index, tirx.floormod(channel, self.period) if self.period else channel, pixel)


def convolution(operator: Convolution, schedule: StepSchedule, machine: Machine) -> Emission:
    """Return a convolution, grouped or not, dilated or not."""
    wide = widened(operator, machine.target)
    tiling = tiling_of(wide, schedule)
    x, weight, *further, y = parameters = buffers(operator.ports, operator.groups * tiling.weight_size)
    finish = Finish(machine, wide.epilogue, tuple(further), y)
    if schedule.inner_block:
        body, work = _in_blocks(wide, tiling, x, weight, finish, machine, period(operator, machine.target))
        return Emission(parameters, body, work)
    border = bordered(x, operator.window, operator.channels, machine)
    made, repeats = [*border.statements], period(operator, machine.target)
    if columns_left(operator, machine.target):
        made += _uneven(operator, wide, tiling, border, weight, finish, machine)
    else:
        made.append(over_windows(wide, tiling, border, weight, finish, machine, repeats=repeats))
    return Emission(parameters, sequence(made), border.work)


def _uneven(
    operator: Convolution,
    wide: Convolution,
    tiling: Tiling,
    border: Border,
    weight: Buffer,
    finish: Finish,
    machine: Machine,
) -> list[Stmt]:
    """Return the loops of a convolution whose columns are no multiple of those of a group: the last group overlaps."""
    w, line = operator.window, operator.window.out[1] * operator.outputs
    last = w.out[1] - wide.outputs // operator.outputs
    one = dataclasses.replace(tiling, step=dataclasses.replace(tiling.step, batch=1), batch=cover(1, 1, 1))
    parts = (
        (tiling, Part(line, 0, 0)),
        (one, Part(line, last * w.strides[1] * operator.channels, last * operator.outputs)),
    )
    return [
        over_windows(wide, each, border, weight, finish, machine, part=part, repeats=period(operator, machine.target))
        for each, part in parts
    ]


@dataclass(frozen=True, slots=True)
class Part:
    """Some output columns of all rows; in elements."""

    line: int
    """Outputs from one row to the next."""
    inputs: int
    """Where the first window begins along a row of the image."""
    outputs: Expr
    """Where the first output lies along its row."""
    weights: Expr | None = None
    """Packed weights before those of this part; None where there are none."""


def _in_blocks(
    operator: Convolution,
    tiling: Tiling,
    x: Buffer,
    weight: Buffer,
    finish: Finish,
    machine: Machine,
    repeats: int,
) -> tuple[Stmt, Buffer]:
    """Return a convolution block by block of channels, and the scratch memory that it takes.

    A copy of the image holds one block after the other, and the columns that a row of a window meets side by side. So
    all taps of a part read a few rows of memory as they lie, most of which the positions before have brought into the
    first cache level.
    """
    w, groups, channels = operator.window, operator.groups, operator.channels
    size = block_channels(operator, tiling.schedule)
    blocks = Blocks.of(tiling, runs_of(operator))
    apart = w.dilations[1] if w.kernel[1] > 1 else 1
    copy = planes(x, w, channels, size, machine, images=w.batch, apart=apart, further=blocks.scratch)
    line, rows = copy.image[1] * size, w.out[0]
    plane = copy.image[0] * line
    distances = plane, w.dilations[0] * line

    def emitter(number: Expr, group: Expr) -> StepEmitter:
        before = number // rows * channels + group * (channels // groups)
        first = before // size * plane + number % rows * (w.strides[0] * line)

        def data(section: tuple[Expr, ...], k: Expr, batch: Expr, column: Expr) -> Expr:
            varying, constant = parted(batch) if apart == 1 else (batch, 0)
            index = first + copy.place(varying * w.strides[1]) * size + k
            for place, distance in zip(section, distances[: len(section)], strict=True):
                index = index + place * distance
            return index + constant * (w.strides[1] * size)

        made = operator.outputs // groups
        row = _Row(finish, number * w.out[1], operator.outputs, group * made, None, repeats)
        before_weights = None if groups == 1 else group * tiling.weight_size
        far = w.strides[1] * size if apart == 1 and are_touched(tiling, machine.target, copy.room) else 0
        access = Access(data, None, blocks.sections, before_weights, far)
        return StepEmitter(tiling, copy.buffer, weight, row, machine.instructions, access)

    def group(number: Expr) -> Stmt:
        return BlockedEmitter(blocks, partial(emitter, group=number), copy.buffer, copy.room).statement()

    return sequence([over(w.batch, copy.copy), over(groups, group)]), copy.buffer


def over_windows(
    operator: Convolution,
    tiling: Tiling,
    border: Border,
    weight: Buffer,
    finish: Finish,
    machine: Machine,
    *,
    arithmetic: Arithmetic | None = None,
    part: Part | None = None,
    repeats: int = 0,
) -> Stmt:
    """Return the loops over all windows of images that have their padding around them.

    Parameters
    ----------
    operator
        The convolution.
    tiling
        That of its step.
    border
        The images.
    weight
        The packed weights of all groups.
    finish
        Stores the results.
    machine
        What it is emitted for.
    arithmetic
        What is done to weights and data; None for products of floats.
    part
        The columns that `tiling` covers; None for all, side by side.
    repeats
        Channels after which what the epilogue reads of each repeats; 0 where it does not.
    """
    w, groups = operator.window, operator.groups
    each, made = operator.channels // groups, operator.outputs // groups
    sections, span = sections_of(operator)
    rows, columns = (1, w.batch * math.prod(w.out)) if is_flat(operator) else w.out
    images = 1 if is_flat(operator) else w.batch
    height, width = border.image
    further = w.strides[1] * operator.channels

    def emitter(image: Expr, r: Expr, group: Expr) -> StepEmitter:
        def data(section: tuple[Expr, ...], k: Expr, batch: Expr, column: Expr) -> Expr:
            line = (image * height + r * w.strides[0]) * width
            varying, constant = parted(batch)
            further = w.strides[1] * operator.channels
            index = line * operator.channels + (part.inputs if part else 0) + varying * further + group * each + k
            for number, distance in zip(section, span, strict=True):
                index = index + number * distance
            return index + constant * further

        before = None if groups == 1 else group * tiling.weight_size
        before = part.weights if part and part.weights is not None else before
        number = image * rows + r
        start = number * part.line + part.outputs if part else None
        row = _Row(finish, number * columns, operator.outputs, group * made, start, repeats)
        touched = further if are_touched(tiling, machine.target, math.prod(border.buffer.shape)) else 0
        access = Access(data, None, sections, before, touched)
        return StepEmitter(tiling, border.buffer, weight, row, machine.instructions, access, arithmetic)

    def lines(body: Callable[[Expr, Expr], Stmt]) -> Stmt:
        return over(images, lambda image: over(rows, lambda r: body(image, r)))

    def group(number: Expr) -> Stmt:
        if panels_inside(tiling, machine.target, operator.ports[0].size):
            return lines(lambda image, r: emitter(image, r, number).by_positions())
        return tiles(tiling.out, lambda j: lines(lambda image, r: emitter(image, r, number).panel(j)))

    return over(groups, group)
