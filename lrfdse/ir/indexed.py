"""Operators that find elements, or follow indices that are known at run time only."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from lrfdse.ir.ports import Element, Port

Joining = Literal["none", "add", "mul", "max", "min"]
"""What becomes of an element that a scatter writes to: it is replaced, or one of two operands."""


@dataclass(frozen=True, slots=True)
class Gather:
    """``y[o, c, i] = x[o, index[c], i]``: negative indices count from the end, others out of range are clipped."""

    outer: int
    extent: int
    inner: int
    count: int
    element: Element = "float32"
    index: Element = "int64"

    @property
    def ports(self) -> tuple[Port, ...]:
        """Input x, the indices, y."""
        return (
            Port("input", self.outer * self.extent * self.inner, self.element),
            Port("input", self.count, self.index),
            Port("output", self.outer * self.count * self.inner, self.element),
        )

    macs = 0


@dataclass(frozen=True, slots=True)
class TopK:
    """The first `count` of ``x[o, :, i]`` in sorted order along the middle axis, and their indices as int64.

    Equal elements stand in the order of their indices. Where elements are NaN, which are taken is not defined.
    """

    outer: int
    size: int
    inner: int
    count: int
    largest: bool = True
    element: Element = "float32"

    @property
    def ports(self) -> tuple[Port, ...]:
        """Input x, the elements, their indices."""
        made = self.outer * self.count * self.inner
        x = Port("input", self.outer * self.size * self.inner, self.element)
        return x, Port("output", made, self.element), Port("output", made, "int64")

    macs = 0


@dataclass(frozen=True, slots=True)
class OneHot:
    """``y[o, d, i] = values[index[o, i] == d]`` for every d below `depth`.

    Negative indices count from the end; others out of range are nowhere. Floats are rounded towards zero before.
    """

    outer: int
    depth: int
    inner: int
    element: Element = "float32"
    index: Element = "int64"

    @property
    def ports(self) -> tuple[Port, ...]:
        """The indices, the two values (off, on), y."""
        indices = self.outer * self.inner
        made = Port("output", indices * self.depth, self.element)
        return Port("input", indices, self.index), Port("input", 2, self.element), made

    macs = 0


@dataclass(frozen=True, slots=True)
class ScatterND:
    """y is x, but for ``y[index[c], i]``, which ``updates[c, i]`` replaces or joins, in the order of c.

    An index is as many numbers as `extents` has sizes: those of the axes in front of the `inner` elements. Negative
    ones count from the end, others out of range are clipped.
    """

    extents: tuple[int, ...]
    inner: int
    count: int
    joining: Joining = "none"
    element: Element = "float32"
    index: Element = "int64"

    @property
    def ports(self) -> tuple[Port, ...]:
        """Input x, the indices, the updates, y."""
        size = math.prod(self.extents) * self.inner
        return (
            Port("input", size, self.element),
            Port("input", self.count * len(self.extents), self.index),
            Port("input", self.count * self.inner, self.element),
            Port("output", size, self.element),
        )

    macs = 0


@dataclass(frozen=True, slots=True)
class ScatterElements:
    """y is x, but for ``y[..., index[i], ...]``, which ``updates[i]`` replaces or joins, in the order of i.

    i stands for a place below `updates`, sizes that are at most those of `shape`; the index stands in for its number
    along `axis`. Negative indices count from the end, others out of range are clipped.
    """

    shape: tuple[int, ...]
    updates: tuple[int, ...]
    axis: int
    joining: Joining = "none"
    element: Element = "float32"
    index: Element = "int64"

    @property
    def ports(self) -> tuple[Port, ...]:
        """Input x, the indices, the updates, y."""
        size, count = math.prod(self.shape), math.prod(self.updates)
        return (
            Port("input", size, self.element),
            Port("input", count, self.index),
            Port("input", count, self.element),
            Port("output", size, self.element),
        )

    macs = 0
