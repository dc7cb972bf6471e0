"""Images with their padding around them, in scratch memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lrfdse.kernels.operators.machine import Machine, flat
from lrfdse.kernels.operators.runs import copied, filled
from lrfdse.kernels.tir import Buffer, Expr, Stmt, over, sequence

if TYPE_CHECKING:
    from lrfdse.ir.window import Window


@dataclass(frozen=True, slots=True)
class Border:
    """An image, padded or as it is."""

    buffer: Buffer
    image: tuple[int, int]
    """Its height and width."""
    statements: list[Stmt]
    """What makes it."""
    work: Buffer | None
    """The scratch memory that it takes, if any."""


def bordered(x: Buffer, window: Window, channels: int, machine: Machine) -> Border:
    """Return the images of a window with zeros around them as its padding says; `x` itself where there is none."""
    top, left, bottom, right = window.pads
    height, width = window.image
    if not any(window.pads):
        return Border(x, window.image, [], None)
    image = height + top + bottom, width + left + right
    line, size = image[1] * channels, math.prod(image) * channels
    # What is filled behind a row reaches into the next one, behind the last row of all beyond the image.
    work = flat(window.batch * size + left * channels, "work")
    gap = (left + right) * channels

    def one(number: Expr) -> Stmt:
        first = number * size
        start = first + top * line + left * channels
        source = number * (height * width * channels)
        made = [filled(work, first, top * line + left * channels, 0, machine)]

        def row(r: Expr) -> Stmt:
            to = start + r * line
            copy = copied(x, source + r * (width * channels), work, to, width * channels, machine)
            return sequence([copy, filled(work, to + width * channels, gap, 0, machine)])

        if gap:
            made.append(over(height, row))
        else:
            made.append(copied(x, source, work, start, height * line, machine))
        rest = bottom * line - left * channels
        made.append(filled(work, first + size - rest, max(0, rest), 0, machine))
        return sequence(made)

    return Border(work, image, [over(window.batch, one)], work)
