"""Reading and writing elements by computed indices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from lrfdse.ir.indexed import Gather, ScatterElements, ScatterND
from lrfdse.program.build import Tensor
from lrfdse.program.layout import Part, View
from lrfdse.program.rules.axes import resized, with_steps
from lrfdse.program.rules.shaping import cut
from lrfdse.program.site import Rules, Site


def _gather(at: Site) -> Sequence[Tensor] | None:
    x, index = at.input(0), at.input(1)
    rank = len(x.shape)
    axis = at.attribute("axis", 0) % rank
    known = at.integers(1)
    if known is not None and len(index.shape) <= 1 and (run := _run(known, x.shape[axis])):
        found = cut(at, x, axis, *run)
        if not index.shape:
            found = found.seen(View((*found.view.axes[:axis], *found.view.axes[axis + 1 :]), found.view.offset))
        return [found]
    if index.element not in ("int32", "int64"):
        return None
    index = at.build.ordered(index)
    x, inner = with_steps(at, x, axis)
    extent, count = x.shape[axis], index.view.size
    moved = resized(x.view, inner, extent, count)
    picked = [tuple(Part(p.size, p.stride * inner) for p in parts) for parts in index.view.axes]
    y = at.build.new(View((*moved[:axis], *picked, *moved[axis + 1 :])), x.element)
    operator = Gather(x.view.size // (extent * inner), extent, inner, count, x.element, index.element)
    at.build.call(operator, x.value, index.value, y.value)
    return [y]


def _run(known: Sequence[int], extent: int) -> tuple[int, int, int] | None:
    """Return start, step and count of indices in equal steps, or None."""
    index = [each % extent for each in known if -extent <= each < extent]
    if len(index) != len(known) or not index:
        return None
    step = index[1] - index[0] if len(index) > 1 else 1
    even = step != 0 and all(b - a == step for a, b in pairwise(index))
    return (index[0], step, len(index)) if even else None


_JOINED = frozenset(("float32", "float64", "int32", "int64"))
"""Elements that scatters add, multiply and compare."""


def _scatter_nd(at: Site) -> Sequence[Tensor] | None:
    x, index, updates = (at.build.ordered(at.input(place)) for place in range(3))
    joining = at.attribute("reduction", "none")
    if joining != "none" and x.element not in _JOINED:
        return None
    axes = index.shape[-1]
    count, inner = math.prod(index.shape[:-1]), math.prod(x.shape[axes:])
    y = at.build.new(x.view, x.element)
    operator = ScatterND(x.shape[:axes], inner, count, joining, x.element, index.element)
    at.build.call(operator, x.value, index.value, updates.value, y.value)
    return [y]


def _scatter_elements(at: Site) -> Sequence[Tensor] | None:
    x, index, updates = (at.build.ordered(at.input(place)) for place in range(3))
    joining = at.attribute("reduction", "none")
    if joining != "none" and x.element not in _JOINED:
        return None
    axis = at.attribute("axis", 0) % len(x.shape)
    y = at.build.new(x.view, x.element)
    operator = ScatterElements(x.shape, updates.shape, axis, joining, x.element, index.element)
    at.build.call(operator, x.value, index.value, updates.value, y.value)
    return [y]


RULES: Rules = {
    "Gather": _gather,
    "Scatter": _scatter_elements,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
}
"""Rules for tensors of any element type."""
