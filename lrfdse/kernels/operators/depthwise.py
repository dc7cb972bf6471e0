"""Depthwise convolutions: channels on the lanes, neighbouring output pixels side by side in registers.

Either the channels of a pixel lie innermost, as the image has them; or the pixels of a row do, in a copy that holds one
vector of channels after the other: such rows are read one after the other as they lie.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tvm import tirx

from lrfdse.ir.window import Window
from lrfdse.kernels.operators.border import bordered, planes
from lrfdse.kernels.operators.depthwise_schedule import takes_rows_apart
from lrfdse.kernels.operators.finish import Finish, Spot
from lrfdse.kernels.operators.machine import Emission, Machine, buffers
from lrfdse.kernels.operators.strips import accumulator, clamped, identity
from lrfdse.kernels.operators.window import inside, taps
from lrfdse.kernels.tir import Buffer, Expr, Stmt, apart, load, named, opaque, over, ranged, sequence, store

if TYPE_CHECKING:
    from lrfdse.ir.products import Convolution
    from lrfdse.kernels.operators.depthwise_schedule import DepthwiseSchedule

_COPIED_FROM = 0.2
"""Share of output pixels whose window leaves the image from which on a padded copy is made; else they go one by one.

Chosen, not measured."""

_TOGETHER = 4
"""Vectors of channels that a pixel at the border computes at once. Chosen, not measured."""


def depthwise(operator: Convolution, schedule: DepthwiseSchedule, machine: Machine) -> Emission:
    """Return a depthwise convolution; its weight is packed as the schedule says."""
    w = operator.window
    x, weight, *further, y = parameters = buffers(operator.ports, schedule.weight_size(operator))
    finish = Finish(machine, operator.epilogue, tuple(further), y)
    if schedule.layout == "blocks":
        blocks = planes(x, w, operator.channels, schedule.lanes, machine)
        padded = Window(w.batch, blocks.image, w.kernel, w.strides, w.dilations)
        emitter = _Depthwise(machine, padded, operator.channels, schedule, blocks.buffer, weight, finish)
        images = over(w.batch, lambda image: sequence([blocks.copy(image), emitter.blocks(image)]))
        return Emission(parameters, images, blocks.buffer)
    rows, columns = (inside(w, axis) for axis in (0, 1))
    whole = len(rows) * len(columns)
    if whole < (1 - _COPIED_FROM) * math.prod(w.out):
        border = bordered(x, w, operator.channels, machine)
        padded = Window(w.batch, border.image, w.kernel, w.strides, w.dilations)
        emitter = _Depthwise(machine, padded, operator.channels, schedule, border.buffer, weight, finish)
        made = emitter.interior(range(padded.out[0]), range(padded.out[1]))
        return Emission(parameters, sequence([*border.statements, made]), border.work)
    emitter = _Depthwise(machine, w, operator.channels, schedule, x, weight, finish)
    found = [emitter.interior(rows, columns)]
    height, width = w.out
    edges = (
        (range(rows.start), range(width)),
        (range(rows.stop, height), range(width)),
        (rows, range(columns.start)),
        (rows, range(columns.stop, width)),
    )
    return Emission(parameters, sequence([*found, *(emitter.edge(r, c) for r, c in edges if len(r) * len(c))]))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the channels of one vector lie."""

    channel: Expr
    """The first of them."""
    data: Expr
    """Where they lie at the image's first pixel."""
    pixel: int
    """Elements from one pixel to the next."""
    weight: Expr
    """Where they lie at the first tap."""
    tap: int
    """Elements from one tap to the next."""


class _Depthwise:
    """Emits parts of a depthwise convolution."""

    def __init__(
        self,
        machine: Machine,
        window: Window,
        channels: int,
        schedule: DepthwiseSchedule,
        x: Buffer,
        weight: Buffer,
        finish: Finish,
    ) -> None:
        self._machine, self._window, self._channels, self._schedule = machine, window, channels, schedule
        self._x, self._weight, self._finish = x, weight, finish
        self._lanes = schedule.lanes

    def interior(self, rows: range, columns: range) -> Stmt:
        """Return the loops over output pixels whose windows lie inside of the image, channels innermost."""
        width, pixels = min(self._schedule.width, len(columns)), math.prod(self._window.image)

        def place(image: Expr, channel: Expr) -> _Place:
            data = image * (pixels * self._channels) + channel
            return _Place(channel, data, self._channels, channel, self._channels)

        def row(image: Expr, r: Expr) -> Stmt:
            return clamped(
                len(columns),
                width,
                lambda c: clamped(
                    self._channels,
                    self._lanes,
                    lambda i: self._tile(image, r, c + columns.start, width, place(image, i)),
                ),
            )

        return over(self._window.batch, lambda image: over(len(rows), lambda r: row(image, r + rows.start)))

    def blocks(self, image: Expr) -> Stmt:
        """Return the loops over one image of a blocked copy, pixels innermost."""
        w, lanes = self._window, self._lanes
        width = min(self._schedule.width, w.out[1])

        def block(number: Expr) -> Stmt:
            last = tirx.IntImm("int32", self._channels - lanes)
            channel = number * lanes if self._channels % lanes == 0 else tirx.Min(number * lanes, last)
            data, weight = number * (math.prod(w.image) * lanes), number * (math.prod(w.kernel) * lanes)
            place = _Place(channel, data, lanes, weight, lanes)

            def tile(r: Expr, c: Expr) -> Stmt:
                made: list[Stmt] = []
                # Where loads take nothing but an address, LLVM gives each one of the straight code a counter.
                column = opaque(c, made) if self._machine.target.vectors.grouped else c
                return sequence([*made, self._tile(image, r, column, width, place)])

            return over(w.out[0], lambda r: clamped(w.out[1], width, lambda c: tile(r, c)))

        return over(self._schedule.blocks(self._channels), block)

    def _tile(self, image: Expr, r: Expr, c: Expr, width: int, place: _Place) -> Stmt:
        w, lanes = self._window, self._lanes
        top, left = r * w.strides[0] - w.pads[0], c * w.strides[1] - w.pads[1]
        origin = (top * w.image[1] + left) * place.pixel + place.data
        grouped = self._machine.target.vectors.grouped
        by_rows = grouped and takes_rows_apart(w)
        held = [accumulator(lanes) for _ in range(width)] if by_rows else []
        made: list[Stmt] = [tirx.AllocBuffer(each) for each in held]
        sums: list[Expr | None] = [None] * width
        for i in range(w.kernel[0]):
            if by_rows and i:
                sums = [load(each, 0) for each in held]
            row: list[Stmt] = []
            # Each input is loaded once for all outputs that it takes part in.
            uses: dict[int, list[tuple[int, int]]] = {}
            for k in range(width):
                for j in range(w.kernel[1]):
                    uses.setdefault(k * w.strides[1] + j * w.dilations[1], []).append((k, j))
            first = i * w.kernel[1]
            weights = [
                named(load(self._weight, (first + j) * place.tap + place.weight, lanes), row)
                for j in range(w.kernel[1])
            ]
            for column in sorted(uses):
                index = origin + (i * w.dilations[0] * w.image[1] + column) * place.pixel
                one = named(load(self._x, index, lanes), row)
                for k, j in uses[column]:
                    done = sums[k]
                    product = (
                        one * weights[j] if done is None else self._machine.multiplied(one, weights[j], done, lanes)
                    )
                    sums[k] = named(product, row)
            if by_rows:
                row += [store(each, total, 0) for each, total in zip(held, sums, strict=True) if total is not None]
            made += apart(row) if by_rows and i else row
        if by_rows:
            sums = [load(each, 0) for each in held]
        totals = [total for total in sums if total is not None]
        spots = [self._spot(image, r, c + k, place.channel) for k in range(width)]
        stores = self._finish.store_all(totals, spots, [0] * width, lanes)
        # LLVM would multiply for one pixel after the other, each before its store, and spill the inputs until then.
        long = grouped and len(self._finish.epilogue.instructions) > 1
        return sequence(made + (apart(stores) if long else stores))

    def edge(self, rows: range, columns: range) -> Stmt:
        """Return the loops over output pixels whose windows may leave the image, as little code."""
        w = self._window
        together = max(1, min(_TOGETHER, self._channels // self._lanes))

        def pixel(image: Expr, r: Expr, c: Expr) -> Stmt:
            return clamped(self._channels, together * self._lanes, lambda i: self._pixel(image, r, c, i, together))

        def row(image: Expr, r: Expr) -> Stmt:
            return over(len(columns), lambda c: pixel(image, r, c + columns.start))

        return over(w.batch, lambda image: over(len(rows), lambda r: row(image, r + rows.start)))

    def _pixel(self, image: Expr, r: Expr, c: Expr, channel: Expr, together: int) -> Stmt:
        w, lanes, channels = self._window, self._lanes, self._channels
        sums = [accumulator(lanes) for _ in range(together)]
        made: list[Stmt] = [tirx.AllocBuffer(each) for each in sums]
        nothing = identity("add", lanes, made)
        made += [store(each, nothing, 0) for each in sums]
        rows, columns = taps(w, 0, r, made), taps(w, 1, c, made)

        def tap(i: Expr, j: Expr) -> Stmt:
            line = image * w.image[0] + r * w.strides[0] - w.pads[0] + i * w.dilations[0]
            index = (line * w.image[1] + c * w.strides[1] - w.pads[1] + j * w.dilations[1]) * channels + channel
            at = (i * w.kernel[1] + j) * channels + channel
            return sequence(
                [
                    store(
                        each,
                        self._machine.multiplied(
                            load(self._x, index + k * lanes, lanes),
                            load(self._weight, at + k * lanes, lanes),
                            load(each, 0),
                            lanes,
                        ),
                        0,
                    )
                    for k, each in enumerate(sums)
                ]
            )

        made.append(ranged(*rows, lambda i: ranged(*columns, lambda j: tap(i, j))))
        for k, each in enumerate(sums):
            made += self._finish.store(load(each, 0), self._spot(image, r, c, channel + k * lanes), lanes)
        return sequence(made)

    def _spot(self, image: Expr, r: Expr, c: Expr, channel: Expr) -> Spot:
        height, width = self._window.out
        pixel = (image * height + r) * width + c
        index = pixel * self._channels + channel
        return Spot(index, index, channel, pixel)
