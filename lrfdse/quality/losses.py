"""What compressed models lose against the original, measured by running them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from lrfdse.errors import PlanError, plan_errors
from lrfdse.model.data import Dataset
from lrfdse.quality.divergence import Loss, evenly_spread
from lrfdse.quality.objective import Objective, SideBySide, names_of, objective_for

if TYPE_CHECKING:
    from lrfdse.ir.factors import Factors
    from lrfdse.model.graph import Model
    from lrfdse.model.runtime import Arrays

_FLOPS = 4e9
"""Floating-point operations in FC layers that one measurement of a loss may cost: about a second on one core.
Chosen; it decides, between the two bounds below, how many samples are run."""


LEAST, _MOST = 32, 512
"""Samples that losses are measured on, at least and at most; docs/accuracy.md says what they predict. Chosen, not
measured."""


class Divergences:
    """Measures what compressed models lose against the original, as a share of all that its outputs tell.

    Parameters
    ----------
    model
        The original model.
    data
        Samples, of which some are run, spread evenly; labels are not looked at.
    loss
        How outputs are compared; a single loss stands for the first output of floating point.
    least
        Samples that are run at least; of models that take little, more are.
    threads
        Runs side by side of what no layer changes.
    """

    def __init__(
        self, model: Model, data: Dataset, loss: Loss | Objective, least: int = LEAST, threads: int = 1
    ) -> None:
        from lrfdse.model.runtime import Runtime
        from lrfdse.model.tail import tail_of

        flops = sum(layer.flops for layer in model.layers)
        data = evenly_spread(data, int(min(max(_FLOPS / max(flops, 1), least), _MOST)))
        # Every version of the model is run once.
        self._runtime = Runtime(sessions=0)
        objective = objective_for(model.original, loss)
        self._names = names_of(objective)
        tail = tail_of(model, data, self._runtime)
        self._model, self._data = (
            (model, data) if tail is None else (tail.model, tail.of(data, self._runtime, threads=threads))
        )
        outputs = self._outputs(self._model.original)
        self._scores = SideBySide.of(objective, outputs)
        self._reference = self._scores.scores(outputs)
        self._whole = self._scores.information(self._reference)

    def __call__(self, factors: Mapping[str, Factors]) -> float:
        """Return the loss with these factors: 0 is the original, 1 what outputs that never change would lose.

        Raises
        ------
        PlanError
            The compressed model cannot be run, or its outputs are not finite.
        """
        from lrfdse.model.passes.factor import rewrite

        version = rewrite(self._model, factors)
        with plan_errors():
            scores = self._scores.scores(self._outputs(version))
        found = float(self._scores.divergences(scores, self._reference).mean())
        if not np.isfinite(found):
            raise PlanError("the outputs of the compressed model are not finite")
        return found / self._whole

    def _outputs(self, version: ir.Model) -> Arrays:
        from lrfdse.model.passes.cut import read_out

        return self._runtime.run(read_out(version, self._names), self._data, outputs=self._names)
