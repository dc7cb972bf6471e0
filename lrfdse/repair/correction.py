"""What the correction of a plan gave."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lrfdse.ir.factors import Factors


@dataclasses.dataclass(frozen=True, slots=True)
class Correction:
    """A plan's factors after the correction, and what it gained."""

    factors: Mapping[str, Factors]
    """Layer name to factors, of the layers given and in their order; those given where nothing was gained."""
    before: float
    """Loss of the model with the factors given on held-out samples, each sample's positions summed."""
    after: float
    """Loss with `factors`; never above `before`."""
    sweeps: int
    """Refinement sweeps, or steps of layers with several rows a sample, that were kept."""

    @property
    def changed(self) -> bool:
        """Whether the factors are other than those given."""
        return self.after < self.before
