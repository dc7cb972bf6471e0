"""Quantizing and dequantizing: what is known of a rounded tensor, so that products of it can be of whole numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lrfdse.ir.quantized import LEVELS, Rounding
from lrfdse.program.broadcast import Writer
from lrfdse.program.build import Rounded, Tensor
from lrfdse.program.foreign import foreign
from lrfdse.program.layout import dense
from lrfdse.program.site import Rules, Site

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LOWEST = {"int8": -128, "uint8": 0}
"""The least number of each type of 8 bits."""


def _quantize(at: Site) -> Sequence[Tensor] | None:
    if not at.inputs or at.input(0).element != "float32":
        return None
    # Nothing is left of it where only its floats are read.
    (made,) = foreign(at)
    rounding = _rounding(at, made.element)
    if rounding is not None:
        source = at.build.compacted(at.input(0))
        at.build.rounded[made.value] = Rounded(source, rounding)
    return [made]


def _dequantize(at: Site) -> Sequence[Tensor] | None:
    if at.node.outputs[0].dtype is None or str(at.node.outputs[0].dtype.numpy().name) != "float32":
        return None
    levels = at.constant(0)
    if levels is not None:
        return _constant(at, levels)
    known = at.build.rounded.get(at.input(0).value)
    rounding = _rounding(at, at.input(0).element)
    if known is None or rounding != known.rounding or at.input(0).view != dense(known.source.shape):
        return None
    write = Writer()
    factor = float(np.float32(1) / np.float32(rounding.scale))
    level = write("round", write("mul", write.input(0), factor))
    bounded = write("max", write("min", level, float(rounding.most)), float(rounding.least))
    write("mul", bounded, rounding.scale)
    floats = at.apply(write.formula, known.source)
    at.build.rounded[floats.value] = known
    return [floats]


def _rounding(at: Site, element: str) -> Rounding | None:
    """Return how a tensor is rounded to 8 bits as a whole, or None of any other rounding."""
    scale, zero = at.constant(1), at.constant(2)
    if element not in _LOWEST or scale is None or scale.size != 1 or scale.dtype != np.float32:
        return None
    if at.has(2) and zero is None:
        return None
    least = _LOWEST[element] - (0 if zero is None else int(zero.ravel()[0]))
    value = float(scale.ravel()[0])
    # Far smaller ones have no reciprocal.
    if not (np.finfo(np.float32).tiny < value < np.finfo(np.float32).max) or not -LEVELS < least <= 0:
        return None
    return Rounding(value, least)


def _constant(at: Site, levels: NDArray[Any]) -> Sequence[Tensor] | None:
    """Return a constant as floats, and keep the scale of each of its elements."""
    scale, zero = at.constant(1), at.constant(2)
    if scale is None or (at.has(2) and zero is None) or at.attribute("block_size", 0):
        return None
    if levels.dtype.kind not in "iu" or scale.dtype != np.float32:
        return None
    shape = [1] * levels.ndim
    if scale.size != 1:
        axis = at.attribute("axis", 1)
        if not levels.ndim or scale.size != levels.shape[axis]:
            return None
        shape[axis] = scale.size
    scales = np.broadcast_to(scale.reshape(shape if scale.size != 1 else ()), levels.shape)
    shift = 0 if zero is None else zero.astype(np.int64).reshape(shape if zero.size != 1 else ())
    whole = (levels.astype(np.int64) - shift).astype(np.float32)
    made = at.build.constant(np.ascontiguousarray(whole * scales))
    at.build.scales.setdefault(made.value, np.ascontiguousarray(scales).ravel())
    return [made]


RULES: Rules = {"DequantizeLinear": _dequantize, "QuantizeLinear": _quantize}
"""Rules for tensors of every element type."""
