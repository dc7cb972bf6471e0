"""Depthwise convolutions: channels on the lanes, neighbouring output pixels side by side in registers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tvm import tirx

from lrfdse.ir.window import Window
from lrfdse.kernels.operators.border import bordered
from lrfdse.kernels.operators.finish import Finish, Spot
from lrfdse.kernels.operators.machine import Emission, Machine, buffers
from lrfdse.kernels.operators.strips import accumulator, clamped, cover, identity
from lrfdse.kernels.operators.window import inside, taps
from lrfdse.kernels.tir import Buffer, Expr, Stmt, load, named, over, ranged, sequence, store

if TYPE_CHECKING:
    from lrfdse.ir.products import Convolution

_COPIED_FROM = 0.2
"""Share of output pixels whose window leaves the image from which on a padded copy is made; else they go one by one.

Chosen, not measured."""

_SHARE = 4
"""One in so many registers is an accumulator: the others hold weights and inputs. Chosen, not measured."""

_TOGETHER = 4
"""Vectors of channels that a pixel at the border computes at once. Chosen, not measured."""


def depthwise(operator: Convolution, machine: Machine) -> Emission:
    """Return a depthwise convolution; its weight is of shape (kernel height, width, channels)."""
    w = operator.window
    x, weight, *further, y = parameters = buffers(operator.ports, operator.ports[1].size)
    finish = Finish(machine, operator.epilogue, tuple(further), y)
    rows, columns = (inside(w, axis) for axis in (0, 1))
    whole = len(rows) * len(columns)
    if whole < (1 - _COPIED_FROM) * math.prod(w.out):
        border = bordered(x, w, operator.channels, machine)
        padded = Window(w.batch, border.image, w.kernel, w.strides, w.dilations)
        emitter = _Depthwise(machine, padded, operator.channels, border.buffer, weight, finish)
        made = emitter.interior(range(padded.out[0]), range(padded.out[1]))
        return Emission(parameters, sequence([*border.statements, made]), border.work)
    emitter = _Depthwise(machine, w, operator.channels, x, weight, finish)
    made = [emitter.interior(rows, columns)]
    height, width = w.out
    edges = (
        (range(rows.start), range(width)),
        (range(rows.stop, height), range(width)),
        (rows, range(columns.start)),
        (rows, range(columns.stop, width)),
    )
    return Emission(parameters, sequence([*made, *(emitter.edge(r, c) for r, c in edges if len(r) * len(c))]))


class _Depthwise:
    """Emits parts of a depthwise convolution."""

    def __init__(
        self, machine: Machine, window: Window, channels: int, x: Buffer, weight: Buffer, finish: Finish
    ) -> None:
        self._machine, self._window, self._channels = machine, window, channels
        self._x, self._weight, self._finish = x, weight, finish
        self._lanes = cover(channels, machine.lanes).lanes

    def interior(self, rows: range, columns: range) -> Stmt:
        """Return the loops over output pixels whose windows lie inside of the image."""
        width = self._columns_at_once(len(columns))

        def row(image: Expr, r: Expr) -> Stmt:
            return clamped(
                len(columns),
                width,
                lambda c: clamped(
                    self._channels, self._lanes, lambda i: self._tile(image, r, c + columns.start, width, i)
                ),
            )

        return over(self._window.batch, lambda image: over(len(rows), lambda r: row(image, r + rows.start)))

    def _columns_at_once(self, size: int) -> int:
        """Return how many output pixels of a row are computed at once: so many that few are computed twice."""
        most = max(1, min(size, self._machine.registers // _SHARE))
        return min(range(1, most + 1), key=lambda width: (-(-size // width) * (width + 1), -width))

    def _tile(self, image: Expr, r: Expr, c: Expr, width: int, channel: Expr) -> Stmt:
        w, lanes, channels = self._window, self._lanes, self._channels
        top, left = r * w.strides[0] - w.pads[0], c * w.strides[1] - w.pads[1]
        origin = ((image * w.image[0] + top) * w.image[1] + left) * channels + channel
        made: list[Stmt] = []
        sums: list[Expr | None] = [None] * width
        for i in range(w.kernel[0]):
            # Each input is loaded once for all outputs that it takes part in.
            uses: dict[int, list[tuple[int, int]]] = {}
            for k in range(width):
                for j in range(w.kernel[1]):
                    uses.setdefault(k * w.strides[1] + j * w.dilations[1], []).append((k, j))
            first = i * w.kernel[1]
            weights = [
                named(load(self._weight, (first + j) * channels + channel, lanes), made) for j in range(w.kernel[1])
            ]
            for place in sorted(uses):
                index = origin + (i * w.dilations[0] * w.image[1] + place) * channels
                one = named(load(self._x, index, lanes), made)
                for k, j in uses[place]:
                    done = sums[k]
                    product = (
                        one * weights[j] if done is None else self._machine.multiplied(one, weights[j], done, lanes)
                    )
                    sums[k] = named(product, made)
        for k, total in enumerate(sums):
            made += self._finish.store(total, self._spot(image, r, c + k, channel), lanes)
        return sequence(made)

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
