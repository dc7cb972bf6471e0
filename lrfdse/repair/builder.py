"""From a plan to its factors and its compressed model, whoever fits the layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lrfdse.ir.factors import Factors
from lrfdse.ir.plan import Plan
from lrfdse.repair.layer_fits import LayerFits

if TYPE_CHECKING:
    import onnx_ir as ir

    from lrfdse.model.graph import Model
    from lrfdse.repair.corrections import Corrections


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
            name: self.fits.factors(self.model.layer(name), choice)
            for name, choice in plan.choices
            if not choice.is_original
        }
        if self.corrections is None or not (refined or self.corrections.always):
            return factors
        return self.corrections.factors(plan, factors, refined)

    def model_of(self, plan: Plan, refined: bool = False) -> ir.Model:
        """Return the compressed model; see `factors`."""
        from lrfdse.model.passes.factor import rewrite

        return rewrite(self.model, self.factors(plan, refined))
