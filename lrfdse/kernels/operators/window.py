"""Where a sliding window lies inside of its image."""

from __future__ import annotations

from tvm import tirx

from lrfdse.ir.window import Window
from lrfdse.kernels.tir import Expr, Stmt, named


def inside(window: Window, axis: int) -> range:
    """Return the output positions along an axis at which the window lies inside of the image."""
    extent = window.dilations[axis] * (window.kernel[axis] - 1) + 1
    stride, pad = window.strides[axis], window.pads[axis]
    first = -(-pad // stride)
    last = (window.image[axis] - extent + pad) // stride
    size = window.out[axis]
    first = min(first, size)
    return range(first, max(first, min(last + 1, size)))


def taps(window: Window, axis: int, position: Expr, into: list[Stmt], behind: int = 0) -> tuple[Expr, Expr]:
    """Return the first and the last but one tap of a window that lies in the image, at an output position.

    With `behind` the image is as much longer, and begins with the padding before it: taps that count in a mean over it.
    """
    kernel, dilation = window.kernel[axis], window.dilations[axis]
    pad = window.pads[axis]
    first = position * window.strides[axis] - pad
    size = window.image[axis] + behind
    end = named(tirx.Min(_rounded_up(size - first, dilation), tirx.IntImm("int32", kernel)), into)
    begin = named(tirx.Max(_rounded_up(-first, dilation), tirx.IntImm("int32", 0)), into)
    return begin, end


def _rounded_up(value: Expr, divisor: int) -> Expr:
    return value if divisor == 1 else tirx.floordiv(value + (divisor - 1), divisor)
