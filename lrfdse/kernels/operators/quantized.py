"""Products of whole numbers: the input is rounded into scratch memory once, and read from there in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from tvm import tirx

from lrfdse.ir.products import FullyConnected
from lrfdse.ir.quantized import QuantizedConvolution, QuantizedProduct, Rounding
from lrfdse.kernels.arithmetic import Integers
from lrfdse.kernels.emit import StepEmitter, dense
from lrfdse.kernels.operators.border import Border
from lrfdse.kernels.operators.convolution import over_windows
from lrfdse.kernels.operators.finish import Finish, Spot
from lrfdse.kernels.operators.machine import Emission, Machine, flat
from lrfdse.kernels.operators.products import Dense
from lrfdse.kernels.operators.runs import filled
from lrfdse.kernels.operators.strips import strips
from lrfdse.kernels.operators.words import Quantized, Words
from lrfdse.kernels.tir import Buffer, Expr, Stmt, load, over, sequence, splat, store, vector_type

if TYPE_CHECKING:
    from lrfdse.ir.kernel import StepSchedule

_MIDDLE = 12582912.0
"""1.5 * 2^23: adding it rounds a float32 below 2^22 to a whole number, halves to even."""

_MIDDLE_BITS = 0x4B400000
"""Its bits as float32: those of it plus a small whole number are that number more."""


@dataclass(frozen=True, slots=True)
class _Sums(Finish):
    """Makes floats of sums before their epilogue."""

    starts: tuple[tuple[Buffer, int], ...]
    """What is added to the sums of each channel: buffers, and where in them the first channel is."""

    def finished(
        self,
        value: Expr,
        spot: Spot,
        lanes: int,
        into: list[Stmt],
        shared: Mapping[tuple[int, int], Expr] | None = None,
    ) -> Expr:
        """Return what an epilogue makes of a vector of sums."""
        whole = value
        for buffer, first in self.starts:
            whole = whole + load(buffer, first + spot.channel, lanes)
        return Finish.finished(self, tirx.Cast(vector_type(lanes), whole), spot, lanes, into, shared)


@dataclass(frozen=True, slots=True)
class _Levels:
    """Levels of an operator's input in scratch memory, as the elements that are stored and the words that are read."""

    operator: Quantized
    words: Words
    x: Buffer
    work: Buffer
    """Words."""
    elements: Buffer
    machine: Machine

    def made(self) -> Stmt:
        """Return the statements that round the input."""
        if isinstance(self.operator, QuantizedProduct):
            step = self.operator.step
            run = self.words.count(step.inner) * self.words.group
            if run == step.inner:
                return self._run(0, 0, step.input_size)
            return over(step.batch, lambda r: self._run(r * step.inner, r * run, step.inner))
        return self._image(self.operator)

    def _image(self, operator: QuantizedConvolution) -> Stmt:
        (height, width), channels, (top, left, bottom, right) = (
            operator.window.image,
            operator.channels,
            operator.window.pads,
        )
        pixel = self.words.count(channels) * self.words.group
        line = (left + width + right) * pixel
        size = (top + height + bottom) * line

        def row(number: Expr, r: Expr) -> Stmt:
            source, to = (number * height + r) * (width * channels), number * size + (top + r) * line + left * pixel
            if pixel == channels:
                return self._run(source, to, width * channels)
            return over(width, lambda c: self._run(source + c * channels, to + c * pixel, channels))

        rows = over(operator.window.batch, lambda number: over(height, lambda r: row(number, r)))
        if not any(operator.window.pads):
            return rows
        level = self.words.raised - operator.rounding.shift
        zero = np.full(self.words.group, level, self.words.datum).view(self.words.datum_word)
        return sequence([filled(self.work, 0, int(self.work.shape[0]), int(zero[0]), self.machine), rows])

    def _run(self, source: Expr, to: Expr, size: int) -> Stmt:
        """Return the loop that rounds a run of elements."""
        rounding: Rounding = self.operator.rounding
        factor = float(np.float32(1) / np.float32(rounding.scale))

        def levels(i: Expr, lanes: int) -> list[Stmt]:
            def number(value: float) -> Expr:
                return splat(tirx.FloatImm("float32", value), lanes)

            kinds = ("int32", self.words.datum) if lanes == 1 else (f"int32x{lanes}", f"{self.words.datum}x{lanes}")
            value = tirx.Min(load(self.x, source + i, lanes) * number(factor), number(rounding.most))
            bits = tirx.reinterpret(kinds[0], tirx.Max(value, number(rounding.least)) + number(_MIDDLE))
            level = bits - splat(tirx.IntImm("int32", _MIDDLE_BITS + rounding.shift - self.words.raised), lanes)
            return [store(self.elements, tirx.Cast(kinds[1], level), to + i, lanes)]

        return strips(size, self.machine.lanes, levels, 2)


def quantized(operator: Quantized, schedule: StepSchedule, machine: Machine) -> Emission:
    """Return a product of whole numbers."""
    words = Words.of(machine.target)
    tiling, product = words.tiling(operator, schedule), words.product(operator)
    x, _, start, *further, y = (
        flat(port.size, f"p{number}", port.element) for number, port in enumerate(operator.ports)
    )
    weight = flat(words.weight_size(operator, tiling), "p1", words.weight_word)
    work = flat(words.levels(operator), "work", words.datum_word)
    elements = flat(words.levels(operator) * words.group, "levels", words.datum, work.data)
    starts = ((start, 0), (weight, tiling.weight_size))[: 2 if words.raised else 1]
    finish = _Sums(machine, operator.epilogue, tuple(further), y, starts)
    arithmetic = Integers(schedule.lanes, machine.target.dot)
    if isinstance(product, FullyConnected):
        access = dense(product.step)
        emitter = StepEmitter(tiling, work, weight, Dense(finish, tiling), machine.instructions, access, arithmetic)
        body = emitter.statement()
    else:
        body = over_windows(
            product,
            tiling,
            Border(work, product.window.image, [], None),
            weight,
            finish,
            machine,
            arithmetic=arithmetic,
        )
    levels = _Levels(operator, words, x, work, elements, machine).made()
    body = sequence([tirx.DeclBuffer(elements, data=work.data), levels, body])
    return Emission((x, weight, start, *further, y), body, work)
