"""Convolutions and transposed convolutions of images and of sequences, channels innermost."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lrfdse.ir.products import Convolution, TransposedConvolution
from lrfdse.ir.window import Window, same_pads
from lrfdse.program.broadcast import Writer
from lrfdse.program.build import Builder, Tensor
from lrfdse.program.contraction import contract
from lrfdse.program.layout import View, dense
from lrfdse.program.quantized import convolve, levels_of, multiply
from lrfdse.program.site import Rules, Site

CHANNELS_LAST = (0, 2, 3, 1)
"""The order in which the axes of an image lie: batch, height, width, channels."""


def as_image(x: Tensor) -> Tensor | None:
    """Return a sequence of shape (batch, channels, size) as an image of height 1, an image as it is, or None."""
    if len(x.shape) == 3:
        return x.seen(x.view.insert(2))
    return x if len(x.shape) == 4 else None


def as_before(y: Tensor, rank: int) -> Tensor:
    """Return an image as the tensor of so many axes that it stands for."""
    return y if rank == 4 else y.seen(View((*y.view.axes[:2], y.view.axes[3]), y.view.offset))


def window_of(at: Site, image: tuple[int, int], kernel: Sequence[int], ceil: bool = False) -> Window:
    """Return the window that the attributes of a convolution or pooling describe."""
    one_dimensional = len(kernel) == 1

    def pair(name: str) -> tuple[int, int]:
        given = at.attribute(name) or [1] * len(kernel)
        return (1, given[0]) if one_dimensional else (given[0], given[1])

    size = (1, kernel[0]) if one_dimensional else (kernel[0], kernel[1])
    strides, dilations = pair("strides"), pair("dilations")
    given = at.attribute("pads") or [0] * (2 * len(kernel))
    pads = (0, given[0], 0, given[1]) if one_dimensional else (given[0], given[1], given[2], given[3])
    mode = at.attribute("auto_pad", "NOTSET")
    if mode == "VALID":
        pads = (0, 0, 0, 0)
    elif mode != "NOTSET":
        pads = same_pads(image, size, strides, dilations, mode == "SAME_UPPER")
    return Window(at.input(0).shape[0], image, size, strides, dilations, pads, ceil)


def _conv(at: Site) -> Sequence[Tensor] | None:
    x, weight = as_image(at.input(0)), at.constant(1)
    if x is None or weight is None:
        return None
    groups = at.attribute("group", 1)
    window = window_of(at, (x.shape[2], x.shape[3]), weight.shape[2:])
    outputs, channels = weight.shape[0], x.shape[1]
    if min(window.out) < 1:
        return None

    def turned_of(given: np.ndarray) -> np.ndarray:
        # (outputs, channels of a group, height, width) becomes (outputs, height, width, channels of a group).
        return given.reshape(outputs, channels // groups, *window.kernel).transpose(0, 2, 3, 1)

    turned, scales = turned_of(weight), at.build.content_scales(at.input(1))
    if scales is not None and groups == 1:
        y = _quantized(at.build, x, turned, turned_of(scales), window)
        if y is not None:
            return [_biased(at, as_before(y, len(at.input(0).shape)))]
    x = at.build.ordered(x, CHANNELS_LAST)
    levels = None if scales is None else turned_of(scales)
    y = _as_product(at.build, x, turned, levels, window) if groups == 1 else None
    if y is None:
        y = at.build.new(dense((window.batch, outputs, *window.out), CHANNELS_LAST))
        # Code works on rows of pixels: a column would be one pixel a row.
        operator = Convolution(window.lying, channels, outputs, groups)
        at.build.call(operator, x.value, at.build.constant(turned).value, y.value)
    return [_biased(at, as_before(y, len(at.input(0).shape)))]


def _quantized(build: Builder, x: Tensor, weight: np.ndarray, scales: np.ndarray, window: Window) -> Tensor | None:
    """Return a convolution in whole numbers, or None where it is not one of them."""
    known, outputs = build.rounded.get(x.value), len(weight)
    whole = levels_of(weight.reshape(outputs, -1), scales.reshape(outputs, -1)) if known is not None else None
    if known is None or whole is None:
        return None
    source = build.ordered(Tensor(known.source.value, x.view), CHANNELS_LAST)
    y = build.new(dense((window.batch, outputs, *window.out), CHANNELS_LAST))
    if window.kernel == (1, 1) and window.strides == (1, 1) and not any(window.pads):
        multiply(build, source.value, window.batch * math.prod(window.out), whole, known.rounding, y.value)
    else:
        convolve(build, source.value, window.lying, whole, known.rounding, y.value)
    return y


def _as_product(
    build: Builder, x: Tensor, weight: np.ndarray, scales: np.ndarray | None, window: Window
) -> Tensor | None:
    """Return a convolution as a product over pixels, or over whole images, where it is one."""
    outputs = weight.shape[0]
    each = None if scales is None else scales.reshape(outputs, -1)
    if any(window.pads) or (window.dilations != (1, 1) and window.kernel != (1, 1)):
        return None
    if window.kernel == (1, 1) and window.strides == (1, 1):
        return contract(build, x, 1, weight.reshape(outputs, -1), each)
    if window.kernel == window.image:
        flat = build.reshaped(x.transpose(CHANNELS_LAST), (window.batch, math.prod(x.shape[1:])))
        y = contract(build, flat, 1, weight.reshape(outputs, -1), each)
        return build.reshaped(y, (window.batch, outputs, 1, 1))
    return None


def _conv_transpose(at: Site) -> Sequence[Tensor] | None:
    x, weight = as_image(at.input(0)), at.constant(1)
    if x is None or weight is None or at.attribute("group", 1) != 1:
        return None
    kernel, rank = weight.shape[2:], len(at.input(0).shape)
    small = (x.shape[2], x.shape[3])
    shape = at.shape()
    large = (1, shape[2]) if rank == 3 else (shape[2], shape[3])
    size = (1, kernel[0]) if rank == 3 else (kernel[0], kernel[1])
    strides = at.attribute("strides") or [1] * len(kernel)
    dilations = at.attribute("dilations") or [1] * len(kernel)
    steps = (1, strides[0]) if rank == 3 else (strides[0], strides[1])
    holes = (1, dilations[0]) if rank == 3 else (dilations[0], dilations[1])
    pads = _transposed_pads(at, small, large, size, steps, holes)
    if min(pads) < 0:
        return None
    window = Window(x.shape[0], large, size, steps, holes, pads)
    if window.out != small:
        return None
    outputs = weight.shape[1]
    turned = weight.reshape(x.shape[1], outputs, *size).transpose(0, 2, 3, 1)
    x = at.build.ordered(x, CHANNELS_LAST)
    y = at.build.new(dense((x.shape[0], outputs, *large), CHANNELS_LAST))
    operator = TransposedConvolution(window, x.shape[1], outputs)
    at.build.call(operator, x.value, at.build.constant(turned).value, y.value)
    return [_biased(at, as_before(y, rank))]


def _transposed_pads(
    at: Site,
    small: tuple[int, int],
    large: tuple[int, int],
    kernel: tuple[int, int],
    strides: tuple[int, int],
    dilations: tuple[int, int],
) -> tuple[int, int, int, int]:
    """Return what is cut off around the result: given, or, where the output's shape is, what is too much."""
    given = at.attribute("pads")
    mode = at.attribute("auto_pad", "NOTSET")
    rank = len(at.input(0).shape)
    if at.attribute("output_shape") is None and mode in ("NOTSET", "VALID"):
        given = given if given and mode == "NOTSET" else [0] * (2 * rank - 4)
        return (0, given[0], 0, given[1]) if rank == 3 else (given[0], given[1], given[2], given[3])
    extra = at.attribute("output_padding") or [0] * (rank - 2)
    extra = [0, *extra] if rank == 3 else extra
    total = [strides[k] * (small[k] - 1) + extra[k] + (kernel[k] - 1) * dilations[k] + 1 - large[k] for k in (0, 1)]
    less, more = [each // 2 for each in total], [each - each // 2 for each in total]
    begin, end = (less, more) if mode == "SAME_UPPER" else (more, less)
    return begin[0], begin[1], end[0], end[1]


def _biased(at: Site, y: Tensor) -> Tensor:
    if not at.has(2):
        return y
    bias = at.input(2)
    for _ in y.shape[2:]:
        bias = bias.seen(bias.view.insert(len(bias.shape)))
    write = Writer()
    write("add", write.input(0), write.input(1))
    return at.apply(write.formula, y, bias)


RULES: Rules = {"Conv": _conv, "ConvTranspose": _conv_transpose}
"""Rules for float32 tensors."""
