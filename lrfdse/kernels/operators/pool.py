"""Pooling: the largest or the mean element of a window, channels on the lanes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvm import tirx

from lrfdse.kernels.operators.machine import Emission, Machine, buffers
from lrfdse.kernels.operators.strips import Combination, accumulator, clamped, combined, cover, identity
from lrfdse.kernels.operators.window import taps
from lrfdse.kernels.tir import Expr, Stmt, load, named, over, ranged, sequence, splat, store

if TYPE_CHECKING:
    from lrfdse.ir.operators import Pool

_TOGETHER = 4
"""Vectors of channels at once, so that the loops over the window cost little. Chosen, not measured."""


def pool(operator: Pool, machine: Machine) -> Emission:
    """Return pooled images; taps outside of the image are left out."""
    x, y = parameters = buffers(operator.ports)
    w, channels = operator.window, operator.channels
    kind: Combination = "max" if operator.kind == "max" else "add"
    lanes = cover(channels, machine.lanes).lanes
    together = max(1, min(_TOGETHER, channels // lanes))
    height, width = w.out

    def pixel(image: Expr, r: Expr, c: Expr) -> Stmt:
        made: list[Stmt] = []
        rows, columns = taps(w, 0, r, made), taps(w, 1, c, made)
        factor = named(tirx.FloatImm("float32", 1.0) / _counted(operator, r, c, made), made) if kind == "add" else None
        origin = (image * w.image[0] + r * w.strides[0] - w.pads[0]) * w.image[1] + c * w.strides[1] - w.pads[1]
        target = (image * height + r) * width + c

        def strip(channel: Expr) -> Stmt:
            sums = [accumulator(lanes) for _ in range(together)]
            inner: list[Stmt] = [tirx.AllocBuffer(each) for each in sums]
            nothing = identity(kind, lanes, inner)
            inner += [store(each, nothing, 0) for each in sums]

            def tap(i: Expr, j: Expr) -> Stmt:
                at = (origin + i * (w.dilations[0] * w.image[1]) + j * w.dilations[1]) * channels + channel
                return sequence(
                    [
                        store(each, combined(kind, load(each, 0), load(x, at + k * lanes, lanes)), 0)
                        for k, each in enumerate(sums)
                    ]
                )

            inner.append(ranged(*rows, lambda i: ranged(*columns, lambda j: tap(i, j))))
            for k, each in enumerate(sums):
                value = load(each, 0) if factor is None else load(each, 0) * splat(factor, lanes)
                inner.append(store(y, value, target * channels + channel + k * lanes, lanes))
            return sequence(inner)

        made.append(clamped(channels, together * lanes, strip))
        return sequence(made)

    return Emission(
        parameters,
        over(w.batch, lambda image: over(height, lambda r: over(width, lambda c: pixel(image, r, c)))),
    )


def _counted(operator: Pool, r: Expr, c: Expr, into: list[Stmt]) -> Expr:
    """Return over how many elements a mean is taken, as float32."""
    w = operator.window
    sizes = []
    for axis, position in ((0, r), (1, c)):
        begin, end = taps(w, axis, position, into, w.pads[axis + 2] if operator.counts_pads else 0)
        sizes.append(end if operator.counts_pads else end - begin)
    return named(tirx.Cast("float32", sizes[0] * sizes[1]), into)
