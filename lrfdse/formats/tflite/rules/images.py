"""What slides over images: convolutions, pools, and what changes rows and columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lrfdse.formats.tflite.builder import Rules, Site, UnsupportedError
from lrfdse.formats.tflite.flatbuffer import Tensor

_SAME = 0
"""The schema's number of the padding by which the output has as many pixels as the input (Padding.SAME)."""


def _convolution(site: Site) -> None:
    weight = site.input(1)
    if len(weight.shape) != 4:
        raise UnsupportedError("its weight has not four axes")
    channels = site.input().shape[-1]
    if not weight.shape[3] or channels % weight.shape[3]:
        raise UnsupportedError(f"its weight does not fit {channels} channels")
    _slide(site, (0, 3, 1, 2), weight.shape[1:3], channels // weight.shape[3])


def _depthwise(site: Site) -> None:
    weight, channels = site.input(1), site.input().shape[-1]
    if len(weight.shape) != 4 or weight.shape[0] != 1 or not channels or weight.shape[3] % channels:
        raise UnsupportedError(f"its weight does not fit {channels} channels")
    _slide(site, (3, 0, 1, 2), weight.shape[1:3], channels)


def _slide(site: Site, order: Sequence[int], kernel: Sequence[int], group: int) -> None:
    """Write a convolution; the stored weight turns into ONNX's order of axes, (outputs, inputs, rows, columns)."""
    tensor = site.input(1)
    found = site.g.constants.get(tensor.index)
    if found is None:
        weight = site.op("Transpose", [site.plain(1)], perm=list(order))
    else:
        weight = _stored_once(site, tensor, found.transpose(order))
    operands = [_image(site), weight, *([site.plain(2)] if site.given(2) else [])]
    attributes = _window(site, kernel, _pair(site, "dilation", "Factor"))
    site.finish(site.op("Conv", operands, group=group, **attributes), first=True)


def _stored_once(site: Site, tensor: Tensor, array: Any) -> str:
    """Store a turned weight under a name of its own tensor, once for all that share it."""
    from onnx import numpy_helper

    name = f"{tensor.name}/kernel"
    if name not in site.g.initializers:
        site.g.initializers[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
    if tuple(site.g.initializers[name].dims) == array.shape:
        return name
    # Another operator reads the same tensor in another order of axes.
    return site.g.constant(array, name)


def _pool(op_type: str, **attributes: Any) -> Any:
    def rule(site: Site) -> None:
        kernel = [site.option("filterHeight"), site.option("filterWidth")]
        value = site.op(op_type, [_image(site)], **_window(site, kernel, None), **attributes)
        site.finish(value, first=True)

    return rule


def _image(site: Site, place: int = 0) -> str:
    if len(site.input(place).shape) != 4:
        raise UnsupportedError("its input has not four axes")
    return site.g.channels_first(site.input(place).index)


def _pair(site: Site, before: str, after: str) -> list[int]:
    """Return an option of rows and columns; a size of 1 where it is not set."""
    return [max(1, int(site.option(f"{before}{axis}{after}", 1))) for axis in ("H", "W")]


def _window(site: Site, kernel: Sequence[int], dilations: list[int] | None) -> dict[str, Any]:
    """Return the attributes of a window: its padding as numbers, where sizes are known."""
    strides, kernel = _pair(site, "stride", ""), [int(size) for size in kernel]
    if min(*kernel, *strides) < 1:
        raise UnsupportedError("its window is empty")
    pads = [0, 0, 0, 0]
    if site.option("padding") == _SAME:
        for axis in range(2):
            size = site.input().shape[1 + axis]
            reach = (kernel[axis] - 1) * (dilations or (1, 1))[axis] + 1
            total = max((math.ceil(size / strides[axis]) - 1) * strides[axis] + reach - size, 0)
            pads[axis], pads[2 + axis] = total // 2, total - total // 2
    found = {"kernel_shape": kernel, "strides": strides, "pads": pads}
    return found if dilations is None else {**found, "dilations": dilations}


def _transposed_convolution(site: Site) -> None:
    """Write TRANSPOSE_CONV, whose first input is the size of the output, as ConvTranspose."""
    sizes, weight = site.integers(0, "output size"), site.constant(1, "weight")
    strides = _pair(site, "stride", "")
    if len(sizes) != 4 or weight.ndim != 4:
        raise UnsupportedError("its sizes have not four axes")
    kernel, pads, more = list(weight.shape[1:3]), [0, 0, 0, 0], [0, 0]
    for axis in range(2):
        whole = (site.input(2).shape[1 + axis] - 1) * strides[axis] + kernel[axis]
        total = max(whole - sizes[1 + axis], 0)
        more[axis] = max(sizes[1 + axis] - whole, 0)
        pads[axis], pads[2 + axis] = total // 2, total - total // 2
    stored = _stored_once(site, site.input(1), weight.transpose(3, 0, 1, 2))
    operands = [_image(site, 2), stored, *([site.plain(3)] if site.given(3) else [])]
    attributes = {"kernel_shape": kernel, "strides": strides, "pads": pads, "output_padding": more}
    site.finish(site.op("ConvTranspose", operands, **attributes), first=True)


def _resize(mode: str) -> Any:
    def rule(site: Site) -> None:
        source, sizes = site.input(), site.integers(1, "size")
        if len(sizes) != 2 or len(source.shape) != 4 or 0 in source.shape:
            raise UnsupportedError("its sizes are unusual")
        if site.option("alignCorners", False):
            how, nearest = "align_corners", "round_prefer_ceil"
        elif site.option("halfPixelCenters", False):
            how, nearest = "half_pixel", "round_prefer_ceil"
        else:
            how, nearest = "asymmetric", "floor"
        scales = np.array([1, 1, *(new / old for new, old in zip(sizes, source.shape[1:3], strict=True))], np.float32)
        stored = site.g.constant(scales, f"{site.name}/scales")
        attributes = {"mode": mode, "coordinate_transformation_mode": how}
        if mode == "nearest":
            attributes["nearest_mode"] = nearest
        site.finish(site.op("Resize", [_image(site), "", stored], **attributes), first=True)

    return rule


def _blocks(op_type: str) -> Any:
    def rule(site: Site) -> None:
        site.finish(site.op(op_type, [_image(site)], blocksize=int(site.option("blockSize"))), first=True)

    return rule


RULES: Rules = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "MAX_POOL_2D": _pool("MaxPool"),
    "AVERAGE_POOL_2D": _pool("AveragePool", count_include_pad=0),
    "TRANSPOSE_CONV": _transposed_convolution,
    "RESIZE_BILINEAR": _resize("linear"),
    "RESIZE_NEAREST_NEIGHBOR": _resize("nearest"),
    "DEPTH_TO_SPACE": _blocks("DepthToSpace"),
    "SPACE_TO_DEPTH": _blocks("SpaceToDepth"),
}
"""The rules of this family."""
