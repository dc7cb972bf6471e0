"""Images with their padding around them, in scratch memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lrfdse.kernels.operators.machine import Machine, flat
from lrfdse.kernels.operators.runs import copied, filled
from lrfdse.kernels.tir import Buffer, Expr, Stmt, load, over, sequence, store

if TYPE_CHECKING:
    from lrfdse.ir.window import Window
    from lrfdse.kernels.operators.depthwise_schedule import DepthwiseSchedule


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
    room: int = 0
    """Where the part of the scratch memory begins that is free."""


def bordered(x: Buffer, window: Window, channels: int, machine: Machine, further: int = 0) -> Border:
    """Return the images of a window with zeros around them as its padding says; `x` itself where there is none.

    The scratch memory has room for so many `further` elements.
    """
    top, left, bottom, right = window.pads
    height, width = window.image
    if not any(window.pads):
        return Border(x, window.image, [], flat(further, "work") if further else None)
    image = height + top + bottom, width + left + right
    line, size = image[1] * channels, math.prod(image) * channels
    # What is filled behind a row reaches into the next one, behind the last row of all beyond the image.
    room = window.batch * size + left * channels
    work = flat(room + further, "work")
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

    return Border(work, image, [over(window.batch, one)], work, room)


@dataclass(frozen=True, slots=True)
class Blocks:
    """A padded image in scratch memory, one vector of channels after the other: (vectors, height, width, lanes)."""

    buffer: Buffer
    image: tuple[int, int]
    """Its height and width."""
    copy: Callable[[Expr], Stmt]
    """Returns what makes it of an image, given its number."""


def blocked(x: Buffer, window: Window, channels: int, schedule: DepthwiseSchedule, machine: Machine) -> Blocks:
    """Return a copy of one image of a window at a time, by vectors of channels, with zeros around it."""
    top, left, bottom, right = window.pads
    (height, width), lanes, count = window.image, schedule.lanes, schedule.blocks(channels)
    image = height + top + bottom, width + left + right
    line, size = image[1] * lanes, math.prod(image) * lanes
    # What is filled behind a row reaches into the next one, behind the last row of all beyond the image.
    work = flat(count * size + left * lanes, "work")

    def first(block: int) -> Expr:
        return schedule.first(block, channels)

    def pixel(source: Expr, to: Expr) -> Stmt:
        whole = channels // lanes
        made = [over(whole, lambda b: store(work, load(x, source + b * lanes, lanes), to + b * size, lanes))]
        if count > whole:
            made.append(store(work, load(x, source + first(whole), lanes), to + whole * size, lanes))
        return sequence(made)

    def border(block: Expr) -> Stmt:
        start, inner = block * size, top * line + left * lanes
        made = [filled(work, start, inner, 0, machine)]
        if left + right:
            gap = (left + right) * lanes
            made.append(over(height, lambda r: filled(work, start + inner + r * line + width * lanes, gap, 0, machine)))
        rest = bottom * line - left * lanes
        made.append(filled(work, start + size - rest, max(0, rest), 0, machine))
        return sequence(made)

    def copy(number: Expr) -> Stmt:
        source, inner = number * (height * width * channels), top * line + left * lanes
        pixels = over(
            height,
            lambda r: over(width, lambda c: pixel(source + (r * width + c) * channels, inner + r * line + c * lanes)),
        )
        return sequence([over(count, border), pixels] if any(window.pads) else [pixels])

    return Blocks(work, image, copy)
