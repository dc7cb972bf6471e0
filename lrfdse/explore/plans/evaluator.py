"""Scores plans on the data that choose and on the data that report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lrfdse.errors import plan_errors
from lrfdse.ir.plan import Plan
from lrfdse.quality.metrics import fidelity_grade
from lrfdse.quality.scores import Scores, paired_error
from lrfdse.repair.builder import Builder

if TYPE_CHECKING:
    import onnx_ir as ir

    from lrfdse.explore.inputs import Inputs
    from lrfdse.model.data import Dataset
    from lrfdse.quality.metrics import Outputs, Scorer
    from lrfdse.quality.scores import Grade


class Evaluator:
    """Scores plans' models; holds what all plans share."""

    def __init__(self, builder: Builder, inputs: Inputs) -> None:
        from lrfdse.model.runtime import Runtime

        self._builder = builder
        self._inputs = inputs
        # No plan's model comes back after it has run on the data that choose and on those that report.
        self._runtime = Runtime(sessions=1)
        self._choosing = self._judged(inputs.choosing)
        reports = inputs.reporting is not None and (inputs.reporting.labels is not None or not self._by_fidelity)
        self._reporting = self._judged(inputs.reporting) if inputs.reporting is not None and reports else None

    @property
    def builder(self) -> Builder:
        """What builds the models that are scored."""
        return self._builder

    @property
    def refines(self) -> bool:
        """Whether refinement of plans is available."""
        return self._builder.corrections is not None

    def scores(self, plan: Plan, report: bool = True, refined: bool = False) -> Scores:
        """Run the plan's model on the data that choose and, with `report`, on the data that report.

        With `refined` it is the model of factors that were refined, see `Builder.factors`.

        Raises
        ------
        PlanError
            The model cannot be run or its outputs cannot be graded.
        """
        return self.scores_of(self._builder.model_of(plan, refined), report)

    def scores_of(self, model: ir.Model | bytes, report: bool = True) -> Scores:
        """Run a version of the original model, or the bytes of its file; see `scores`."""
        from lrfdse.quality.outputs import output_error

        reported, error = None, None
        with plan_errors():
            outputs = self._runtime.run(model, self._choosing.data)
            kept = fidelity_grade(outputs, self._choosing.reference)
            chosen = kept if self._by_fidelity else self._choosing.grade(outputs)
            if report and self._reporting is not None:
                reported = self._reporting.grade(self._runtime.run(model, self._reporting.data))
        if reported is not None and self._reporting is not None:
            error = paired_error(reported, self._reporting.original)
        return Scores(
            eval_accuracy=None if self._by_fidelity else chosen.value,
            accuracy=None if reported is None else reported.value,
            fidelity=kept.value,
            standard_error=paired_error(chosen, self._choosing.original),
            eval_interval=chosen.interval,
            accuracy_interval=None if reported is None else reported.interval,
            accuracy_error=error,
            output_error=output_error(outputs, self._choosing.reference),
        )

    @property
    def classes_hit(self) -> tuple[int, int] | None:
        """How many classes the original model puts the data that choose into, and of how many; None without classes."""
        from lrfdse.quality.outputs import classes_hit

        return classes_hit(self._choosing.reference)

    @property
    def _by_fidelity(self) -> bool:
        return self._inputs.scorer.name == "fidelity"

    def _judged(self, data: Dataset) -> _Judged:
        reference = self._runtime.run(self._inputs.model.original, data)
        scorer = self._inputs.scorer
        return _Judged(data, reference, scorer.grade(reference, data, reference), scorer)


@dataclass(frozen=True, slots=True)
class _Judged:
    """Data with what the original model gives on them, and its grade."""

    data: Dataset
    reference: Outputs
    original: Grade
    scorer: Scorer

    def grade(self, outputs: Outputs) -> Grade:
        return self.scorer.grade(outputs, self.data, self.reference)
