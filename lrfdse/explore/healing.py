"""Healing: the factors of one design of a finished exploration trained on data, and its files written anew."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lrfdse.base.events import Listener, silent
from lrfdse.base.files import folder_below, sole_writer
from lrfdse.base.folders import cache_folder
from lrfdse.base.store import Store
from lrfdse.base.temporary import temporary_folder
from lrfdse.base.text import counted
from lrfdse.deploy.designs import write_design
from lrfdse.deploy.folders import DESIGNS, LIBRARY, design_folder, manifest, mark
from lrfdse.deploy.healed import healed_content
from lrfdse.errors import InputError, PlanError
from lrfdse.explore.allowed import require_allowed
from lrfdse.explore.export import Rebuilt, rebuild
from lrfdse.explore.inputs import DataRequest, Files, Inputs, open_inputs
from lrfdse.explore.int8 import Int8Forms
from lrfdse.explore.plans.evaluator import Evaluator
from lrfdse.explore.training_data import HealRequest, check_request, training_data
from lrfdse.healing.framework import check_tensorflow
from lrfdse.healing.train import Trained, Training, train
from lrfdse.library.build import LibraryOptions, library_of
from lrfdse.library.folder import MANIFEST, check_folder, write_library
from lrfdse.library.make import NO_METER
from lrfdse.repair.builder import Builder
from lrfdse.results.again import with_design
from lrfdse.results.designs import Healed, Score
from lrfdse.results.paths import relative
from lrfdse.results.read import read_document
from lrfdse.results.settings import Data
from lrfdse.results.write import score_of, write_document

if TYPE_CHECKING:
    from lrfdse.ir.factors import Factors
    from lrfdse.library.make import Library
    from lrfdse.quality.scores import Scores
    from lrfdse.results.designs import DesignFacts, Int8Facts
    from lrfdse.results.document import Document

_NOTE = "healed: design "


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
        There is no such design, it has nothing to train or int8 factors, the exploration had no evaluation data, the
        training data do not fit, or an operator behind the compressed layers is not covered.
    ToolError
        TensorFlow is missing.
    """
    from lrfdse.model.runtime import Runtime

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
        facts = document.design(rebuilt.id)
        assert facts is not None
        _check_plan(rebuilt)
        inputs = _inputs(document, folder, rebuilt)
        data, share, teacher = training_data(request, inputs, progress)
        factors = dict(rebuilt.factors())
        # What follows works on factors that are given.
        evaluator = Evaluator(_given(rebuilt), inputs)
        before = _scores(evaluator, inputs, factors)
        training = Training(request.epochs, request.minutes, share, request.seed)
        trained = train(inputs.model, factors, data, inputs.judging.objective, training, Runtime(), progress)
        healed = {name: _remeasured(each, inputs.model.weight(name)) for name, each in trained.factors.items()}
        try:
            after = _scores(evaluator, inputs, healed)
        except PlanError as error:
            raise InputError(f"the trained factors cannot be run: {error}; the design stays as it was") from error
        was, now = _chosen(before), _chosen(after)
        if trained.after >= trained.before or not _is_no_worse(before, after):
            return Healing(document, rebuilt.id, trained, was, now, False, before.accuracy, before.accuracy)
        content = healed_content(healed)
        told = Healed(
            data=relative(request.data, folder),
            data_sha256=data.digest,
            samples=trained.samples,
            held_out=trained.held_out,
            teacher=teacher,
            epochs=request.epochs,
            minutes=request.minutes,
            seed=request.seed,
            steps=trained.steps,
            loss_before=trained.before,
            loss=trained.after,
            eval_before=was if facts.healed is None else facts.healed.eval_before,
            test_before=_reported(before) if facts.healed is None else facts.healed.test_before,
            factors_sha256=hashlib.sha256(content).hexdigest(),
            tensorflow=_version(),
        )
        found = _with_scores(facts, after, told)
        document = _write(folder, document, found, rebuilt, healed, content, Int8Forms(inputs, evaluator), progress)
    return Healing(document, rebuilt.id, trained, was, now, True, before.accuracy, after.accuracy)


def _check_plan(rebuilt: Rebuilt) -> None:
    compressed = {name: choice for name, choice in rebuilt.plan.choices if not choice.is_original}
    if not compressed:
        raise InputError(f"design {rebuilt.id} is the original: it has no factors to heal")
    if scaled := [name for name, choice in compressed.items() if choice.storage.scaled]:
        raise InputError(
            f"design {rebuilt.id} stores layer {scaled[0]!r} in int8, and healing trains float32 factors: heal a "
            "design without @int8, whose int8 form is then made anew"
        )


def _inputs(document: Document, folder: Path, rebuilt: Rebuilt) -> Inputs:
    """Return the model and the data of the exploration, in the roles that they had there."""
    made, data = document.settings, document.data

    def path(value: str | None) -> Path | None:
        return None if value is None else folder / value

    files = Files(rebuilt.model.path, Data(path(data.calib.path), path(data.eval.path), path(data.test.path)), Path())
    asked = DataRequest(made.shape, made.metric, made.eval_samples, made.seed, made.judge, made.layers)
    inputs = open_inputs(files, asked)
    known = {"eval": data.eval, "test": data.test}
    for role, digest in inputs.digests.items():
        if role in known and known[role].sha256 not in (None, digest):
            raise InputError(f"{role} data of {folder}: not those that were explored (their digest differs)")
    return inputs


def _given(rebuilt: Rebuilt) -> Builder:
    """Return what stands for a builder where factors are given: no layer of the plan is fitted again."""
    from lrfdse.explore.layers.fits import Fits

    return Builder(rebuilt.model, Fits({}, "", Store(cache_folder())))


def _scores(evaluator: Evaluator, inputs: Inputs, factors: Mapping[str, Factors]) -> Scores:
    from lrfdse.model.passes.factor import rewrite

    return evaluator.scores_of(rewrite(inputs.model, factors))


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
        eval_score=_chosen(scores),
        test_score=_reported(scores),
        model=f"{DESIGNS}/{facts.id}/model.onnx",
        healed=healed,
    )


def _remeasured(factors: Factors, weight: Any) -> Factors:
    """Return factors with the error of their weight measured anew."""
    from lrfdse.factorize.difference import squared_difference

    norm = float(np.linalg.norm(weight)) or 1.0
    return dataclasses.replace(factors, weight_error=squared_difference(weight, factors.cores) ** 0.5 / norm)


def _version() -> str:
    from importlib.metadata import version

    return version("tensorflow")


def _write(
    folder: Path,
    document: Document,
    facts: DesignFacts,
    rebuilt: Rebuilt,
    factors: Mapping[str, Factors],
    content: bytes,
    forms: Int8Forms,
    progress: Listener,
) -> Document:
    """Make the files of the healed design beside those that are there, then put all in their places at once."""
    int8 = forms.made(facts.id, factors) if rebuilt.int8 else None
    made: Int8Facts | None = forms.facts.get(facts.id)
    if made is not None:
        made = dataclasses.replace(made, model=f"{DESIGNS}/{facts.id}/model.int8.onnx")
    document = with_design(document, dataclasses.replace(facts, int8=made))
    notes = [note for note in document.notes if not note.startswith(f"{_NOTE}{facts.id} ")]
    document = dataclasses.replace(document, notes=(*notes, healed_note(facts, document)))
    place = design_folder(folder / DESIGNS, facts.id)
    with temporary_folder(folder / DESIGNS) as beside:
        staged = beside / facts.id
        staged.mkdir()
        write_design(
            staged,
            rebuilt.model,
            rebuilt.plan,
            factors,
            rebuilt.schedules,
            rebuilt.target,
            progress,
            exported=True,
            int8=int8,
            healed=content,
            forms=rebuilt.forms,
        )
        library = _library(document, facts, staged / "model.onnx", rebuilt, progress)
        written = manifest(staged)
        assert written is not None
        if library is not None:
            check_folder(place / LIBRARY)
        more = [] if library is None else [f"{LIBRARY}/{name}" for name in (*library.files, MANIFEST)]
        with _undisturbed():
            mark(place, [*written.files, *more], exported=True)
            folder_below(place, "kernels")
            for name in sorted(written.files, key=lambda name: name == "model.onnx"):
                _put(staged / name, place / name)
            if library is not None:
                write_library(place / LIBRARY, library.files, library.last)
            write_document(document, folder)
    return document


def _library(
    document: Document, facts: DesignFacts, model: Path, rebuilt: Rebuilt, progress: Listener
) -> Library | None:
    """Return the C library of the healed model where the folder has one of the design, else None."""
    if facts.whole_model.library is None:
        return None
    options = LibraryOptions(shape=document.settings.shape, meter=facts.whole_model.meter or NO_METER)
    return library_of(model, rebuilt.target, options, Store(cache_folder()), progress)


def _put(made: Path, place: Path) -> None:
    """Move a file into its place; where none was made, there is none then."""
    try:
        if made.exists():
            os.replace(made, place)
        else:
            place.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{place}: cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Have Ctrl-C and SIGTERM wait while files of one design take the place of others: it takes milliseconds."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    # Blocking them in this thread would not do: another one of TensorFlow's takes them then.
    before = {number: signal.signal(number, lambda got, _: waiting.append(got)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if waiting:
            signal.raise_signal(waiting[0])


def healed_note(facts: DesignFacts, document: Document) -> str:
    """Return what a reader must know of a healed design."""
    healed = facts.healed
    assert healed is not None
    by = {"outputs": "the original's outputs", "labels": "labels", "both": "the original's outputs and labels"}
    scores = f"{document.metric} {healed.eval_before.value:.4f} before, {facts.eval_value:.4f} now on evaluation data"
    if facts.test_score is not None and healed.test_before is not None:
        scores += f"; {healed.test_before.value:.4f}, {facts.test_score.value:.4f} on test data"
    return (
        f"{_NOTE}{facts.id} was trained on {counted(healed.samples, 'sample')} by {by[healed.teacher]}: {scores}; "
        "shapes, kernels and latencies are as before"
    )
