"""What moves elements, changes their type, or stores them: no arithmetic but that of levels."""

from __future__ import annotations

import numpy as np

from lrfdse.formats.tflite.written.graph import Levels, UnsupportedError
from lrfdse.formats.tflite.written.site import Rules, Site


def _reshape(site: Site) -> None:
    site.give(site.g.reshaped(site.plain(), site.sizes, site.output))


def _transpose(site: Site) -> None:
    rank = len(site.shape())
    order = [int(axis) for axis in site.attribute("perm", range(rank)[::-1])]
    site.give(site.g.turned(site.plain(), site.shape(), order, site.output))


def _identity(site: Site) -> None:
    if len([name for name in site.node.output if name]) > 1:
        raise UnsupportedError("its mask is read")
    site.g.alias(site.output, site.input())


def _cast(site: Site) -> None:
    before, after = site.g.value(site.input()).dtype, site.g.value(site.output).dtype
    if before == after:
        site.g.alias(site.output, site.input())
        return
    if after != np.float32:
        raise UnsupportedError(f"it makes {after} of {before}")
    site.give(site.g.cast(site.plain(), before, site.sizes, site.output))


def _concat(site: Site) -> None:
    places = range(len(site.node.input))
    last = len(site.sizes) == 4 and any(site.g.is_last(site.input(place)) for place in places)
    (axis,) = site.moved([int(site.attribute("axis", 0))], last)
    tensors = [site.g.last(site.input(place)) if last else site.plain(place) for place in places]
    made = site.op("CONCATENATION", tensors, site.ordered(site.sizes, last), "ConcatenationOptions", axis=axis)
    site.give(made, last)


def _slice(site: Site) -> None:
    starts, rank = site.numbers("starts", 1, None), len(site.shape())
    axes, steps = site.numbers("axes", 3, range(rank)), site.numbers("steps", 4, None)
    if starts is None or axes is None or any(step != 1 for step in steps or ()):
        raise UnsupportedError("its steps are not 1")
    begin = [0] * rank
    # Without axes the starts are those of the first ones.
    for axis, start in zip(axes, starts, strict=False):
        size = site.shape()[axis]
        begin[axis] = min(max(start + size if start < 0 else start, 0), size)
    stored = [site.g.integers(begin), site.g.integers(site.sizes)]
    site.give(site.g.like(site.plain(), "SLICE", stored, site.sizes, site.output, "SliceOptions"))


def _pad(site: Site) -> None:
    pads, rank = site.numbers("pads", 1, None), len(site.shape())
    if site.attribute("mode", "constant") != "constant" or site.given(3):
        raise UnsupportedError("it pads by other than one number, or along axes of an input")
    if pads is None or min(pads) < 0:
        raise UnsupportedError("it takes elements away")
    fill = float(site.constant(2, "fill")) if site.given(2) else float(site.attribute("value", 0.0))
    last = site.g.is_last(site.input())
    widths = site.g.integers(site.ordered([list(each) for each in zip(pads[:rank], pads[rank:], strict=True)], last))
    value, sizes = site.g.last(site.input()) if last else site.plain(), site.ordered(site.sizes, last)
    if fill:
        site.give(site.op("PADV2", [value, widths, site.number(fill)], sizes, "PadV2Options"), last)
    else:
        site.give(site.op("PAD", [value, widths], sizes, "PadOptions"), last)


def _dequantize(site: Site) -> None:
    """Take a stored tensor of int8 as levels with scales; one with a zero point, or of another type, as its numbers."""
    whole, scale = site.constant(0, "input"), site.constant(1, "scale").astype(np.float32)
    zero = site.constant(2, "zero point") if site.given(2) else np.zeros((), np.int8)
    if scale.ndim > 1 or site.attribute("block_size", 0):
        raise UnsupportedError("it has a scale for each block")
    axis, sizes = int(site.attribute("axis", 1)) % max(whole.ndim, 1), [1] * whole.ndim
    if scale.size > 1:
        sizes[axis] = scale.size
    # Differences of whole numbers are taken in int32, as ONNX defines it.
    difference = whole.astype(np.int32) - zero.astype(np.int32).reshape(sizes if zero.size > 1 else ())
    site.g.constants[site.output] = (difference.astype(np.float32) * scale.reshape(sizes)).astype(np.float32)
    if whole.dtype == np.int8 and whole.ndim > 1 and not zero.any():
        if scale.size == 1:
            axis = 0
        site.g.levels[site.output] = Levels(whole, np.broadcast_to(scale.reshape(-1), (whole.shape[axis],)), axis)


RULES: Rules = {
    "Reshape": _reshape,
    "Flatten": _reshape,
    "Squeeze": _reshape,
    "Unsqueeze": _reshape,
    "Transpose": _transpose,
    "Identity": _identity,
    "Dropout": _identity,
    "Cast": _cast,
    "Concat": _concat,
    "Slice": _slice,
    "Pad": _pad,
    "DequantizeLinear": _dequantize,
}
"""The rules of this family."""
