"""The kinds of factorization that are compared, and what is known of one shape of a layer."""

from __future__ import annotations

from dataclasses import dataclass

from lrfdse.ir.factorization import Factorization


@dataclass(frozen=True)
class Family:
    """A kind of factorization."""

    title: str
    cores: int = 0
    """Exactly so many; 0 for plain SVD."""
    method: str = "auto"
    """One of `lrfdse.factorize.methods.METHODS`."""
    parts: tuple[str, ...] = ()
    """Other families whose options this one takes together."""

    @property
    def data(self) -> bool:
        """Whether factors are fitted to outputs on calibration data; else to the weight."""
        return self.method != "svd"


FAMILIES = {
    "svd": Family("SVD", method="svd"),
    "dsvd": Family("SVD, inputs scaled (ASVD)", method="asvd"),
    "asvd": Family("activation-aware SVD"),
    "tt2": Family("TT-SVD d=2", 2, method="svd"),
    "tt3": Family("TT-SVD d=3", 3, method="svd"),
    "att2": Family("activation-aware TT d=2", 2),
    "att3": Family("activation-aware TT d=3", 3),
    "any": Family("activation-aware, any path", parts=("asvd", "att2", "att3")),
}


@dataclass(frozen=True)
class Option:
    """A shape of one layer with its fitted errors."""

    shape: Factorization
    weight_error: float
    output_error: float
    loss: float | None = None
    """Second-order estimate of what the model loses; None where the layer has no weighting."""

    def error(self, data: bool) -> float:
        """Return what the options of a layer are ordered by, without or with calibration data.

        That is the squared relative error of the weight, or the estimated loss, or where there is none the squared
        relative error of the output.
        """
        if not data:
            return self.weight_error**2
        return self.output_error**2 if self.loss is None else self.loss


Plan = dict[str, Factorization]
