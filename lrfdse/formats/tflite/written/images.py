"""What slides over images, and what takes one number of each channel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lrfdse.formats.tflite.parts import SAME, VALID
from lrfdse.formats.tflite.written.graph import UnsupportedError
from lrfdse.formats.tflite.written.site import Rule, Rules, Site

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Window:
    """A window over rows and columns."""

    kernel: Pair
    strides: Pair
    dilations: Pair
    pads: tuple[int, int, int, int]
    """Above, left, below, right."""
    size: Pair
    """Of what it slides over."""

    @property
    def same(self) -> tuple[int, int, int, int]:
        """The padding that is called SAME."""
        totals = [
            max((math.ceil(size / stride) - 1) * stride + reach - size, 0)
            for size, stride, reach in zip(self.size, self.strides, self.reach, strict=True)
        ]
        return (totals[0] // 2, totals[1] // 2, totals[0] - totals[0] // 2, totals[1] - totals[1] // 2)

    @property
    def reach(self) -> Pair:
        """Rows and columns from the first to the last that it reads."""
        rows, columns = ((size - 1) * step + 1 for size, step in zip(self.kernel, self.dilations, strict=True))
        return rows, columns

    @property
    def outputs(self) -> Pair:
        """Rows and columns of what it gives."""
        rows, columns = (
            (self.size[i] + self.pads[i] + self.pads[2 + i] - self.reach[i]) // self.strides[i] + 1 for i in range(2)
        )
        return rows, columns


def _window(site: Site, kernel: Sequence[int]) -> _Window:
    shape = site.shape()
    if len(shape) != 4 or len(kernel) != 2:
        raise UnsupportedError(f"its input has {len(shape)} axes, not 4")
    strides, dilations = (_pair(site.attribute(name, (1, 1))) for name in ("strides", "dilations"))
    above, left, below, right = (int(pad) for pad in site.attribute("pads", (0, 0, 0, 0)))
    found = _Window(_pair(kernel), strides, dilations, (above, left, below, right), _pair(shape[2:]))
    how = site.attribute("auto_pad", "NOTSET")
    if how in ("SAME_UPPER", "SAME_LOWER"):
        above, left, below, right = found.same
        pads = (above, left, below, right) if how == "SAME_UPPER" else (below, right, above, left)
        found = _Window(found.kernel, strides, dilations, pads, found.size)
    if min(found.pads) < 0 or found.outputs != _pair(site.sizes[2:]):
        raise UnsupportedError("its padding is unusual")
    return found


def _pair(numbers: Sequence[int]) -> Pair:
    rows, columns = (int(number) for number in numbers)
    return rows, columns


def _padded(site: Site, window: _Window, fill: float = 0.0) -> tuple[int, int]:
    """Return the input with channels last, padded where its padding has no name, and the name's number."""
    image, pads = site.g.last(site.input()), window.pads
    if not any(pads) or pads == window.same:
        return image, SAME if any(pads) else VALID
    n, channels, rows, columns = site.shape()
    sizes = (n, rows + pads[0] + pads[2], columns + pads[1] + pads[3], channels)
    widths = site.g.integers([[0, 0], [pads[0], pads[2]], [pads[1], pads[3]], [0, 0]])
    if fill:
        return site.op("PADV2", [image, widths, site.number(fill)], sizes, "PadV2Options"), VALID
    return site.op("PAD", [image, widths], sizes, "PadOptions"), VALID


def _convolution(site: Site) -> None:
    site.constant(1, "weight")
    name, shape, group = site.input(1), site.shape(1), int(site.attribute("group", 1))
    window = _window(site, shape[2:])
    channels = site.shape()[1]
    image, padding = _padded(site, window)
    bias = np.zeros(shape[0], np.float32) if not site.given(2) else site.constant(2, "bias")
    is_depthwise = 1 < group == channels
    weight = site.g.weight(name, (1, 2, 3, 0) if is_depthwise else (0, 2, 3, 1))
    values = {
        "padding": padding,
        "strideH": window.strides[0],
        "strideW": window.strides[1],
        "dilationHFactor": window.dilations[0],
        "dilationWFactor": window.dilations[1],
    }
    if is_depthwise:
        values["depthMultiplier"] = shape[0] // channels
    kind, options = ("DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions") if is_depthwise else ("CONV_2D", "Conv2DOptions")
    operands = [image, weight, site.g.constant(bias, "bias")]
    site.give(site.op(kind, operands, site.ordered(site.sizes, True), options, **values), True)


def _pool(kind: str) -> Rule:
    def rule(site: Site) -> None:
        if len(site.node.output) > 1:
            raise UnsupportedError("its indices are read")
        window = _window(site, site.attribute("kernel_shape", ()))
        if window.dilations != (1, 1):
            raise UnsupportedError("it is dilated")
        is_average = kind == "AVERAGE_POOL_2D"
        counts = bool(site.attribute("count_include_pad", 0))
        if is_average and any(window.pads) and not counts and window.pads != window.same:
            raise UnsupportedError("it leaves a padding out that has no name")
        image, padding = _padded(site, window, 0.0 if is_average else float(np.finfo(np.float32).min))
        if is_average and counts and padding == SAME:
            raise UnsupportedError("it counts its padding")
        values = {
            "padding": padding,
            "strideH": window.strides[0],
            "strideW": window.strides[1],
            "filterHeight": window.kernel[0],
            "filterWidth": window.kernel[1],
        }
        site.give(site.op(kind, [image], site.ordered(site.sizes, True), "Pool2DOptions", **values), True)

    return rule


def _global(kind: str) -> Rule:
    def rule(site: Site) -> None:
        _reduced(site, kind, list(range(2, len(site.shape()))), True)

    return rule


def _reduce(kind: str) -> Rule:
    def rule(site: Site) -> None:
        axes, rank = site.numbers("axes", 1, None), len(site.shape())
        if not axes and site.attribute("noop_with_empty_axes", 0):
            raise UnsupportedError("it reduces nothing")
        _reduced(site, kind, axes or list(range(rank)), bool(site.attribute("keepdims", 1)))

    return rule


def _reduced(site: Site, kind: str, axes: list[int], keeps: bool) -> None:
    """Reduce with channels last where the input is so, and the result tells no difference."""
    rank = len(site.shape())
    found = sorted(axis % rank for axis in axes)
    last = rank == 4 and site.g.is_last(site.input()) and (keeps or {2, 3} <= set(found))
    value = site.g.last(site.input()) if last else site.plain()
    sizes = site.ordered(site.sizes, last and keeps)
    stored = site.g.integers(site.moved(found, last))
    site.give(site.op(kind, [value, stored], sizes, "ReducerOptions", keepDims=keeps), last and keeps)


RULES: Rules = {
    "Conv": _convolution,
    "MaxPool": _pool("MAX_POOL_2D"),
    "AveragePool": _pool("AVERAGE_POOL_2D"),
    "GlobalAveragePool": _global("MEAN"),
    "GlobalMaxPool": _global("REDUCE_MAX"),
    "ReduceMean": _reduce("MEAN"),
    "ReduceSum": _reduce("SUM"),
    "ReduceMax": _reduce("REDUCE_MAX"),
}
"""The rules of this family."""
