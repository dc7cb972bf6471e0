"""From what the user named to what the exploration works on: the model, and the data in their roles."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from lrfdse.base.heap import give_back
from lrfdse.errors import InputError
from lrfdse.explore.judging import SAMPLES, Judged, Judging, open_judging, outputs_on, with_class_labels
from lrfdse.formats import model_at
from lrfdse.ir.layer import DEFAULT_KINDS, Kind
from lrfdse.results.effort import check_effort
from lrfdse.results.settings import Data, Options, Settings
from lrfdse.targets.catalog import load_search_space, load_target

if TYPE_CHECKING:
    from lrfdse.ir.space import SearchSpace
    from lrfdse.model.data import Dataset
    from lrfdse.model.graph import Model
    from lrfdse.quality.metrics import Scorer

LEAST_CALIBRATION = 2
"""Calibration samples below which none are taken: what one sample reads has no covariance."""

RANDOM_SAMPLES = 64
"""Random inputs that stand for evaluation data where none are given: enough to see a model that gives nothing but NaN
or one class, and run in a blink. What they say of losses decides nothing unless the user accepts it."""


@dataclass(frozen=True, slots=True)
class DataRequest:
    """How the model and its data are read, and by what outputs are graded."""

    shape: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Sizes of inputs that the model leaves dynamic, by the input's name."""
    metric: str | None = None
    """What grades outputs, a name of `lrfdse.quality.metrics`; None means top-1, without labels fidelity."""
    eval_samples: int | None = None
    """Samples drawn from the evaluation data to choose by; None means all."""
    seed: int = 0
    """Seed of that draw, and of the random inputs that stand for evaluation data where there are none."""
    judge: tuple[str, ...] = ()
    """Names of the outputs that count, the judged one first and those that weigh more repeated; empty means all."""
    layers: tuple[Kind, ...] = DEFAULT_KINDS
    """The kinds of layers that are looked for."""
    value: Mapping[str, str] = field(default_factory=dict)
    """Numbers that inputs are fixed to, by the input's name."""


@dataclass(frozen=True, slots=True)
class Files:
    """Where on this machine the model, its data and the results of earlier runs lie; every machine has its own."""

    model: Path
    data: Data
    cache: Path


@dataclass(frozen=True, slots=True)
class Inputs:
    """The model and its data."""

    model: Model
    calib: Dataset | None
    choosing: Dataset
    reporting: Dataset | None
    judging: Judging
    """Which outputs count, and how."""
    chosen: Judged
    """The data that choose with the original model's outputs and grade."""
    reported: Judged | None
    """The same of the data that report; None where there is nothing to report on them."""
    notes: tuple[str, ...]
    verified: bool = True
    """Whether the data that choose are the user's; else they are random inputs, on which no loss means anything."""

    @property
    def scorer(self) -> Scorer:
        """The metric."""
        return self.judging.scorer

    @property
    def digests(self) -> dict[str, str | None]:
        """SHA-256 of the data in each role; random data and halves are what they were used as."""
        parts = {"calib": self.calib, "eval": self.choosing, "test": self.reporting}
        return {role: None if part is None else part.digest for role, part in parts.items()}


def settings_for(
    model: Path,
    target: str,
    space: str = "default",
    data: Data | None = None,
    output: Path | None = None,
    shape: Mapping[str, tuple[int, ...]] | None = None,
    value: Mapping[str, str] | None = None,
    **more: Unpack[Options],
) -> Settings:
    """Return settings with defaults filled in.

    Parameters
    ----------
    model
        A model file, a SavedModel folder, or a folder that holds ``model.onnx``; in folders maybe ``calib.npz``,
        ``eval.npz``, ``test.npz`` and, to heal with, ``train.npz``.
    target, space
        Names of what ships, or paths of TOML files.
    data
        Goes before what the folder holds.
    output
        Default: ``results/<model>-<target>``.
    shape
        Sizes of inputs that the model leaves dynamic.
    value
        Numbers that inputs are fixed to, as texts.
    more
        Other fields of `Settings`, by name.
    """
    data = data or Data()
    name = model.stem
    if model.is_dir():
        folder, model = model, model_at(model)
        name = folder.resolve().name
        there = {role: folder / f"{role}.npz" for role in ("calib", "eval", "test")}
        data = dataclasses.replace(
            data, **{role: path for role, path in there.items() if path.is_file() and getattr(data, role) is None}
        )
        beside = folder / "train.npz"
        if more.get("heal") and more.get("heal_data") is None and beside.is_file():
            more["heal_data"] = beside
    machine, searched = load_target(target), load_search_space(space)
    _check_method(searched, space)
    check_effort(more.get("effort", "normal"))
    return Settings(
        model=model,
        target=machine,
        target_source=target,
        space=searched,
        space_source=space,
        output=Path("results") / f"{name}-{machine.name}" if output is None else output,
        data=data,
        shape=shape or {},
        value=value or {},
        **more,
    )


def _check_method(space: SearchSpace, source: str) -> None:
    from lrfdse.factorize.methods import METHODS

    try:
        METHODS.get(space.method)
    except InputError as error:
        raise InputError(f"search space {source}: {error}") from error


def open_calibration(path: Path | None, model: Model, fixed: Collection[str] = ()) -> Dataset | None:
    """Return the data that fit, or None where none were named; `fixed` names inputs that are none any more.

    Raises
    ------
    InputError
        The file cannot be used, or holds one sample alone, from which nothing can be learned.
    """
    from lrfdse.model.data import load_data

    if path is None:
        return None
    data = load_data(path, model.inputs, classes=False, fixed=fixed)
    if data.count < LEAST_CALIBRATION:
        raise InputError(
            f"{path}: one sample says nothing of what layers read: calibration needs 2 or more, better 100"
        )
    return data


def precision_notes(model: Model) -> list[str]:
    """Return a note on layers whose weights are not float32, or nothing: kernels and latencies are of float32."""
    kinds = sorted({array.dtype.name for array in model.matrices.values()} - {"float32"})
    if not kinds:
        return []
    text = f"weights of {' and '.join(kinds)} stay so in the models; kernels, and so latencies, are of float32"
    ran = "; onnxruntime has no kernels for bfloat16, so that scores are those of float32 arithmetic"
    return [text + (ran if "bfloat16" in kinds else "")]


def open_inputs(files: Files, request: DataRequest) -> Inputs:
    """Read the model and the data, decide which data choose and which report, and grade the original model on them.

    So whatever does not fit together is found before anything is compiled. Without evaluation data the model runs on
    random inputs; with evaluation data alone, one half of them chooses and
    the other reports. Of the data that choose, `request.eval_samples` are drawn by `request.seed`.

    Raises
    ------
    InputError
        The model, the data or the metric cannot be used as given.
    """
    from lrfdse.formats.notes import notes_of_format
    from lrfdse.model.data import load_data, random_data
    from lrfdse.model.graph import load_model
    from lrfdse.model.runtime import Runtime
    from lrfdse.quality.metrics import check_metric

    check_metric(request.metric)
    if request.eval_samples is not None and request.eval_samples < 1:
        raise InputError(f"--eval-samples must be 1 or more, but got {request.eval_samples}")
    model = load_model(files.model, request.shape, request.layers, request.value)
    data, notes = files.data, []

    def read(path: Path | None) -> Dataset | None:
        return None if path is None else load_data(path, model.inputs, classes=False, fixed=request.value)

    calib, choosing, reporting = open_calibration(data.calib, model, request.value), read(data.eval), read(data.test)
    if choosing is None and reporting is not None:
        raise InputError(
            f"--test {data.test} reports accuracies, but nothing chooses designs: name data with --eval too"
        )
    if choosing is None:
        choosing = random_data(model.inputs, RANDOM_SAMPLES, request.seed)
    elif reporting is None and choosing.labels is not None:
        choosing, reporting = choosing.split()
        notes.append("no test data: one half of the evaluation data chose the designs, the other half reported")
    if request.eval_samples is not None and request.eval_samples < choosing.count:
        notes.append(
            f"{request.eval_samples} of {choosing.count} evaluation samples, drawn at random, chose the designs"
        )
        choosing = choosing.draw(request.eval_samples, request.seed)
    if calib is None:
        notes.append("no calibration data: factorizations know only the weights; give --calib for better ones")
    if choosing.labels is not None and reporting is not None and reporting.labels is None:
        raise InputError(f"{data.test}: holds no labels, so no accuracy can be reported on it; add an array `labels`")
    verified, runtime = data.eval is not None, Runtime(sessions=1)
    outputs = outputs_on(model, choosing, runtime, request.judge)
    seen = outputs
    if not verified and calib is not None:
        # Real inputs say what an output holds, where random ones fall into one class.
        seen = outputs_on(model, calib.head(SAMPLES), runtime, request.judge)
    judging = open_judging(model, seen, verified or calib is not None, request.metric, choosing.labels, request.judge)
    choosing, note = with_class_labels(choosing, judging, outputs, str(data.eval))
    chosen, reported = Judged.of(choosing, outputs, judging), None
    if reporting is not None and (reporting.labels is not None or judging.scorer.name != "fidelity"):
        found = outputs_on(model, reporting, runtime, request.judge)
        reporting, _ = with_class_labels(reporting, judging, found, str(data.test or data.eval))
        reported = Judged.of(reporting, found, judging)
    # Reading a model leaves several forms of it.
    give_back()
    notes = [*judging.notes, *notes_of_format(model.proto), *precision_notes(model), *([note] if note else []), *notes]
    return Inputs(model, calib, choosing, reporting, judging, chosen, reported, tuple(notes), verified)
