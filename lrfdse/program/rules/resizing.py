"""Images and sequences of another size: every output row and column is between two of the input."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from lrfdse.ir.operators import Interpolation
from lrfdse.program.build import Tensor
from lrfdse.program.layout import dense
from lrfdse.program.rules.convolutions import CHANNELS_LAST, as_before, as_image
from lrfdse.program.site import Rules, Site

Line = tuple[int, int, float]
"""Low, high and fraction of an output row or column."""


def _resize(at: Site) -> Sequence[Tensor] | None:
    mode = at.attribute("mode", "nearest")
    transform = at.attribute("coordinate_transformation_mode", "half_pixel")
    if at.node.op_type == "Upsample" or at.opset < 11:
        transform = "asymmetric"
    cropped = transform == "tf_crop_and_resize"
    if mode not in ("nearest", "linear") or cropped or at.attribute("antialias", 0):
        return None
    x = as_image(at.input(0))
    if x is None:
        return None
    rank, shape = len(at.input(0).shape), at.shape()
    large = (1, shape[2]) if rank == 3 else (shape[2], shape[3])
    if shape[:2] != x.shape[:2]:
        return None
    scales = _scales(at, x.shape[2:], large)
    if scales is None:
        return None
    nearest = at.attribute("nearest_mode", "round_prefer_floor")
    if at.node.op_type == "Upsample" or at.opset < 11:
        nearest = "floor"
    rows, columns = (
        tuple(_line(place, size, count, scale, transform, mode, nearest) for place in range(count))
        for size, count, scale in zip(x.shape[2:], large, scales, strict=True)
    )
    x = at.build.ordered(x, CHANNELS_LAST)
    y = at.build.new(dense((*x.shape[:2], *large), CHANNELS_LAST))
    operator = Interpolation(x.shape[0], (x.shape[2], x.shape[3]), x.shape[1], rows, columns)
    at.build.call(operator, x.value, y.value)
    return [as_before(y, rank)]


def _scales(at: Site, small: Sequence[int], large: Sequence[int]) -> tuple[float, float] | None:
    """Return the scales of height and width: given, or from the sizes."""
    place = 1 if at.node.op_type == "Upsample" or at.opset < 11 else 2
    if at.is_computed(place) or at.is_computed(3):
        return None
    given = at.attribute("scales") if at.attribute("scales") is not None else at.constant(place)
    axes = at.attribute("axes")
    rank = len(at.input(0).shape)
    if given is None or not len(given):
        if at.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
            return None
        return large[0] / small[0], large[1] / small[1]
    by_axis = dict(zip([axis % rank for axis in axes] if axes else range(rank), map(float, given), strict=True))
    if rank == 3:
        return 1.0, by_axis.get(2, 1.0)
    return by_axis.get(2, 1.0), by_axis.get(3, 1.0)


_ROUNDINGS: dict[str, Callable[[float], int]] = {
    "ceil": math.ceil,
    "floor": math.floor,
    "round_prefer_ceil": lambda x: math.floor(x + 0.5),
    "round_prefer_floor": lambda x: math.ceil(x - 0.5),
}


def _line(place: int, size: int, count: int, scale: float, transform: str, mode: str, nearest: str) -> Line:
    """Return what an output row or column is made of."""
    at = _original(place, size, count, scale, transform)
    if mode == "nearest":
        low = min(max(_ROUNDINGS[nearest](at), 0), size - 1)
        return low, low, 0.0
    at = min(max(at, 0.0), size - 1.0)
    low = min(math.floor(at), size - 1)
    return low, min(low + 1, size - 1), at - low


def _original(place: int, size: int, count: int, scale: float, transform: str) -> float:
    """Return the coordinate in the input, as ONNX's `coordinate_transformation_mode` says."""
    length = size * scale
    if transform == "asymmetric":
        return place / scale
    if transform == "align_corners":
        # By whole sizes, as onnxruntime and PyTorch have it; ONNX's reference goes by the product with the scale.
        return place * (size - 1) / (count - 1) if count > 1 else 0.0
    if transform == "pytorch_half_pixel" and length <= 1:
        return 0.0
    if transform == "half_pixel_symmetric":
        adjustment = count / length
        centre = size / 2
        return centre * (1 - adjustment) + (place + 0.5) / scale - 0.5
    return (place + 0.5) / scale - 0.5


RULES: Rules = {"Resize": _resize, "Upsample": _resize}
"""Rules for float32 tensors."""
