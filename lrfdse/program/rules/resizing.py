"""Images and sequences of another size: every output row and column is between some of the input.

Coordinates are computed as onnxruntime computes them, in float32: which pixel is nearest, or on which side of one a
coordinate lies, is decided by their last bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lrfdse.ir.operators import Interpolation
from lrfdse.program.build import Tensor
from lrfdse.program.contraction import contract
from lrfdse.program.layout import dense
from lrfdse.program.rules.convolutions import CHANNELS_LAST, as_before, as_image
from lrfdse.program.site import Rules, Site

if TYPE_CHECKING:
    from numpy.typing import NDArray

Line = tuple[int, int, float]
"""Low, high and fraction of an output row or column."""

CUBIC = -0.75
"""ONNX's default of Resize's attribute cubic_coeff_a."""


def _resize(at: Site) -> Sequence[Tensor] | None:
    mode = at.attribute("mode", "nearest")
    first = at.node.op_type == "Upsample" or at.opset < 11
    transform = "asymmetric" if first else at.attribute("coordinate_transformation_mode", "half_pixel")
    if mode not in ("nearest", "linear", "cubic") or transform == "tf_crop_and_resize" or at.attribute("antialias", 0):
        return None
    x = as_image(at.input(0))
    if x is None:
        return None
    rank, shape = len(at.input(0).shape), at.shape()
    large = (1, shape[2]) if rank == 3 else (shape[2], shape[3])
    if shape[:2] != x.shape[:2]:
        return None
    if large == x.shape[2:]:
        # Onnxruntime copies it, though scales such as 1.2 of three pixels may say something else.
        return [at.input(0)]
    scales = _scales(at, x.shape[2:], large)
    if scales is None:
        return None
    sizes = list(zip(x.shape[2:], large, scales, strict=True))
    places = [_originals(size, count, scale, transform) for size, count, scale in sizes]
    if mode == "cubic":
        if rank == 4 and all(size * scale == count for size, count, scale in sizes):
            # TVM's importer goes by the sizes, which is as good where they say what the scales do.
            return None
        for axis, (size, _, scale) in enumerate(sizes, 2):
            if scale != 1:
                x = contract(at.build, x, axis, _cubic(at, places[axis - 2], size))
        return [as_before(x, rank)]
    nearest = at.attribute("nearest_mode", "round_prefer_floor")
    rows, columns = (
        tuple(
            _line(float(place), size, mode, ("ceil" if scale < 1 else "floor") if first else nearest) for place in line
        )
        for line, (size, _, scale) in zip(places, sizes, strict=True)
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
        return _ratio(large[0], small[0]), _ratio(large[1], small[1])
    by_axis = dict(zip([axis % rank for axis in axes] if axes else range(rank), map(float, given), strict=True))
    if rank == 3:
        return 1.0, by_axis.get(2, 1.0)
    return by_axis.get(2, 1.0), by_axis.get(3, 1.0)


def _ratio(count: int, size: int) -> float:
    return float(np.float32(count) / np.float32(size))


_TIE = 1e-6
"""How near to the middle between two pixels a coordinate is it for onnxruntime 1.2x. Seen: all pixels of images of 2 to
59 pixels agree at 79 scales."""

_ROUNDINGS: dict[str, Callable[[float], int]] = {
    "ceil": math.ceil,
    "floor": math.floor,
    "round_prefer_ceil": lambda x: math.floor(x + 0.5 + _TIE),
    "round_prefer_floor": lambda x: math.ceil(x - 0.5 - _TIE),
}


def _line(at: float, size: int, mode: str, nearest: str) -> Line:
    """Return what an output row or column is made of."""
    if mode == "nearest":
        low = min(max(_ROUNDINGS[nearest](at), 0), size - 1)
        return low, low, 0.0
    at = min(max(at, 0.0), size - 1.0)
    low = min(math.floor(at), size - 1)
    return low, min(low + 1, size - 1), at - low


def _cubic(at: Site, places: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Return the matrix of shape (outputs, size) of a cubic interpolation along one axis."""
    a, outside = at.attribute("cubic_coeff_a", CUBIC), bool(at.attribute("exclude_outside", 0))
    matrix = np.zeros((len(places), size))
    for row, place in zip(matrix, map(float, places), strict=True):
        low = math.floor(place)
        index = np.arange(low - 1, low + 3)
        far = np.abs(place - index)
        near = ((a + 2) * far - (a + 3)) * far**2 + 1
        weights = np.where(far <= 1, near, ((a * far - 5 * a) * far + 8 * a) * far - 4 * a)
        if outside:
            weights = np.where((index >= 0) & (index < size), weights, 0.0)
            weights = weights / weights.sum()
        np.add.at(row, np.clip(index, 0, size - 1), weights)
    return matrix.astype(np.float32)


def _originals(size: int, count: int, scale: float, transform: str) -> NDArray[np.float32]:
    """Return the coordinates in the input of all outputs, as ONNX's `coordinate_transformation_mode` says."""
    place, step, half = np.arange(count, dtype=np.float32), np.float32(scale), np.float32(0.5)
    if scale == 1:
        return place
    if transform == "asymmetric":
        return place / step
    if transform == "align_corners":
        # By whole sizes, as onnxruntime and PyTorch have it; ONNX's reference goes by the product with the scale.
        return place * np.float32(size - 1) / np.float32(count - 1) if count > 1 else 0 * place
    if transform == "tf_half_pixel_for_nn":
        return (place + half) / step
    if transform == "pytorch_half_pixel" and count == 1:
        return 0 * place
    moved = np.float32(0)
    if transform == "half_pixel_symmetric":
        adjustment = np.float32(count) / (step * np.float32(size))
        moved = np.float32(size / 2) * (np.float32(1) - adjustment)
    return moved + (place + half) / step - half


RULES: Rules = {"Resize": _resize, "Upsample": _resize}
"""Rules for float32 tensors."""
