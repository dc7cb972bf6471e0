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
