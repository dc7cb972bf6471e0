"""Which outputs of a model count, how each is read, and by what the first of them is judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lrfdse.errors import InputError
from lrfdse.model.data import Dataset
from lrfdse.quality.labels import class_labels
from lrfdse.quality.metrics import compares_numbers, explained_grade, is_own, needs_classes, open_scorer
from lrfdse.quality.objective import Objective, OutputLoss, scaled
from lrfdse.quality.outputs import is_scores
from lrfdse.quality.reading import Kind, Reading, read_output, thresholded
from lrfdse.quality.scores import Grade
from lrfdse.results.outputs import OutputFacts

if TYPE_CHECKING:
    from lrfdse.model.graph import Model
    from lrfdse.model.runtime import Arrays, Runtime
    from lrfdse.quality.metrics import Scorer

SAMPLES = 64
"""Samples of the calibration data on which outputs are read where there are no evaluation data. Chosen."""


@dataclass(frozen=True, slots=True)
class Judging:
    """Which outputs count, and how."""

    judged: Reading
    """The output that the metric grades."""
    others: tuple[Reading, ...]
    """The other outputs that count."""
    objective: Objective
    """What changes of the outputs cost, where layers are fitted and losses predicted."""
    scorer: Scorer
    """The metric."""
    notes: tuple[str, ...] = ()
    """What the reader must know: which outputs count, by what, and why."""

    def facts(self) -> list[list[str]]:
        """Return what decides scores beside the metric, as part of a study's identity."""
        return [[each.name, each.kind, repr(each.threshold), each.measure] for each in (self.judged, *self.others)]

    def graded(self, outputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return outputs as the metric takes them: the judged one first, one score of two classes as two."""
        first = outputs[self.judged.name]
        if self.judged.kind == "threshold" and not self.scorer.is_own:
            first = self.judged.two_classes(first)
        return {self.judged.name: first} | {name: a for name, a in outputs.items() if name != self.judged.name}

    def kept(self, outputs: Mapping[str, NDArray[Any]], reference: Mapping[str, NDArray[Any]]) -> dict[str, Grade]:
        """Return how far each output but the judged one agrees with the original model's, at most 1."""
        return {each.name: _agreement(each, outputs, reference) for each in self.others}


@dataclass(frozen=True, slots=True)
class Judged:
    """Data with what the original model gives on them, and its grade."""

    data: Dataset
    reference: Arrays
    original: Grade
    judging: Judging

    @classmethod
    def of(cls, data: Dataset, reference: Arrays, judging: Judging) -> Judged:
        """Return the data with the grade of the original model.

        Raises
        ------
        InputError
            The outputs hold NaN or do not fit the labels, or the user's metric fails.
        """
        for each in (judging.judged, *judging.others):
            array = reference[each.name]
            if array.dtype.kind != "f" or not np.isnan(array).any():
                continue
            broken = np.isnan(array.reshape(len(array), -1)).any(axis=1).sum()
            raise InputError(
                f"output {each.name!r} of the original model is NaN for {broken:,} of {len(array):,} samples: no "
                "design can be compared with it; leave these out, or mend the model"
            )
        own = judging.graded(reference)
        return cls(data, reference, judging.scorer.grade(own, data, own), judging)

    def grade(self, outputs: Mapping[str, NDArray[Any]]) -> Grade:
        """Grade a version of the model."""
        judging = self.judging
        return judging.scorer.grade(judging.graded(outputs), self.data, judging.graded(self.reference))


def _agreement(reading: Reading, outputs: Mapping[str, NDArray[Any]], reference: Mapping[str, NDArray[Any]]) -> Grade:
    values = reading.agreements(outputs, reference)
    if reading.kind == "numbers":
        graded = explained_grade(outputs, reference[reading.name], reading.name)
        return replace(graded, value=float(values.mean()))
    return Grade(float(values.mean()), values)


def outputs_on(model: Model, data: Dataset, runtime: Runtime, needed: Sequence[str] = ()) -> Arrays:
    """Return the original model's outputs on data, samples first.

    Strings, maps and lists are left out, and outputs that cannot be cut into samples, unless they are needed.

    Raises
    ------
    InputError
        The model cannot be run, none of its outputs can be used, or one of those needed cannot.
    """
    from lrfdse.model.passes.cut import exposed, score_values
    from lrfdse.model.runtime import numeric_outputs

    form = exposed(model.original, score_values(model.original))
    names = numeric_outputs(runtime.session(form))
    try:
        return runtime.run(form, data, outputs=names) if names else _none(model)
    except InputError as error:
        found: Arrays = {}
        for name in names:
            try:
                found |= runtime.run(form, data, outputs=[name])
            except InputError:
                if name in needed:
                    raise
        if not found:
            raise error from None
        return found


def _none(model: Model) -> Arrays:
    raise InputError(f"{model.path}: the model has no output that is a tensor of numbers")


def open_judging(
    model: Model,
    outputs: Arrays,
    real: bool,
    metric: str | None,
    labels: NDArray[Any] | None,
    judge: Sequence[str] = (),
) -> Judging:
    """Return which outputs count and how, by what the original model gives.

    The judged output is the first one named in `judge`, else the first that depends on a layer. Without `judge`, every
    other output of floating point counts that depends on a layer and is not the same for every sample.

    Parameters
    ----------
    model
        The model.
    outputs
        What it gives on data, samples first.
    real
        Whether these data are the user's, not random inputs.
    metric
        The metric that was asked for; None leaves it to the outputs and the labels.
    labels
        Labels of the data that choose, or None.
    judge
        Names of the outputs that count, the judged one first; a name that is repeated weighs as often.

    Raises
    ------
    InputError
        An output that is named is not there, or is changed by no layer; or there is no such metric.
    """
    from lrfdse.model.passes.cut import dependent, score_values

    every = score_values(model.original)
    layered = dependent(model.working.graph, [site.output for sites in model.sites.values() for site in sites], every)
    names = list(dict.fromkeys(judge)) or _by_default(outputs, layered)
    for name in names if judge else ():
        if name not in outputs:
            why = "its samples cannot be told apart, or it holds no numbers" if name in every else "there is none"
            raise InputError(f"--judge {name}: {why}; the outputs that can be judged are {', '.join(outputs)}")
        if name not in layered:
            raise InputError(f"--judge {name}: the output depends on no layer, so nothing can change it")
    first, *rest = [_read(model, name, outputs[name], real) for name in names]
    first, chosen = _with_metric(first, outputs[first.name], metric, labels)
    scorer = open_scorer(chosen, labels is not None)
    parts = [
        OutputLoss(each.name, each.loss, chances=each.chances if each.loss == "softmax" else None)
        for each in (first, *rest)
        if outputs[each.name].dtype.kind not in "biu"
    ]
    if first.kind == "whole" and not parts:
        raise InputError(f"{model.path}: the model has no output of floating point to compare its versions by")
    weights = {name: float(count) for name, count in Counter(judge).items()}
    objective = scaled(tuple(parts), outputs, weights)
    counted = {part.output for part in objective}
    rest = [each for each in rest if each.name in counted]
    notes = _notes(first, rest, scorer.name, metric, every, outputs)
    return Judging(first, tuple(rest), objective, scorer, tuple(notes))


def with_class_labels(data: Dataset, judging: Judging, outputs: Arrays, where: str) -> tuple[Dataset, str]:
    """Return data with labels as the metric takes them, and a note of what was changed, "" for nothing.

    Raises
    ------
    InputError
        The labels are no classes of the judged output.
    """
    if data.labels is None or judging.scorer.is_own or not _takes_classes(judging):
        return data, ""
    name = judging.judged.name
    labels, note = class_labels(data.labels, judging.graded(outputs)[name], name, where)
    return replace(data, labels=labels), note


def _takes_classes(judging: Judging) -> bool:
    scorer = judging.scorer.name
    return scorer in ("accuracy", "fidelity") or needs_classes(scorer)


def _by_default(outputs: Arrays, layered: Sequence[str]) -> list[str]:
    first = next((name for name in outputs if name in layered), next(iter(outputs)))
    return [
        first,
        *(n for n, array in outputs.items() if n != first and n in layered and array.dtype.kind not in "biu"),
    ]


def _read(model: Model, name: str, array: NDArray[Any], real: bool) -> Reading:
    """Return how an output is read; on random inputs that one class is decided throughout says nothing."""
    return read_output(model.original, name, array, trusted=real)


def _with_metric(
    reading: Reading, array: NDArray[Any], metric: str | None, labels: NDArray[Any] | None
) -> tuple[Reading, str | None]:
    """Return how the judged output is read by its metric, and that metric: what was asked for, else what fits."""
    single = not is_scores(array) and array.dtype.kind not in "biu"
    if metric is not None and is_own(metric):
        return reading, metric
    if metric is not None and compares_numbers(metric):
        kind: Kind = "direction" if metric == "cosine" else "numbers"
        return Reading(reading.name, kind, f"--metric {metric} was asked for"), metric
    if metric is not None and not needs_classes(metric):
        return reading, metric
    if reading.kind == "whole":
        return reading, metric
    if labels is not None and metric is None and _are_targets(labels, array):
        return Reading(reading.name, "numbers", "labels are numbers of its shape"), "mse"
    if labels is not None or metric is not None:
        if single:
            two = labels is None or set(np.unique(labels)) <= {-1, 0, 1}
            return (thresholded(reading, array) if two else reading), metric
        if reading.kind == "threshold":
            return reading if labels is None or labels.shape == array.shape else _as_classes(reading, array), metric
        return _as_classes(reading, array), metric
    return reading, {"numbers": "mse", "direction": "cosine"}.get(reading.kind)


def _as_classes(reading: Reading, array: NDArray[Any]) -> Reading:
    from lrfdse.quality.divergence import are_chances

    if reading.kind == "classes":
        return reading
    return Reading(reading.name, "classes", "labels or the metric are of classes", chances=are_chances(array))


def _are_targets(labels: NDArray[Any], array: NDArray[Any]) -> bool:
    """Return whether labels are numbers to compare an output with, not classes."""
    own, other = ([size for size in a.shape[1:] if size != 1] for a in (labels, array))
    if own != other:
        return False
    whole = labels.dtype.kind in "biu" or bool((labels == np.round(labels)).all())
    if is_scores(array):
        return not (whole and bool(np.isin(labels, (0, 1)).all()))
    return not (whole and set(np.unique(labels)) <= {-1, 0, 1})


def _notes(
    judged: Reading, others: Sequence[Reading], score: str, metric: str | None, every: Sequence[str], outputs: Arrays
) -> list[str]:
    found = []
    usual = judged.kind in ("classes", "whole") and judged.name == every[0]
    if metric is None and usual and judged.assumed and score == "fidelity":
        found.append(
            f"output {judged.name!r} is taken for class scores: {judged.reason}, and no labels say what it holds; "
            "if it is an embedding or other numbers, give --metric cosine or mse"
        )
    elif metric is None and not usual:
        by = {"mse": "explained variance (mse)"}.get(score, score)
        cut = f", cut at {judged.threshold:g}" if judged.kind == "threshold" else ""
        found.append(f"output {judged.name!r} is judged by {by}{cut}: {judged.reason}")
    if others:
        named = ", ".join(f"{each.name!r} by {each.measure}" for each in others)
        found.append(
            f"output {judged.name!r} is judged by {score}; what others keep of the original's counts, too: {named}"
        )
    counted = {judged.name, *(each.name for each in others)}
    if left := [name for name in every if name not in counted]:
        what = ", ".join(f"{name!r}{'' if name in outputs else ' (no numbers by sample)'}" for name in left)
        found.append(f"outputs that count for nothing: {what}")
    return found


def output_facts(judging: Judging) -> tuple[OutputFacts, ...]:
    """Return what a document says of the outputs that count."""
    parts = {part.output: part for part in judging.objective}
    found = []
    for each in (judging.judged, *judging.others):
        part = parts.get(each.name)
        found.append(
            OutputFacts(
                name=each.name,
                kind=each.kind,
                reason=each.reason,
                measure=each.measure,
                loss=None if part is None else part.loss,
                scale=None if part is None else part.scale,
                chances=None if part is None else part.chances,
                threshold=each.threshold if each.kind == "threshold" else None,
            )
        )
    return tuple(found)


def objective_of(outputs: Sequence[OutputFacts]) -> Objective:
    """Return the objective that a document tells of."""
    return tuple(
        OutputLoss(each.name, each.loss, each.scale, each.chances)
        for each in outputs
        if each.loss is not None and each.scale is not None
    )
