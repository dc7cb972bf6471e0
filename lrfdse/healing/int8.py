"""Int8 while factors are trained: rounded in every step as they are stored, the slope handed straight through.

The straight-through estimator of Bengio, Leonard and Courville ("Estimating or Propagating Gradients Through Stochastic
Neurons", 2013): what is trained is a float32 matrix behind the stored one; the loss is that of the stored one, and its
slope is taken for that of the matrix behind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lrfdse.ir.int8 import LARGEST, Int8Matrix

if TYPE_CHECKING:
    from lrfdse.ir.factors import Factors
    from lrfdse.ir.quantized import Rounding

_LEAST = float(np.finfo(np.float32).tiny) * LARGEST
"""Largest element of an output below which its scale would be no normal float32 number: its levels are worth 1 then, as
in `lrfdse.factorize.rounding`."""


def tops_of(factors: Factors) -> list[NDArray[np.float32]]:
    """Return the largest level of every output of each step, in execution order, each of shape (outputs, 1).

    An output keeps it: its scale is its largest element over that level. So training begins at the levels given.
    Factors in float32 have none.
    """
    if factors.scales is None:
        return []
    found = [np.abs(each.levels.astype(np.int32)).max(axis=1, initial=0) for each in factors.int8_matrices()]
    return [np.where(each > 0, each, LARGEST).astype(np.float32)[:, None] for each in found]


def rounded(matrix: NDArray[np.float32], tops: NDArray[np.float32]) -> Int8Matrix:
    """Return what is stored of a matrix of shape (outputs, inputs)."""
    largest = np.abs(matrix).max(axis=1, keepdims=True)
    scales = np.where(largest < _LEAST, np.float32(1), largest / tops)
    return Int8Matrix(np.rint(matrix / scales).astype(np.int8), scales[:, 0])


def inputs_through(tf: Any, values: Any, rounding: Rounding) -> Any:
    """Return what the levels of values stand for, whose slope is handed on to the values as they are."""
    levels = tf.clip_by_value(tf.round(values * float(1 / np.float32(rounding.scale))), rounding.least, rounding.most)
    return values + tf.stop_gradient(levels * rounding.scale - values)


def straight_through(tf: Any, matrix: Any, tops: NDArray[np.float32]) -> Any:
    """Return the tensor of what is stored of a matrix, whose slope is handed on to the matrix as it is."""
    largest = tf.reduce_max(tf.abs(matrix), axis=1, keepdims=True)
    scales = tf.where(largest < _LEAST, tf.ones_like(largest), largest / tops)
    return matrix + tf.stop_gradient(tf.round(matrix / scales) * scales - matrix)
