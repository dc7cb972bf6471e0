"""Correction for what the layers before have lost, through lrfdse's own pass over finished plans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.accuracy.compress import Compressor
    from lrfdse.ir.factors import Factors
    from lrfdse.repair.correct import Corrector


class Corrections:
    """Corrects plans of one case; what they share is computed at the first."""

    def __init__(self, compressor: Compressor) -> None:
        self._compressor = compressor
        self._corrector: Corrector | None = None

    def __call__(self, factors: Mapping[str, Factors], sweeps: int) -> dict[str, Factors]:
        """Return the factors, fitted in graph order on what the compressed model feeds each layer, then refined."""
        from lrfdse.repair.correct import Corrector

        if self._corrector is None:
            case = self._compressor.case
            self._corrector = Corrector(case.model, self._compressor.calib, loss=case.loss)
        return dict(self._corrector.correct(factors, sweeps).factors)
