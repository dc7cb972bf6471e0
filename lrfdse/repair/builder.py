"""From a plan to its factors and its compressed model, whoever fits the layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from lrfdse.ir.factors import Factors
from lrfdse.ir.plan import Plan

if TYPE_CHECKING:
    import onnx_ir as ir

    from lrfdse.base.keys import CodeKey
    from lrfdse.ir.factorization import Array, Factorization
    from lrfdse.ir.layer import Layer
    from lrfdse.model.graph import Model
    from lrfdse.repair.corrections import Corrections


class LayerFits(Protocol):
    """Gives the factors of each layer fitted by itself: what plans are made of and corrections start from."""

    @property
    def weightings(self) -> Mapping[str, Array]:
        """Layer name to the weighting of its outputs that fits go by, where a layer has one."""
        ...

    def calibrated(self, layer: Layer) -> bool:
        """Whether the layer's inputs on calibration data are known, so that its factors come with a bias correction."""
        ...

    def factors(self, layer: Layer, factorization: Factorization) -> Factors:
        """Return the fitted factors of a layer."""
        ...

    def code(self) -> CodeKey:
        """Return what the factors owe to code, part of the key of everything that starts from them."""
        ...


@dataclass(frozen=True, slots=True)
class Builder:
    """Builds the compressed model of a plan."""

    model: Model
    fits: LayerFits
    corrections: Corrections | None = None
    """Corrects the factors of plans as a whole; None keeps each layer as it was fitted by itself."""

    def factors(self, plan: Plan, refined: bool = False) -> Mapping[str, Factors]:
        """Return the factors of the plan's compressed layers, corrected where that is wanted and cheap enough.

        Parameters
        ----------
        plan
            The plan.
        refined
            Whether the plan is to be refined by Gauss-Newton steps on the whole model, where that is cheap enough.
        """
        factors = {
            name: self.fits.factors(self.model.layer(name), factorization)
            for name, factorization in plan.choices
            if not factorization.is_dense
        }
        if self.corrections is None or not (refined or self.corrections.always):
            return factors
        return self.corrections.factors(plan, factors, refined)

    def model_of(self, plan: Plan, refined: bool = False) -> ir.Model:
        """Return the compressed model; see `factors`."""
        from lrfdse.model.passes.factor import rewrite

        return rewrite(self.model, self.factors(plan, refined))
