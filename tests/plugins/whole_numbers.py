"""What factors with rounded inputs give, in whole numbers: an oracle that knows neither onnxruntime nor an emitter."""

from __future__ import annotations

import numpy as np

from lrfdse.ir.factors import Factors
from tests.program.interpreter import levels


def chain_of(factors: Factors, rows: np.ndarray) -> np.ndarray:
    """Return what a chain gives of rows: sums of products as int64, multiplied by scales alone."""
    assert factors.roundings is not None
    value = rows.astype(np.float64)
    for matrix, rounding in zip(factors.int8_matrices(), factors.roundings, strict=True):
        sums = levels(value, rounding) @ matrix.levels.astype(np.int64).T
        value = sums * (rounding.scale * matrix.scales.astype(np.float64))
    return value
