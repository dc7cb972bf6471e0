"""What designs are chosen by: the registered metrics, and a function of the user's own."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lrfdse.base.registry import Registry
from lrfdse.errors import InputError
from lrfdse.quality.scores import Grade

if TYPE_CHECKING:
    from lrfdse.model.data import Dataset

Outputs = Mapping[str, NDArray[Any]]

GradeOutputs = Callable[[Outputs, "Dataset", Outputs], Grade]
"""A function that grades a model: (its outputs, the data, the original model's outputs) to a `Grade`."""


@dataclass(frozen=True, slots=True)
class QualityMetric:
    """What is registered as a metric: how it grades outputs, and what it takes labels and outputs for."""

    grade: GradeOutputs
    needs_classes: bool = False
    """Whether its labels are class numbers; else they may be targets of any kind."""
    compares_numbers: bool = False
    """Whether it compares outputs as numbers, so that fits keep their squared error small even where the outputs look
    like scores of classes."""
    reported: tuple[str, str] | None = None
    """What reports call it with labels and without; None for the name under which it is registered."""


@dataclass(frozen=True, slots=True)
class Scorer:
    """A metric: what it is called, what identifies it, and how it grades outputs."""

    name: str
    """The name in reports: "accuracy" for top-1 with labels, "fidelity" for top-1 without, else the metric's name."""
    key: str
    """Part of the study's identity: the name, and for a function of the user's own a digest of its source."""
    function: GradeOutputs

    @property
    def is_own(self) -> bool:
        """Whether it is a function of the user's own."""
        return is_own(self.name)

    def grade(self, outputs: Outputs, data: Dataset, reference: Outputs) -> Grade:
        """Grade a model's outputs on `data`, where the original model's are `reference`.

        Raises
        ------
        InputError
            The outputs do not fit the labels, or the user's function fails.
        """
        return self.function(outputs, data, reference)


def check_metric(metric: str | None) -> None:
    """Raise `InputError` where the name is neither one of `METRICS` nor ``module:function``."""
    if metric is not None and not isinstance(metric, str):
        raise InputError(
            "metric takes a name, or your own function as the text 'MODULE:FUNCTION' that every process finds"
        )
    if metric is not None and not _OWN.fullmatch(metric) and metric not in METRICS.names():
        raise InputError(f"--metric takes {', '.join(METRICS.names())} or MODULE:FUNCTION, but got {metric!r}")


def needs_classes(metric: str | None) -> bool:
    """Return whether the metric's labels are class numbers; else they may be targets of any kind."""
    return metric is None or (not is_own(metric) and METRICS.get(metric).needs_classes)


def compares_numbers(metric: str | None) -> bool:
    """Return whether the metric compares outputs as numbers, whatever they look like."""
    return metric is not None and not is_own(metric) and METRICS.get(metric).compares_numbers


def open_scorer(metric: str | None, labelled: bool) -> Scorer:
    """Return a metric by name.

    With labels, outputs are compared with them; without, with what the original model gives, whose class of highest
    score is then the label. All are better when higher, at most 1, and a loss of 0.01 is one point:

    top1
        Share of labels that are the class of highest score. The default.
    top5
        Share of labels among the five classes of highest score.
    exact
        Share of samples of which every position is right.
    mse
        Explained variance: one minus the mean squared error over the variance of the targets.
    cosine
        Mean over samples of the cosine between an output and its target.
    module:function
        The user's own: `function(outputs, batch)` takes the outputs and the inputs (with "labels", where there are
        some) of all samples, by name, and returns a number or one number a sample, whose mean is the score.

    Labels that do not have the shape of the outputs, such as class numbers, are no targets: "mse" and "cosine" then
    compare with the original model's outputs.

    Parameters
    ----------
    metric
        A name of `METRICS`, a plug-in's among them, or ``module:function``; None for the default.
    labelled
        Whether the data that choose have labels.

    Raises
    ------
    InputError
        There is no such metric, or the user's module cannot be imported.
    ToolError
        The plug-in that offers it is broken.
    """
    check_metric(metric)
    metric = metric or DEFAULT
    if not is_own(metric):
        found = METRICS.get(metric)
        if found.reported is not None:
            name = found.reported[0 if labelled else 1]
            return Scorer(name, name, found.grade)
        return Scorer(metric, METRICS.identity(metric), found.grade)
    function, source = _load(metric)
    return Scorer(metric, f"{metric}@{source}", lambda outputs, data, _: _own(metric, function, outputs, data))


def fidelity_grade(outputs: Outputs, reference: Outputs) -> Grade:
    """Grade the agreement with the original model, bounded to [0, 1]."""
    from lrfdse.quality.outputs import agreements, decision_count

    values = agreements(outputs, reference)
    return Grade(min(1.0, max(0.0, float(values.mean()))), values, decision_count(reference))


def explained_grade(outputs: Outputs, targets: NDArray[Any], name: str | None = None) -> Grade:
    """Grade the explained variance, with what its error needs; for the arguments see `lrfdse.quality.outputs`."""
    from lrfdse.quality.outputs import FLOOR, effective_samples, explained, explained_without_each

    values = explained(outputs, targets, name)
    left = explained_without_each(outputs, targets, name)
    effective = effective_samples(outputs, targets, name)
    return Grade(max(FLOOR, float(values.mean())), values, without_each=left, effective=effective)


def _top1(outputs: Outputs, data: Dataset, reference: Outputs) -> Grade:
    from lrfdse.quality.outputs import hits, shares

    if data.labels is None:
        return fidelity_grade(outputs, reference)
    return _shares(shares(right := hits(outputs, data.labels)), right.size)


def _top5(outputs: Outputs, data: Dataset, reference: Outputs) -> Grade:
    from lrfdse.quality.outputs import hits, shares

    return _shares(shares(right := hits(outputs, _labels(data, reference), best=5)), right.size)


def _exact(outputs: Outputs, data: Dataset, reference: Outputs) -> Grade:
    from lrfdse.quality.outputs import exact_matches, hits

    return _shares(exact_matches(hits(outputs, _labels(data, reference))), data.count)


def _mse(outputs: Outputs, data: Dataset, reference: Outputs) -> Grade:
    return explained_grade(outputs, _targets(data, reference))


def _cosine(outputs: Outputs, data: Dataset, reference: Outputs) -> Grade:
    from lrfdse.quality.outputs import cosines

    values = cosines(outputs, _targets(data, reference))
    return Grade(float(values.mean()), values)


def _shares(values: NDArray[np.float64], decisions: int) -> Grade:
    return Grade(float(values.mean()), values, decisions)


def _labels(data: Dataset, reference: Outputs) -> NDArray[np.int64]:
    from lrfdse.quality.outputs import decisions

    return decisions(reference) if data.labels is None else data.labels


def _targets(data: Dataset, reference: Outputs) -> NDArray[Any]:
    from lrfdse.quality.outputs import fits_targets

    if data.labels is not None and fits_targets(reference, data.labels):
        return data.labels
    return next(iter(reference.values()))


DEFAULT = "top1"

METRICS: Registry[QualityMetric] = Registry(
    "lrfdse.metrics",
    "metric",
    {
        DEFAULT: QualityMetric(_top1, needs_classes=True, reported=("accuracy", "fidelity")),
        "top5": QualityMetric(_top5, needs_classes=True),
        "mse": QualityMetric(_mse, compares_numbers=True),
        "cosine": QualityMetric(_cosine, compares_numbers=True),
        "exact": QualityMetric(_exact, needs_classes=True),
    },
)
"""The metrics by name; a plug-in adds one under the entry-point group "lrfdse.metrics"."""


def is_own(metric: str) -> bool:
    """Return whether it is a function of the user's own, ``module:function``."""
    return ":" in metric


_OWN = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


@contextlib.contextmanager
def _current_directory_importable() -> Iterator[None]:
    """Put the current directory first on Python's path, as for a script that lies there; then take it off again.

    A function of the user's own may import what lies beside it while it runs, not only when it is loaded. Nothing else
    is ever imported with that path.
    """
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(here)


def _load(metric: str) -> tuple[Callable[..., Any], str]:
    """Return the user's function and a digest of the file that it comes from."""
    module_name, _, name = metric.partition(":")
    with _current_directory_importable():
        # A module written since the last look would otherwise not be seen.
        importlib.invalidate_caches()
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is None or not (module_name + ".").startswith(error.name + "."):
                raise InputError(f"--metric {metric}: importing {module_name} failed: {error}") from error
            raise InputError(
                f"--metric {metric}: no module {error.name!r} in the current directory or on Python's path"
            ) from error
        except (Exception, SystemExit) as error:
            raise InputError(f"--metric {metric}: importing {module_name} failed: {_reason(error)}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise InputError(f"--metric {metric}: {module_name} has no function {name!r}")
    source = getattr(module, "__file__", None)
    content = b"" if source is None else Path(source).read_bytes()
    return function, hashlib.sha256(content).hexdigest()[:16]


def _own(metric: str, function: Callable[..., Any], outputs: Outputs, data: Dataset) -> Grade:
    batch = dict(data.inputs) if data.labels is None else {**data.inputs, "labels": data.labels}
    with _current_directory_importable():
        try:
            result = function(_read_only(outputs), _read_only(batch))
        except (Exception, SystemExit) as error:
            raise InputError(f"--metric {metric} failed: {_reason(error)}") from error
    try:
        values = np.asarray(result, np.float64)
    except (TypeError, ValueError):
        values = np.full((), np.nan)
    if values.shape not in ((), (data.count,)) or not np.isfinite(values).all():
        given = f"an array of shape {np.shape(result)}" if isinstance(result, np.ndarray) else repr(result)[:60]
        raise InputError(
            f"--metric {metric} must return a finite number or one for each of {data.count} samples, but got {given}"
        )
    if values.shape == ():
        return Grade(float(values))
    return Grade(float(values.mean()), values, data.count if np.isin(values, (0.0, 1.0)).all() else None)


def _read_only(arrays: Outputs) -> dict[str, NDArray[Any]]:
    """Return views that cannot be written to: later plans are graded on the same inputs."""
    views = {}
    for name, array in arrays.items():
        views[name] = array.view()
        views[name].flags.writeable = False
    return views


def _reason(error: BaseException) -> str:
    """Return an error in one line, with the place in the user's code."""
    from lrfdse.base.text import one_line

    frames = traceback.extract_tb(error.__traceback__)
    elsewhere = (__file__, "importlib", "site-packages")
    own = [frame for frame in frames if not any(part in frame.filename for part in elsewhere)]
    where = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {one_line(error)}{where}"
