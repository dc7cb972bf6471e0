"""How the axes of a tensor lie in a flat array: transpositions, reshapes, slices and broadcasts as views of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True, slots=True)
class Part:
    """A factor of an axis: how many steps it makes, and how far each goes in the flat array."""

    size: int
    stride: int


Axis = tuple[Part, ...]
"""An axis as its factors from outer to inner; none of size 1, and none that continues the one before it."""


@dataclass(frozen=True)
class View:
    """A tensor on a flat array: element (i, j, ...) lies at `offset` plus what the axes' parts add.

    An axis may have several parts: channels, height and width that were flattened into one axis remain three steps
    through memory, so that flattening an image with its channels innermost moves nothing.

    >>> image = dense((1, 3, 4, 5), (0, 2, 3, 1))
    >>> image.axes[1], image.reshape((1, 60)).axes[1]
    ((Part(size=3, stride=1),), (Part(size=3, stride=1), Part(size=20, stride=3)))
    """

    axes: tuple[Axis, ...]
    offset: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Elements along each axis."""
        return tuple(math.prod(part.size for part in axis) for axis in self.axes)

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """All parts in the order of the axes."""
        return tuple(part for axis in self.axes for part in axis)

    @property
    def is_dense(self) -> bool:
        """Whether the elements fill the array from its begin, in whatever order."""
        if self.offset:
            return False
        stride = 1
        for part in sorted(self.parts, key=lambda part: part.stride):
            if part.stride != stride:
                return False
            stride *= part.size
        return True

    def transpose(self, order: Sequence[int]) -> View:
        """Return the view with its axes in another order."""
        return View(tuple(self.axes[axis] for axis in order), self.offset)

    def reshape(self, shape: Sequence[int]) -> View | None:
        """Return a view of another shape, or None where no steps through memory give its axes."""
        left = list(reversed(_joined(self.parts)))
        axes = []
        for size in shape:
            axis: list[Part] = []
            while size > 1:
                part = left.pop()
                if size % part.size == 0:
                    axis.append(part)
                    size //= part.size
                elif part.size % size == 0:
                    inner = part.size // size
                    axis.append(Part(size, part.stride * inner))
                    left.append(Part(inner, part.stride))
                    size = 1
                else:
                    return None
            axes.append(_joined(axis))
        return View(tuple(axes), self.offset)

    def expand(self, shape: Sequence[int]) -> View:
        """Return the view broadcast to a larger shape as ONNX does it: axes are added in front, those of 1 repeat.

        Raises
        ------
        ValueError
            The shapes do not broadcast.
        """
        own = ((),) * (len(shape) - len(self.axes)) + self.axes
        axes: list[Axis] = []
        for axis, size in zip(own, shape, strict=True):
            held = math.prod(part.size for part in axis)
            if held not in (1, size):
                raise ValueError(f"{self.shape} does not broadcast to {tuple(shape)}")
            axes.append(axis if held == size else (Part(size, 0),))
        return View(tuple(axes), self.offset)

    def slice(self, axis: int, start: int, step: int, count: int) -> View | None:
        """Return every `step`-th of the elements along an axis, or None where its parts do not allow that."""
        parts = self.axes[axis]
        if not count or (len(parts) > 1 and not (start == 0 and step == 1 and count == self.shape[axis])):
            return None
        if len(parts) > 1:
            return self
        stride = parts[0].stride if parts else 0
        cut: Axis = (Part(count, stride * step),) if count > 1 else ()
        return View((*self.axes[:axis], cut, *self.axes[axis + 1 :]), self.offset + start * stride)

    def insert(self, axis: int) -> View:
        """Return the view with an axis of size 1 more."""
        return View((*self.axes[:axis], (), *self.axes[axis:]), self.offset)


def dense(shape: Sequence[int], order: Sequence[int] | None = None) -> View:
    """Return the view that fills an array, its axes from outermost to innermost as in `order`; row-major by default."""
    strides = [0] * len(shape)
    stride = 1
    for axis in reversed(range(len(shape)) if order is None else list(order)):
        strides[axis] = stride
        stride *= shape[axis]
    return View(tuple((Part(n, s),) if n > 1 else () for n, s in zip(shape, strides, strict=True)))


def compact(view: View) -> View:
    """Return the dense view whose steps are in the order of `view`'s: what a copy without gaps looks like.

    Row-major where elements repeat, whose steps have no order.
    """
    if any(part.stride == 0 for part in view.parts):
        return dense(view.shape)
    places = sorted(
        ((part.stride, axis, place) for axis, parts in enumerate(view.axes) for place, part in enumerate(parts)),
        key=lambda each: (abs(each[0]), -each[1], -each[2]),
    )
    strides, stride = {}, 1
    for _, axis, place in places:
        strides[axis, place] = stride
        stride *= view.axes[axis][place].size
    return View(
        tuple(
            _joined([Part(part.size, strides[axis, place]) for place, part in enumerate(parts)])
            for axis, parts in enumerate(view.axes)
        )
    )


def order_of(view: View) -> tuple[int, ...]:
    """Return the axes from outermost to innermost by their smallest steps; axes of size 1 stand before all others."""
    reach = [min((abs(part.stride) for part in axis), default=-1) for axis in view.axes]
    ones = [axis for axis, step in enumerate(reach) if step < 0]
    rest = sorted((axis for axis, step in enumerate(reach) if step >= 0), key=lambda axis: -reach[axis])
    return (*ones, *rest)


@dataclass(frozen=True, slots=True)
class Step:
    """A loop over two tensors at once."""

    size: int
    one: int
    """Step in the first array."""
    other: int


def together(one: View, other: View) -> tuple[Step, ...] | None:
    """Return the loops that visit two views of one shape at once, or None where their parts do not nest.

    The loops are sorted by the other view's steps, the largest first, and as few as possible.
    """
    steps: list[Step] = []
    for mine, its in zip(one.axes, other.axes, strict=True):
        a, b = list(reversed(mine)), list(reversed(its))
        while a and b:
            p, q = a.pop(), b.pop()
            if p.size % q.size == 0:
                size = q.size
            elif q.size % p.size == 0:
                size = p.size
            else:
                return None
            for part, left in ((p, a), (q, b)):
                if part.size > size:
                    left.append(Part(part.size // size, part.stride))
            steps.append(Step(size, p.stride * (p.size // size), q.stride * (q.size // size)))
    steps.sort(key=lambda step: (-abs(step.other), -abs(step.one)))
    merged: list[Step] = []
    for step in steps:
        last = merged[-1] if merged else None
        if last and last.one == step.one * step.size and last.other == step.other * step.size:
            merged[-1] = Step(last.size * step.size, step.one, step.other)
        else:
            merged.append(step)
    return tuple(merged)


def _joined(parts: Sequence[Part]) -> Axis:
    """Join parts that continue each other."""
    joined: list[Part] = []
    for part in parts:
        if joined and joined[-1].stride == part.stride * part.size:
            joined[-1] = Part(joined[-1].size * part.size, part.stride)
        else:
            joined.append(part)
    return tuple(joined)
