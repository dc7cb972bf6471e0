"""Scores plans on the data that choose and on the data that report."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from lrfdse.base.heap import give_back
from lrfdse.errors import plan_errors
from lrfdse.ir.plan import Plan
from lrfdse.model.passes.factor import rewrite
from lrfdse.quality.scores import Grade, Scores, agreement_error, choosing_error, paired_error
from lrfdse.repair.builder import Builder

if TYPE_CHECKING:
    import onnx_ir as ir

    from lrfdse.explore.inputs import Inputs
    from lrfdse.model.data import Dataset
    from lrfdse.model.runtime import Arrays
    from lrfdse.model.tail import Tail


class Evaluator:
    """Scores plans' models; holds what all plans share.

    Parameters
    ----------
    builder
        Builds the models.
    inputs
        The model and its data.
    threads
        Runs side by side of what no plan changes.
    """

    def __init__(self, builder: Builder, inputs: Inputs, threads: int = 1) -> None:
        from lrfdse.model.runtime import Runtime

        self._builder = builder
        self._inputs = inputs
        # No plan's model comes back after it has run on the data that choose and on those that report.
        self._runtime = Runtime(sessions=1)
        self._choosing, self._reporting = inputs.chosen, inputs.reported
        self._shortened: tuple[Tail, Dataset, Dataset | None] | None = None
        self._looked, self._threads = False, threads
        # Plans are scored in several threads.
        self._looking = threading.Lock()

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
        factors = self._builder.factors(plan, refined)
        if not factors:
            # The original is what designs are compared with: no sample tells it from itself.
            found = self.scores_of(rewrite(self._builder.model, factors), report)
            error = None if found.accuracy_error is None else 0.0
            return replace(
                found, standard_error=0.0, accuracy_error=error, others_error=dict.fromkeys(found.others, 0.0)
            )
        if (shortened := self._tail()) is None:
            return self.scores_of(rewrite(self._builder.model, factors), report)
        tail, choosing, reporting = shortened
        return self._graded(rewrite(tail.model, factors), choosing, reporting if report else None)

    def scores_of(self, model: ir.Model | bytes, report: bool = True) -> Scores:
        """Run a version of the original model, or the bytes of its file; see `scores`."""
        reporting = self._reporting if report else None
        return self._graded(model, self._choosing.data, None if reporting is None else reporting.data)

    def _tail(self) -> tuple[Tail, Dataset, Dataset | None] | None:
        """Return what of the model plans change, with what it reads on both data; None where that is most of it."""
        from lrfdse.model.tail import tail_of

        with self._looking:
            if not self._looked:
                reporting = None if self._reporting is None else self._reporting.data
                sets = [data for data in (self._choosing.data, reporting) if data is not None]
                tail = tail_of(self._builder.model, max(sets, key=lambda data: data.count), self._runtime)
                if tail is not None:
                    choosing, reported = (
                        None if data is None else tail.of(data, self._runtime, threads=self._threads)
                        for data in (self._choosing.data, reporting)
                    )
                    assert choosing is not None
                    self._shortened = tail, choosing, reported
                self._looked = True
            return self._shortened

    def _graded(self, model: ir.Model | bytes, choosing_data: Dataset, reporting_data: Dataset | None) -> Scores:
        from lrfdse.quality.outputs import output_error

        reported, error = None, None
        with plan_errors():
            choosing, judging = self._choosing, self._inputs.judging
            form = self._exposed(model)
            outputs = self._runtime.run(form, choosing_data, outputs=list(choosing.reference))
            kept = self._agreement(outputs)
            chosen = kept if self._by_fidelity else choosing.grade(outputs)
            others = judging.kept(outputs, choosing.reference)
            if reporting_data is not None and self._reporting is not None:
                named = list(self._reporting.reference)
                reported = self._reporting.grade(self._runtime.run(form, reporting_data, outputs=named))
        give_back()
        if reported is not None and self._reporting is not None:
            error = paired_error(reported, self._reporting.original)
        return Scores(
            eval_accuracy=None if self._by_fidelity else chosen.value,
            accuracy=None if reported is None else reported.value,
            fidelity=kept.value,
            standard_error=choosing_error(chosen, choosing.original),
            eval_interval=chosen.interval,
            accuracy_interval=None if reported is None else reported.interval,
            accuracy_error=error,
            output_error=output_error(outputs, choosing.reference, judging.judged.name),
            others={name: grade.value for name, grade in others.items()},
            others_error={name: agreement_error(grade) for name, grade in others.items()},
        )

    def _exposed(self, model: ir.Model | bytes) -> ir.Model | bytes:
        """Return a version with every value that is scored among its outputs; bytes are taken as they are."""
        from lrfdse.model.passes.cut import exposed

        if isinstance(model, bytes):
            return model
        there = {value.name for value in model.graph.outputs}
        more = [name for name in self._choosing.reference if name not in there]
        return exposed(model, more) if more else model

    @property
    def classes_hit(self) -> tuple[int, int] | None:
        """How many classes the original model puts the data that choose into, and of how many; None without classes."""
        from lrfdse.quality.outputs import classes_hit

        judging = self._inputs.judging
        if judging.judged.kind not in ("classes", "threshold"):
            return None
        reference = judging.judged
        array = self._choosing.reference[reference.name]
        scores = reference.two_classes(array) if reference.kind == "threshold" else array
        return classes_hit({reference.name: scores})

    def _agreement(self, outputs: Arrays) -> Grade:
        """Return how far the judged output agrees with the original model's, bounded to [0, 1]."""
        from lrfdse.quality.outputs import decision_count

        choosing, reading = self._choosing, self._inputs.judging.judged
        values = reading.agreements(outputs, choosing.reference)
        decisions = None
        if reading.kind in ("classes", "whole"):
            decisions = decision_count(choosing.reference, reading.name)
        elif reading.kind == "threshold":
            decisions = int(choosing.reference[reading.name].size)
        return Grade(min(1.0, max(0.0, float(values.mean()))), values, decisions)

    @property
    def _by_fidelity(self) -> bool:
        return self._inputs.scorer.name == "fidelity"
