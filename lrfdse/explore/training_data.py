"""What heals a design: what the user asks, and the training data, which neither choose nor report."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lrfdse.base.events import Event, Listener
from lrfdse.base.text import counted
from lrfdse.errors import InputError
from lrfdse.explore.judging import outputs_on, with_class_labels
from lrfdse.healing.losses import TEACHERS, Teacher

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lrfdse.explore.inputs import Inputs
    from lrfdse.model.data import Dataset

LEAST_SAMPLES = 20
"""Training samples below which none are taken: one in ten is held out, and one of so few judges by chance. Chosen."""


@dataclass(frozen=True, slots=True)
class HealRequest:
    """How a design is to be healed."""

    data: Path
    """Training data, maybe with labels."""
    epochs: int = 20
    """Times that every sample is seen."""
    minutes: float = 10.0
    """Minutes that training may take."""
    teacher: Teacher | None = None
    """What training goes by; None takes both where there are labels, else the original's outputs."""
    seed: int = 0
    metric: str | None = None
    """The MODULE:FUNCTION that may run here where the exploration was scored by it."""


def check_request(request: HealRequest, minutes: str = "--minutes") -> None:
    """Raise `InputError` where a number of the request makes no sense; `minutes` says where the minutes come from."""
    if request.epochs < 1:
        raise InputError(f"--epochs must be 1 or more, but got {request.epochs}")
    if not 0 < request.minutes < float("inf"):
        raise InputError(f"{minutes} must be above 0, but got {request.minutes:g}")


def teacher_of(name: str | None, option: str) -> Teacher | None:
    """Return what training goes by, by its name; None leaves it to the data.

    Raises
    ------
    InputError
        There is no such; `option` says where the name comes from.
    """
    found = next((each for each in TEACHERS if each == name), None)
    if name is not None and found is None:
        raise InputError(f"{option} takes {', '.join(TEACHERS)}, but got {name!r}")
    return found


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What a design is trained by."""

    data: Dataset
    """Samples that neither choose designs nor report on them, with labels where these count."""
    fitted: NDArray[np.bool_]
    """Which of them are calibration data, which the factors were fitted to, of shape (samples,)."""
    share: float
    """Part of the loss that labels have."""
    teacher: Teacher
    """What training goes by."""


def training_data(request: HealRequest, inputs: Inputs, progress: Listener, option: str = "--teacher") -> TrainingData:
    """Return what trains; `option` says where the teacher's name comes from.

    Raises
    ------
    InputError
        Too few samples are left, or they do not fit the model or the teacher.
    """
    from lrfdse.model.data import load_data

    data = load_data(request.data, inputs.model.inputs, classes=False)
    told = among(data, *(each for each in (inputs.choosing, inputs.reporting) if each is not None))
    if left := int(told.sum()):
        progress(Event("note", f"{counted(left, 'training sample')} left out: the same are evaluation or test data"))
        data = data.take(~told)
    if data.count < LEAST_SAMPLES:
        raise InputError(
            f"{request.data}: {counted(data.count, 'sample')} to train on that choose and report nothing, but "
            f"{LEAST_SAMPLES} or more are needed"
        )
    judging = inputs.judging
    usable = judging.judged.kind in ("classes", "numbers") and judging.judged.name == judging.objective[0].output
    if data.labels is None and request.teacher in ("labels", "both"):
        raise InputError(f"{request.data}: {option} {request.teacher} needs an array `labels` beside the inputs")
    if data.labels is not None and request.teacher in ("labels", "both") and not usable:
        raise InputError(
            f"{option} {request.teacher}: output {judging.judged.name!r} holds neither scores of classes nor numbers "
            f"that labels could be compared with; take {option} outputs"
        )
    teacher = request.teacher or ("both" if data.labels is not None and usable else "outputs")
    fitted = among(data, *(() if inputs.calib is None else (inputs.calib,)))
    if teacher == "outputs":
        return TrainingData(dataclasses.replace(data, labels=None), fitted, 0.0, teacher)
    share = 1.0 if teacher == "labels" else 0.5
    return TrainingData(_with_labels(data, inputs, str(request.data)), fitted, share, teacher)


def among(data: Dataset, *others: Dataset) -> NDArray[np.bool_]:
    """Return which samples are those of other data, too, of shape (samples,): the same inputs to the last bit."""
    known = {key for each in others for key in _samples(each)}
    return np.array([key in known for key in _samples(data)], dtype=bool)


def _with_labels(data: Dataset, inputs: Inputs, where: str) -> Dataset:
    """Return data with labels that fit the judged output."""
    from lrfdse.model.runtime import Runtime
    from lrfdse.quality.outputs import fits_targets

    judging = inputs.judging
    name = judging.judged.name
    outputs = outputs_on(inputs.model, data, Runtime(sessions=1), [name])
    if judging.judged.kind == "numbers":
        assert data.labels is not None
        if not fits_targets({name: outputs[name]}, data.labels):
            raise InputError(f"{where}: labels of shape {data.labels.shape} do not fit output {name!r}")
        return data
    data, _ = with_class_labels(data, judging, outputs, where)
    scores, labels = outputs[name], data.labels
    assert labels is not None
    if labels.dtype.kind not in "iu" or labels.shape != scores.shape[:-1] or labels.max() >= scores.shape[-1]:
        raise InputError(
            f"{where}: labels must be classes from 0 to {scores.shape[-1] - 1}, shape {scores.shape[:-1]}, but got "
            f"{labels.dtype} {labels.shape}, up to {labels.max()}"
        )
    return data


def _samples(data: Dataset) -> list[bytes]:
    """Return a digest of each sample's inputs, in the type that the model takes."""
    found = []
    arrays = [np.ascontiguousarray(array) for _, array in sorted(data.inputs.items())]
    for place in range(data.count):
        state = hashlib.sha256()
        for array in arrays:
            state.update(array[place].tobytes())
        found.append(state.digest())
    return found
