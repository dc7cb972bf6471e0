"""Products of rounded tensors with constants that are levels times scales, as products of whole numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lrfdse.ir.epilogue import VALUE, Epilogue, Instruction, Operand
from lrfdse.ir.factorization import Step
from lrfdse.ir.products import FullyConnected
from lrfdse.ir.quantized import QuantizedConvolution, QuantizedProduct, Rounding
from lrfdse.ir.window import Window
from lrfdse.program.build import Builder

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LEAST, _MOST = -128, 127
"""The range of int8."""

_MOST_SUM = 2**31 - 1
"""The largest int32."""


@dataclass(frozen=True, slots=True)
class Levels:
    """A weight in whole numbers: ``scales[:, None] * levels``."""

    levels: NDArray[np.int8]
    """Shape (outputs, inputs)."""
    scales: NDArray[np.float32]
    """Shape (outputs,)."""


def levels_of(weight: NDArray[np.float32], scales: NDArray[np.float32] | None) -> Levels | None:
    """Return a weight in whole numbers, or None where it is not made of int8 with one scale an output.

    Parameters
    ----------
    weight
        Shape (outputs, inputs).
    scales
        What a level of each of its elements is worth, in the same shape; None where it is of floats.
    """
    if scales is None or not (scales == scales[:, :1]).all():
        return None
    each = scales[:, :1].astype(np.float64)
    if not (np.isfinite(each) & (each > 0)).all():
        return None
    levels = np.rint(weight / each)
    # Sums of so many products with 8 bits, and what is added to them, have to be an int32.
    room = np.abs(levels).sum(axis=1).max(initial=0.0) * 3 * -_LEAST < _MOST_SUM
    if not room or levels.min(initial=0) < _LEAST or levels.max(initial=0) > _MOST:
        return None
    return Levels(levels.astype(np.int8), scales[:, 0].copy())


def multiply(build: Builder, source: int, rows: int, weight: Levels, rounding: Rounding, result: int) -> None:
    """Add the product of rows of an array, which are rounded, and a weight."""
    out, inner = weight.levels.shape
    operator = QuantizedProduct(Step(rows, out, inner, 1), rounding, _SCALED)
    build.call(operator, source, *_constants(build, weight, rounding), result)


def widen(build: Builder, source: int, step: Step, weight: Levels, result: int) -> None:
    """Add the product of floats and a weight whose levels are stored, and become floats as they are read."""
    levels, worth = (build.constant(each).value for each in (weight.levels, weight.scales))
    build.call(FullyConnected(step, _SCALED, "int8"), source, levels, worth, result)


def convolve(build: Builder, source: int, window: Window, weight: Levels, rounding: Rounding, result: int) -> None:
    """Add the convolution of images, channels innermost, which are rounded."""
    outputs, inner = weight.levels.shape
    channels = inner // (window.kernel[0] * window.kernel[1])
    operator = QuantizedConvolution(window, channels, outputs, rounding, _SCALED)
    build.call(operator, source, *_constants(build, weight, rounding), result)


_SCALED = Epilogue((Instruction("mul", (VALUE, Operand("input"))),), ("channel",))
"""What makes true values of sums."""


def _constants(build: Builder, weight: Levels, rounding: Rounding) -> tuple[int, int, int]:
    """Return the arrays of the levels, of what is added to sums, and of what a unit of a sum is worth."""
    start = (rounding.shift * weight.levels.astype(np.int64).sum(axis=1)).astype(np.int32)
    worth = (weight.scales.astype(np.float64) * rounding.scale).astype(np.float32)
    return tuple(build.constant(each).value for each in (weight.levels, start, worth))  # type: ignore[return-value]
