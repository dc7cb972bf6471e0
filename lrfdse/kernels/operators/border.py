"""Images with their padding around them, in scratch memory."""

from __future__ import annotations

import math
from collections.abc import Callable
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


@dataclass(frozen=True, slots=True)
class Planes:
    """Padded images in scratch memory, one block of channels after the other: (images, blocks, height, width, size)."""

    buffer: Buffer
    image: tuple[int, int]
    """Its height and width, places that nothing lies in included."""
    copy: Callable[[Expr], Stmt]
    """Returns what makes it of an image, given its number."""
    place: Callable[[Expr], Expr]
    """Returns where along its row a column of the padded image lies."""
    room: int
    """Where the part of the scratch memory begins that is free."""


def planes(
    x: Buffer,
    window: Window,
    channels: int,
    size: int,
    machine: Machine,
    *,
    images: int = 1,
    apart: int = 1,
    further: int = 0,
) -> Planes:
    """Return copies of a window's images by blocks of `size` channels, with zeros around them.

    Columns that lie `apart` are neighbours in a row of a copy. The last block begins earlier and overlaps its neighbour
    where the channels are no multiple. With one of `images` there is room for a single image at a time, otherwise for
    all of the window. The scratch memory has room for so many `further` elements.
    """
    top, left, bottom, right = window.pads
    (height, width), count = window.image, -(-channels // size)
    each = -(-(width + left + right) // apart)
    image = height + top + bottom, apart * each
    line, plane = image[1] * size, math.prod(image) * size
    # What is filled behind a row reaches into the next one, behind the last row of all beyond the image.
    room = images * count * plane + left * size
    work = flat(room + further, "work")

    def place(column: Expr) -> Expr:
        return column if apart == 1 else column % apart * each + column // apart

    def pixel(source: Expr, to: Expr) -> Stmt:
        whole = channels // size
        made = [over(whole, lambda b: copied(x, source + b * size, work, to + b * plane, size, machine))]
        if count > whole:
            made.append(copied(x, source + (channels - size), work, to + whole * plane, size, machine))
        return sequence(made)

    def border(start: Expr) -> Stmt:
        inner = top * line + left * size
        made = [filled(work, start, inner, 0, machine)]
        if left + right:
            gap = (left + right) * size
            made.append(over(height, lambda r: filled(work, start + inner + r * line + width * size, gap, 0, machine)))
        rest = bottom * line - left * size
        made.append(filled(work, start + plane - rest, max(0, rest), 0, machine))
        return sequence(made)

    def copy(number: Expr) -> Stmt:
        first = number * (count * plane) if images > 1 else 0
        source, inner = number * (height * width * channels), first + top * line
        pixels = over(
            height,
            lambda r: over(
                width, lambda c: pixel(source + (r * width + c) * channels, inner + r * line + place(left + c) * size)
            ),
        )
        if not any(window.pads):
            return pixels
        if apart == 1:
            return sequence([over(count, lambda block: border(first + block * plane)), pixels])
        return sequence([filled(work, first, count * plane, 0, machine), pixels])

    return Planes(work, image, copy, place, room)
