"""Healing: the factors of one design of a finished exploration trained on data, and its files written anew."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lrfdse.base.events import Listener, silent
from lrfdse.base.files import sole_writer
from lrfdse.base.folders import cache_folder
from lrfdse.base.store import Store
from lrfdse.deploy.folders import DESIGNS
from lrfdse.deploy.healed import healed_content
from lrfdse.errors import InputError, PlanError
from lrfdse.explore.allowed import require_allowed
from lrfdse.explore.export import Rebuilt, rebuild
from lrfdse.explore.healed_files import write_healed
from lrfdse.explore.inputs import DataRequest, Files, Inputs, open_inputs
from lrfdse.explore.int8 import Int8Forms
from lrfdse.explore.layers.fits import Fits
from lrfdse.explore.plans.evaluator import Evaluator
from lrfdse.explore.training_data import HealRequest, check_request, training_data
from lrfdse.healing.feeding import Feeders
from lrfdse.healing.framework import check_tensorflow
from lrfdse.healing.train import Trained, Training, train
from lrfdse.repair.builder import Builder
from lrfdse.results.designs import Healed, Score
from lrfdse.results.paths import relative
from lrfdse.results.read import read_document
from lrfdse.results.settings import Data
from lrfdse.results.write import score_of

if TYPE_CHECKING:
    from lrfdse.ir.factors import Factors
    from lrfdse.quality.scores import Scores
    from lrfdse.results.designs import DesignFacts
    from lrfdse.results.document import Document


@dataclass(frozen=True, slots=True)
class Healing:
    """What became of a design."""

    document: Document
    """The exploration's, with the healed design; as it was where nothing was gained."""
    design: str
    """The design's id."""
    trained: Trained
    before: Score
    """Score before, on the data that choose."""
    after: Score
    """Score of the trained factors on the same data, whether they were taken or not."""
    kept: bool
    """Whether the trained factors were taken."""
    test_before: float | None = None
    """Score before on the test data; None without such data."""
    test_after: float | None = None
    """The same of what the folder holds now."""


def heal(folder: Path, identity: str | None, request: HealRequest, progress: Listener = silent) -> Healing:
    """Train the factors of a design and, where it scores no worse on the data that choose, write it in its place.

    Layers that are not compressed stay as they are, and so do the shapes of the factors, the kernels and their latency.
    Until the last moment nothing in the folder changes.

    Parameters
    ----------
    folder
        The output folder of an exploration.
    identity
        The id of a design in its ``front.json``, or the beginning of one; None means the recommended design.
    request
        How to train.
    progress
        Told of every event.

    Raises
    ------
    InputError
        There is no such design, it has nothing to train, the exploration had no evaluation data, the training data do
        not fit, or an operator behind the compressed layers is not covered.
    ToolError
        TensorFlow is missing.
    """
    check_tensorflow()
    check_request(request)
    document = read_document(folder)
    # The folder may be anybody's.
    require_allowed(document.settings.metric, request.metric, str(folder))
    if not document.verified:
        raise InputError(f"{folder}: explored without evaluation data, so nothing could judge: explore with --eval")
    identity = document.recommended if identity is None else identity
    if identity is None:
        raise InputError(f"{folder}: no design is recommended: name the one to heal by its id")
    with sole_writer(folder):
        rebuilt = rebuild(folder, identity)
        if all(choice.is_original for _, choice in rebuilt.plan.choices):
            raise InputError(f"design {rebuilt.id} is the original: it has no factors to heal")
        return Healer(folder, document, request, progress).heal(rebuilt, request.minutes)


class Healer:
    """Heals designs of one output folder one by one; what they share is read and computed once.

    Parameters
    ----------
    folder
        The folder, which the caller holds.
    document
        Its document.
    request
        How to train.
    progress
        Told of every event.

    Raises
    ------
    InputError
        The model or the data are not those that were explored, or the training data do not fit.
    """

    def __init__(self, folder: Path, document: Document, request: HealRequest, progress: Listener) -> None:
        from lrfdse.model.runtime import Runtime

        self.document = document
        """The folder's document as it is now."""
        self._folder, self._request, self._progress = folder, request, progress
        self._inputs = inputs = _inputs(document, folder)
        self._given = given = training_data(request, inputs, progress)
        self._feeders = Feeders(inputs.model, given.data, Runtime(), given.fitted)
        # What follows works on factors that are given.
        self._evaluator = Evaluator(Builder(inputs.model, Fits({}, "", Store(cache_folder()))), inputs)

    def heal(self, rebuilt: Rebuilt, minutes: float) -> Healing:
        """Train a design for so many minutes at most; see `heal`."""
        request, inputs, document = self._request, self._inputs, self.document
        facts = document.design(rebuilt.id)
        assert facts is not None
        factors = dict(rebuilt.factors())
        before = self._scores(factors)
        training = Training(request.epochs, minutes, self._given.share, request.seed)
        trained = train(inputs.model, factors, self._feeders, inputs.judging.objective, training, self._progress)
        healed = {name: _remeasured(each, inputs.model.weight(name)) for name, each in trained.factors.items()}
        try:
            after = self._scores(healed)
        except PlanError as error:
            raise InputError(f"the trained factors cannot be run: {error}; the design stays as it was") from error
        was, now = _chosen(before), _chosen(after)
        is_better = trained.after < trained.before or now.value > was.value
        if not (is_better and _is_no_worse(before, after)):
            return Healing(document, rebuilt.id, trained, was, now, False, before.accuracy, before.accuracy)
        content = healed_content(healed)
        told = Healed(
            data=relative(request.data, self._folder),
            data_sha256=self._given.data.digest,
            samples=trained.samples,
            held_out=trained.held_out,
            teacher=self._given.teacher,
            epochs=request.epochs,
            minutes=minutes,
            seed=request.seed,
            steps=trained.steps,
            loss_before=trained.before,
            loss=trained.after,
            eval_before=was if facts.healed is None else facts.healed.eval_before,
            test_before=_reported(before) if facts.healed is None else facts.healed.test_before,
            factors_sha256=hashlib.sha256(content).hexdigest(),
            tensorflow=version("tensorflow"),
        )
        found = _with_scores(facts, after, told)
        forms = Int8Forms(inputs, self._evaluator)
        self.document = write_healed(self._folder, document, found, rebuilt, healed, content, forms, self._progress)
        return Healing(self.document, rebuilt.id, trained, was, now, True, before.accuracy, after.accuracy)

    def _scores(self, factors: Mapping[str, Factors]) -> Scores:
        from lrfdse.model.passes.factor import rewrite

        return self._evaluator.scores_of(rewrite(self._inputs.model, factors))


def _inputs(document: Document, folder: Path) -> Inputs:
    """Return the model and the data of the exploration, in the roles that they had there."""
    made, data = document.settings, document.data

    def path(value: str | None) -> Path | None:
        return None if value is None else folder / value

    parts = Data(path(data.calib.path), path(data.eval.path), path(data.test.path))
    files = Files(folder / document.model.path, parts, Path())
    asked = DataRequest(made.shape, made.metric, made.eval_samples, made.seed, made.judge, made.layers, made.value)
    inputs = open_inputs(files, asked)
    known = {"eval": data.eval, "test": data.test}
    for role, digest in inputs.digests.items():
        if role in known and known[role].sha256 not in (None, digest):
            raise InputError(f"{role} data of {folder}: not those that were explored (their digest differs)")
    return inputs


def _is_no_worse(before: Scores, after: Scores) -> bool:
    """Return whether no output that counts lost anything on the data that choose."""
    kept = all(after.others[name] >= value for name, value in before.others.items())
    return kept and _chosen(after).value >= _chosen(before).value


def _chosen(scores: Scores) -> Score:
    value = scores.fidelity if scores.eval_accuracy is None else scores.eval_accuracy
    return score_of(value, scores.eval_interval, scores.standard_error)


def _reported(scores: Scores) -> Score | None:
    if scores.accuracy is None:
        return None
    return score_of(scores.accuracy, scores.accuracy_interval, scores.accuracy_error)


def _with_scores(facts: DesignFacts, scores: Scores, healed: Healed) -> DesignFacts:
    return dataclasses.replace(
        facts,
        fidelity=scores.fidelity,
        output_error=scores.output_error,
        others=dict(scores.others),
        others_error=dict(scores.others_error),
        eval_score=_chosen(scores),
        test_score=_reported(scores),
        model=f"{DESIGNS}/{facts.id}/model.onnx",
        healed=healed,
    )


def _remeasured(factors: Factors, weight: Any) -> Factors:
    """Return factors with the error of their weight measured anew."""
    from lrfdse.factorize.difference import squared_error

    norm = float(np.linalg.norm(weight)) or 1.0
    error = squared_error(weight, factors.factorization, factors.cores) ** 0.5 / norm
    return dataclasses.replace(factors, weight_error=error)
