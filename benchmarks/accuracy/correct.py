"""Correction for what the layers before have lost, through lrfdse's own pass over finished plans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.accuracy.cases import Case
    from lrfdse.ir.factors import Factors
    from lrfdse.model.data import Dataset
    from lrfdse.repair.correct import Corrector


class Corrections:
    """Corrects plans of one case, fitted to `calib`; what the plans share is computed at the first."""

    def __init__(self, case: Case, calib: Dataset) -> None:
        self._case = case
        self._calib = calib
        self._corrector: Corrector | None = None

    def __call__(self, factors: Mapping[str, Factors], sweeps: int) -> dict[str, Factors]:
        """Return the factors, fitted in graph order on what the compressed model feeds each layer, then refined."""
        from lrfdse.repair.correct import Corrector

        if self._corrector is None:
            self._corrector = Corrector(self._case.model, self._calib, loss=self._case.loss)
        return dict(self._corrector.correct(factors, sweeps).factors)
