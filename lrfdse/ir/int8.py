"""A matrix in whole numbers of 8 bits, with a scale for each of its outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LARGEST = 127
"""Largest level: symmetric int8 leaves -128 out, so that a level and its negative are both there (ONNX's and
onnxruntime's convention for weights)."""


@dataclass(frozen=True, slots=True, eq=False)
class Int8Matrix:
    """The matrix ``scales[:, None] * levels``."""

    levels: NDArray[np.int8]
    """Between -`LARGEST` and `LARGEST`, shape (outputs, inputs)."""
    scales: NDArray[np.float32]
    """What one level is worth, above 0, shape (outputs,)."""

    def dense(self) -> NDArray[np.float64]:
        """Return the matrix that is stood for, shape (outputs, inputs)."""
        import numpy as np

        return self.levels.astype(np.float64) * self.scales.astype(np.float64)[:, None]


_OFF = 1e-3
"""Part of a level by which an element may be off: 127 levels times float32's unit roundoff of 6e-8 is a hundredth of
it. Chosen, not measured."""


def levels_of(matrix: NDArray[np.floating], scales: NDArray[np.floating]) -> NDArray[np.int8]:
    """Return the levels of a matrix that is levels times scales, the products rounded to float32 or not.

    Parameters
    ----------
    matrix
        Shape (outputs, inputs).
    scales
        What one level is worth, shape (outputs,).

    Raises
    ------
    ValueError
        An element is no level.
    """
    import numpy as np

    exact = np.asarray(matrix, np.float64) / np.asarray(scales, np.float64)[:, None]
    exact = np.where(np.isfinite(exact), exact, np.finfo(np.float64).max)
    levels = np.rint(exact)
    if not (np.abs(exact - levels) <= _OFF).all() or not (np.abs(levels) <= LARGEST).all():
        raise ValueError("the matrix is not made of int8 levels with these scales")
    return levels.astype(np.int8)


def nearest(weight: NDArray[np.float64]) -> Int8Matrix:
    """Return a matrix with every element rounded to the nearest level of its output.

    The largest element of an output becomes the largest level. An output of zeros, or of elements too small for a
    normal float32 scale, has levels 0 and the scale 1.

    Parameters
    ----------
    weight
        Shape (outputs, inputs), finite and within float32.

    Raises
    ------
    ValueError
        There is NaN or Inf.
    """
    import numpy as np

    if not np.isfinite(weight).all():
        raise ValueError("a matrix with NaN or Inf cannot be rounded")
    limits = np.finfo(np.float32)
    largest = np.abs(weight).max(axis=1, initial=0.0)
    # The product of scale and level, taken in float32, must stay within it.
    scales = np.minimum(largest / LARGEST, np.nextafter(limits.max / np.float32(LARGEST), np.float32(0)))
    scales = np.where(scales < limits.tiny, 1.0, scales).astype(np.float32)
    return Int8Matrix(nearest_levels(weight, scales.astype(np.float64)[:, None]), scales)


def nearest_levels(weight: NDArray[np.float64], scales: NDArray[np.float64]) -> NDArray[np.int8]:
    """Return numbers as the nearest levels of scales, which broadcast against them."""
    import numpy as np

    return np.clip(np.rint(weight / scales), -LARGEST, LARGEST).astype(np.int8)
