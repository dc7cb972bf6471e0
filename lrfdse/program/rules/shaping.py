"""Nodes that only move or repeat elements."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lrfdse.program.build import Tensor
from lrfdse.program.layout import View, compact, dense, order_of
from lrfdse.program.site import Rules, Site, element_of


def _same(at: Site) -> Sequence[Tensor]:
    return [at.input(0)]


def _dropout(at: Site) -> Sequence[Tensor]:
    """Return what went in, all of which is kept."""
    x = at.input(0)
    return [x, at.build.constant(np.ones(x.shape, bool))] if at.uses(1) else [x]


def _eye_like(at: Site) -> Sequence[Tensor]:
    rows, columns = at.shape()
    return [at.build.constant(np.eye(rows, columns, at.attribute("k", 0), element_of(at.node.outputs[0])))]


def _reshape(at: Site) -> Sequence[Tensor]:
    return [at.build.reshaped(at.input(0), at.shape())]


def _transpose(at: Site) -> Sequence[Tensor]:
    x = at.input(0)
    return [x.transpose(at.attribute("perm", list(reversed(range(len(x.shape))))))]


def _expand(at: Site) -> Sequence[Tensor]:
    return [at.input(0).seen(at.input(0).view.expand(at.shape()))]


def _tile(at: Site) -> Sequence[Tensor] | None:
    repeats = at.integers(1)
    if repeats is None:
        return None
    view = at.input(0).view
    for axis, count in enumerate(repeats):
        if count > 1:
            wide = View((*view.axes[:axis], (), *view.axes[axis:]), view.offset)
            shape = [*wide.shape]
            shape[axis] = count
            wide = wide.expand(shape)
            view = View((*wide.axes[:axis], wide.axes[axis] + wide.axes[axis + 1], *wide.axes[axis + 2 :]), view.offset)
    return [at.input(0).seen(view)]


def cut(at: Site, x: Tensor, axis: int, start: int, step: int, count: int) -> Tensor:
    """Return elements along an axis, as a view where possible."""
    view = x.view.slice(axis, start, step, count)
    if view is None:
        x = at.build.ordered(x)
        view = x.view.slice(axis, start, step, count)
    assert view is not None, "axes of a row-major tensor have one part"
    return x.seen(view)


def _slice(at: Site) -> Sequence[Tensor] | None:
    x = at.input(0)
    if at.opset < 10:
        starts, ends = at.attribute("starts"), at.attribute("ends")
        axes, steps = at.attribute("axes"), None
    else:
        starts, ends, axes, steps = (at.integers(place) for place in (1, 2, 3, 4))
        if starts is None or ends is None or at.is_computed(3) or at.is_computed(4):
            return None
    along = range(len(starts)) if axes is None else axes
    for start, end, axis, step in zip(starts, ends, along, steps or [1] * len(starts), strict=True):
        axis %= len(x.shape)
        picked = range(x.shape[axis])[start:end:step]
        x = cut(at, x, axis, picked.start, picked.step, len(picked))
    return [x]


def _split(at: Site) -> Sequence[Tensor]:
    x = at.input(0)
    axis = at.attribute("axis", 0) % len(x.shape)
    found, start = [], 0
    for count in _counts(at, x.shape[axis]):
        # A part without elements is one that nothing reads.
        found.append(cut(at, x, axis, start, 1, count) if count else x)
        start += count
    return found


def _counts(at: Site, size: int) -> Sequence[int]:
    """Return the sizes of all parts of an axis; the shapes of those that nothing reads are not known."""
    given = at.attribute("split") if at.attribute("split") is not None else at.integers(1)
    if given is not None:
        return tuple(given)
    parts = len(at.node.outputs)
    each = -(-size // parts)
    return tuple(max(0, min(each, size - place * each)) for place in range(parts))


def _concat(at: Site) -> Sequence[Tensor]:
    shape = at.shape()
    axis = at.attribute("axis", 0) % len(shape)
    parts = [at.input(place) for place in range(len(at.inputs))]
    computed = [part for part in parts if at.build.content(part) is None]
    order = order_of(compact(max(computed or parts, key=lambda part: part.view.size).view))
    whole = at.build.new(dense(shape, order), parts[0].element)
    start = 0
    for part in parts:
        place = whole.view.slice(axis, start, 1, part.shape[axis])
        assert place is not None, "axes of a new tensor have one part"
        at.build.copy_into(part, whole.value, place)
        start += part.shape[axis]
    return [whole]


def _pad(at: Site) -> Sequence[Tensor] | None:
    x = at.input(0)
    pads = at.attribute("pads") if at.opset < 11 else at.integers(1)
    if pads is None or at.is_computed(2) or at.is_computed(3):
        return None
    given = at.constant(2)
    # Whole numbers of 64 bits are not all floats.
    fill = at.attribute("value", 0.0) if given is None else given.reshape(-1)[0].item()
    axes = at.integers(3) or range(len(x.shape))
    around = {axis % len(x.shape): (pads[k], pads[k + len(pads) // 2]) for k, axis in enumerate(axes)}
    if at.attribute("mode", "constant") != "constant":
        return [_repeated(at, x, around)]
    for axis, (before, after) in around.items():
        kept = x.shape[axis] + min(before, 0) + min(after, 0)
        if kept < 1:
            return None
        x = cut(at, x, axis, max(-before, 0), 1, kept)
    whole = at.build.new(dense(at.shape(), order_of(compact(x.view))), x.element)
    inside: View | None = whole.view
    for axis, (before, _) in around.items():
        assert inside is not None, "axes of a new tensor have one part"
        inside = inside.slice(axis, max(before, 0), 1, x.shape[axis])
    assert inside is not None, "axes of a new tensor have one part"
    at.build.copy_into(x, whole.value, inside, fill)
    return [whole]


def _repeated(at: Site, x: Tensor, around: dict[int, tuple[int, int]]) -> Tensor:
    """Pad by elements of the tensor itself, axis by axis: runs of them are copied to where they belong."""
    mode = at.attribute("mode")
    for axis, (before, after) in around.items():
        size = x.shape[axis]
        if not (before or after):
            continue
        index = [_source(place, size, mode) for place in range(-before, size + after)]
        shape = [*x.shape]
        shape[axis] = len(index)
        whole = at.build.new(dense(shape, order_of(compact(x.view))), x.element)
        for place, first, step, count in _runs(index):
            target = whole.view.slice(axis, place, 1, count)
            assert target is not None, "axes of a new tensor have one part"
            at.build.copy_into(cut(at, x, axis, first, step, count), whole.value, target)
        x = whole
    return x


def _source(place: int, size: int, mode: str) -> int:
    """Return which element stands at a place that may lie outside of an axis."""
    if mode == "edge":
        return min(max(place, 0), size - 1)
    if mode == "wrap":
        return place % size
    period = max(2 * (size - 1), 1)
    return min(place % period, period - place % period) % size


def _runs(index: Sequence[int]) -> list[tuple[int, int, int, int]]:
    """Split indices into runs of equal steps: where each begins, its first index, its step, its length.

    >>> _runs([2, 1, 0, 1, 2, 3, 3, 3])
    [(0, 2, -1, 3), (3, 1, 1, 3), (6, 3, 0, 2)]
    """
    runs, place = [], 0
    while place < len(index):
        end = place + 1
        step = index[end] - index[place] if end < len(index) else 1
        while end < len(index) and index[end] - index[end - 1] == step and abs(step) <= 1:
            end += 1
        runs.append((place, index[place], step, end - place))
        place = end
    return runs


def _depth_to_space(at: Site) -> Sequence[Tensor]:
    x, block = at.input(0), at.attribute("blocksize")
    n, c, h, w = x.shape
    if at.attribute("mode", "DCR") == "DCR":
        shape, order = (n, block, block, c // block**2, h, w), (0, 3, 4, 1, 5, 2)
    else:
        shape, order = (n, c // block**2, block, block, h, w), (0, 1, 4, 2, 5, 3)
    return [at.build.reshaped(at.build.reshaped(x, shape).transpose(order), at.shape())]


def _space_to_depth(at: Site) -> Sequence[Tensor]:
    x, block = at.input(0), at.attribute("blocksize")
    n, c, h, w = x.shape
    split = at.build.reshaped(x, (n, c, h // block, block, w // block, block))
    order = (0, 3, 5, 1, 2, 4) if at.attribute("mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    return [at.build.reshaped(split.transpose(order), at.shape())]


def _reverse_sequence(at: Site) -> Sequence[Tensor] | None:
    """Reverse the begin of every sequence of a batch, as long as constants say."""
    x, lengths = at.input(0), at.integers(1)
    time, batch = at.attribute("time_axis", 0), at.attribute("batch_axis", 1)
    steps = x.shape[time]
    if lengths is None or any(not 0 <= length <= steps for length in lengths):
        return None
    if all(length == steps for length in lengths):
        return [cut(at, x, time, steps - 1, -1, steps)]
    whole = at.build.new(dense(x.shape, order_of(compact(x.view))), x.element)
    for place, first, step, count in _runs(lengths):
        # Neighbours of one length are reversed together.
        for sample, number in ((place, count),) if not step else ((place + k, 1) for k in range(count)):
            length = first + step * (sample - place)
            some = cut(at, x, batch, sample, 1, number)
            for begin, source, way, size in ((0, length - 1, -1, length), (length, length, 1, steps - length)):
                if size:
                    target = whole.view.slice(batch, sample, 1, number)
                    target = target and target.slice(time, begin, 1, size)
                    assert target is not None, "axes of a new tensor have one part"
                    at.build.copy_into(cut(at, some, time, source, way, size), whole.value, target)
    return [whole]


def _cast(at: Site) -> Sequence[Tensor] | None:
    x, to = at.input(0), at.node.outputs[0].dtype
    return [x] if to is not None and to.numpy().name == x.element else None


def _shape(at: Site) -> Sequence[Tensor]:
    shape = at.input(0).shape
    sizes = shape[at.attribute("start", 0) : at.attribute("end", len(shape))]
    return [at.build.constant(np.array(sizes, np.int64))]


def _size(at: Site) -> Sequence[Tensor]:
    return [at.build.constant(np.array(math.prod(at.input(0).shape), np.int64))]


RULES: Rules = {
    "Cast": _cast,
    "CastLike": _cast,
    "Concat": _concat,
    "DepthToSpace": _depth_to_space,
    "Dropout": _dropout,
    "Expand": _expand,
    "EyeLike": _eye_like,
    "Flatten": _reshape,
    "Identity": _same,
    "Pad": _pad,
    "Reshape": _reshape,
    "ReverseSequence": _reverse_sequence,
    "Shape": _shape,
    "Size": _size,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _reshape,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _reshape,
}
"""Rules for tensors of any element type."""
