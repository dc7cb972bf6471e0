"""The parts of a chain in the place of a layer, as writers of formats take them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """One step of a chain: the weight (out, inner) on the last axis, or on the last but one where there are columns."""

    weight: NDArray[Any]
    """float32, float16, or int8 levels."""
    scales: NDArray[np.float32] | None = None
    """What a level of each output is worth; None of numbers."""
    columns: int = 1

    @property
    def values(self) -> NDArray[np.float32]:
        """The weight in float32."""
        real = self.weight if self.scales is None else self.weight.astype(np.float32) * self.scales[:, None]
        return real.astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Slide:
    """One convolution of a chain."""

    weight: NDArray[np.float32]
    """Shape (outputs, rows, columns, inputs)."""
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]
    """Above, left, below, right."""
