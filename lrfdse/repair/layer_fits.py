"""What gives the factors of each layer by itself: plans are made of them, and corrections start from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from lrfdse.ir.factors import Factors

if TYPE_CHECKING:
    from lrfdse.base.keys import CodeKey
    from lrfdse.ir.choice import Choice
    from lrfdse.ir.factorization import Array
    from lrfdse.ir.layer import Layer


class LayerFits(Protocol):
    """Gives the factors of each layer fitted by itself: what plans are made of and corrections start from."""

    @property
    def weightings(self) -> Mapping[str, Array]:
        """Layer name to the weighting of its outputs that fits go by, where a layer has one."""
        ...

    def calibrated(self, layer: Layer) -> bool:
        """Whether the layer's inputs on calibration data are known, so that its factors come with a bias correction."""
        ...

    def factors(self, layer: Layer, choice: Choice) -> Factors:
        """Return the fitted factors of a layer, rounded to what they are stored in."""
        ...

    def code(self) -> CodeKey:
        """Return what the factors owe to code, part of the key of everything that starts from them."""
        ...
