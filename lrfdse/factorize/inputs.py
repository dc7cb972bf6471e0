"""What the steps of a chain read, rounded to 8 bits: the scale of each, and what the rounding does to the outputs.

A tensor has one scale and one zero point, which hold for whatever the model is run on (static quantization, as in Jacob
et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018). Step by
step, the range is that of what the calibration data bring there behind the steps before, rounded already, or a part of
it: of a few, the one whose rounding errors, each times the squared norm of the weights that it meets, are least.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lrfdse.ir.quantized import LEVELS, Rounding
from lrfdse.ir.storage import QDQ

if TYPE_CHECKING:
    from lrfdse.ir.factorization import Array, Factorization

_PARTS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4)
"""Parts of the whole range that are tried: below, more than half of the levels of a bell curve's 512 samples would be
outside. Chosen, not measured."""

_LEAST_SCALE = 2.0**-120
"""Scale below which what is read counts as zeros: float32 holds its reciprocal, and products with weights' scales."""


@dataclass(frozen=True, slots=True, eq=False)
class RoundedInputs:
    """The roundings of a chain, and what they change."""

    roundings: tuple[Rounding, ...]
    """One for each step, in execution order."""
    moved: Array
    """By what the outputs of each row are lower than without them, shape (rows, outputs)."""


def rounded_inputs(factorization: Factorization, cores: Sequence[Array], rows: NDArray[np.floating]) -> RoundedInputs:
    """Return how what each step of a chain reads is rounded.

    Parameters
    ----------
    factorization
        One whose steps multiply whole rows (`lrfdse.ir.storage.Storage.takes`).
    cores
        Its cores as they are stored.
    rows
        What the layer reads, shape (rows, inputs); padded with zeros to the inputs of the factorization.

    Raises
    ------
    ValueError
        There are no rows, or they hold NaN or Inf; or a step does not multiply whole rows.
    """
    if not QDQ.takes(factorization):
        raise ValueError(f"the steps of {factorization} do not multiply whole rows")
    if not len(rows) or not np.isfinite(rows).all():
        raise ValueError("ranges are those of rows: there have to be some, and they have to be finite")
    exact = np.pad(rows.astype(np.float64), ((0, 0), (0, factorization.inputs - rows.shape[1])))
    read, found = exact, []
    for matrix in factorization.step_matrices(cores):
        found.append(_best(read, (matrix**2).sum(axis=0)))
        read = rounded(read, found[-1]) @ matrix.T
        exact = exact @ matrix.T
    return RoundedInputs(tuple(found), exact - read)


def rounded(values: Array, rounding: Rounding) -> Array:
    """Return values as their levels stand for them."""
    factor = np.float64(np.float32(1) / np.float32(rounding.scale))
    return np.clip(np.rint(values * factor), rounding.least, rounding.most) * rounding.scale


def rounding_of(low: float, high: float) -> Rounding:
    """Return the rounding whose levels reach from `low` to `high`, widened to hold zero, which has a level of its own.

    >>> rounding_of(-1.0, 3.0)
    Rounding(scale=0.01568627543747425, least=-64)
    """
    low, high = min(low, 0.0), max(high, 0.0)
    scale = float(np.float32((high - low) / (LEVELS - 1)))
    if scale < _LEAST_SCALE:
        return Rounding(1.0, -LEVELS // 2)
    return Rounding(scale, max(int(np.rint(low / scale)), 1 - LEVELS))


def _best(values: Array, weights: Array) -> Rounding:
    low, high = float(values.min()), float(values.max())
    tried = [rounding_of(part * low, part * high) for part in _PARTS]
    errors = [float((((rounded(values, each) - values) ** 2).sum(axis=0) * weights).sum()) for each in tried]
    return tried[int(np.argmin(errors))]
