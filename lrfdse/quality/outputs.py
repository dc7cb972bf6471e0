"""How right a model is, sample by sample: classes against labels, numbers against targets, models against each other.

Functions whose name is plural give one value a sample; their mean is the score, and their spread says how far to trust
it. All scores are higher for better models and at most 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrfdse.errors import InputError

Outputs = Mapping[str, NDArray[Any]]
"""Output name to array, samples along the first axis."""

Values = NDArray[np.float64]

FLOOR = -1.0
"""The explained variance of a sample whose output is NaN or Inf, and the least that a model is given: the mean
answer has 0, and how much worse than that a broken model is tells nothing."""

_NO_VARIANCE = 1e-12
"""Part of the variance of all samples below which that of all but one is none: what float64 leaves of equal targets."""


def hits(outputs: Outputs, labels: NDArray[np.int64], name: str | None = None, best: int = 1) -> NDArray[np.bool_]:
    """Return, in the shape of the labels, where the label is one of the `best` classes of highest score.

    Of classes with equal scores the one of lower number comes first. NaN among the scores counts as wrong.

    Parameters
    ----------
    outputs
        Output name to scores of shape (samples, classes) or (samples, positions, classes), or to class numbers.
    labels
        Class numbers of shape (samples,) or (samples, positions).
    name
        The output that holds the scores; the first by default.
    best
        Classes that may hold the label: 5 is top-5.

    Raises
    ------
    InputError
        The output's shape does not fit the labels, a label is no class of the output, or there are no more than `best`
        classes, so that every model would be right.
    """
    key, array = _named(outputs, name)
    if is_scores(array):
        if labels.size and int(labels.max()) >= array.shape[-1]:
            raise InputError(
                f"output {key!r} has {array.shape[-1]} classes, so labels go from 0 to {array.shape[-1] - 1}, "
                f"but one is {labels.max()}"
            )
        if best > 1:
            return _among_best(key, array, labels, best)
    elif best > 1:
        raise InputError(f"output {key!r} of shape {array.shape} holds no class scores: top-{best} needs them")
    decided = _squeezed(decisions(outputs, name), labels.ndim)
    if decided.shape != labels.shape:
        raise InputError(f"output {key!r} decides {decided.shape} classes, but the labels are {labels.shape}")
    return np.asarray(decided == labels)


def decisions(outputs: Outputs, name: str | None = None) -> NDArray[np.int64]:
    """Return the class of highest score, -1 where a score is NaN; whole numbers are classes already.

    Raises
    ------
    InputError
        The output holds neither scores nor whole numbers.
    """
    key, array = _named(outputs, name)
    if is_scores(array):
        return _classes(array)
    if array.dtype.kind not in "biu":
        raise InputError(
            f"output {key!r} of shape {array.shape} holds no class scores: labels cannot be compared with it"
        )
    return array.astype(np.int64)


def decision_count(outputs: Outputs, name: str | None = None) -> int | None:
    """Return how many classes an output decides over all samples; None where it holds other numbers."""
    array = _named(outputs, name)[1]
    if is_scores(array):
        return int(array.size) // int(array.shape[-1])
    return int(array.size) if array.dtype.kind in "biu" else None


def shares(right: NDArray[np.bool_]) -> Values:
    """Return the share of right positions of each sample, shape (samples,), from hits of any shape.

    >>> shares(np.array([[True, False], [True, True]])).tolist()
    [0.5, 1.0]
    """
    return np.asarray(right.reshape(len(right), -1).mean(axis=1), np.float64)


def exact_matches(right: NDArray[np.bool_]) -> Values:
    """Return 1 for each sample whose positions are all right, else 0, shape (samples,)."""
    return np.asarray(right.reshape(len(right), -1).all(axis=1), np.float64)


def explained(outputs: Outputs, targets: NDArray[Any], name: str | None = None) -> Values:
    """Return ``1 - e / V`` of each sample: its squared error against the targets' variance over samples.

    The mean over samples is the explained variance R² = 1 - MSE / Var(targets): 1 where the output is right, 0 for a
    model that always says the targets' mean. A sample whose output is NaN or Inf is given `FLOOR`.

    Parameters
    ----------
    outputs
        Output name to numbers of any shape, samples first.
    targets
        Numbers of the outputs' shape, axes of size 1 aside.
    name
        The output to compare; the first by default.

    Raises
    ------
    InputError
        The shapes differ, or a target is not finite.
    """
    errors, distances = _squares(outputs, targets, name)
    variance, finite = float(distances.mean()), np.isfinite(errors)
    errors = np.where(finite, errors, 0.0)
    values = 1.0 - errors / variance if variance > 0 else np.where(errors == 0, 1.0, 0.0)
    return np.asarray(np.where(finite, values, FLOOR), np.float64)


def explained_without_each(outputs: Outputs, targets: NDArray[Any], name: str | None = None) -> Values:
    """Return the explained variance of all samples but one, for each sample in turn; at least `FLOOR`.

    Where one sample holds most of the variance, these differ much more than the values of `explained` do: what the
    mean of those says rests on that sample. For the arguments and errors see `explained`.

    >>> far = np.array([0.0, 0.01, 0.02, 9.0])
    >>> explained_without_each({"y": far + [0.1, 0, 0, 0]}, far).round(3).tolist()
    [1.0, 1.0, 1.0, -1.0]
    """
    errors, distances = _squares(outputs, targets, name)
    values, count, whole = explained(outputs, targets, name), len(errors), float(distances.sum())
    if count < 2 or not whole > 0:
        return np.asarray((values.sum() - values) / max(count - 1, 1), np.float64)
    # What `explained` gives a sample without a number is that of an error of so many variances.
    errors = np.where(np.isfinite(errors), errors, (1 - FLOOR) * whole / count)
    # The others' mean lies elsewhere: about it they vary by this much less.
    rest = whole - distances * count / (count - 1)
    wrong = np.maximum(errors.sum() - errors, 0.0)
    known = rest > _NO_VARIANCE * whole
    left = np.where(known, 1 - wrong / np.where(known, rest, 1.0), np.where(wrong > 0, FLOOR, 1.0))
    return np.asarray(np.maximum(left, FLOOR), np.float64)


def effective_samples(outputs: Outputs, targets: NDArray[Any], name: str | None = None) -> float:
    """Return how many samples of equal weight hold the targets' variance: ``(sum d)^2 / sum d^2`` (Kish 1965).

    `d` are the squared distances from the mean target. For the arguments and errors see `explained`.

    >>> far = np.array([0.0, 0.01, 0.02, 9.0])
    >>> round(effective_samples({"y": far}, far), 2), effective_samples({"y": far}, np.array([0.0, 1, 0, 1]))
    (1.71, 4.0)
    """
    distances = _squares(outputs, targets, name)[1]
    squares = float(np.sum(distances**2))
    return float(distances.sum()) ** 2 / squares if squares > 0 else float(len(distances))


def _squares(outputs: Outputs, targets: NDArray[Any], name: str | None) -> tuple[Values, Values]:
    """Return each sample's squared error, and the squared distance of its target from the mean one."""
    actual, wanted = _rows(outputs, targets, name)
    centre = wanted.mean(axis=0) if len(wanted) > 1 else wanted.mean()
    distances = np.sum((wanted - centre) ** 2, axis=1)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.sum((actual - wanted) ** 2, axis=1), distances


def cosines(outputs: Outputs, targets: NDArray[Any], name: str | None = None) -> Values:
    """Return the cosine of each sample's output with its target, everything beyond the first axis as one vector.

    Two zero vectors have 1; a zero vector and another one have 0, an output with NaN or Inf has -1. For arguments and
    errors see `explained`.
    """
    actual, wanted = _rows(outputs, targets, name)
    finite: NDArray[np.bool_] = np.asarray(np.isfinite(actual).all(axis=1))
    actual = _unit(np.where(finite[:, None], actual, 0.0))
    wanted = _unit(wanted)
    values = np.where(~actual.any(axis=1) & ~wanted.any(axis=1), 1.0, np.sum(actual * wanted, axis=1))
    return np.asarray(np.where(finite, np.clip(values, -1.0, 1.0), -1.0), np.float64)


def fits_targets(outputs: Outputs, targets: NDArray[Any], name: str | None = None) -> bool:
    """Return whether an output has the shape of the targets, axes of size 1 aside."""
    return _core_shape(_named(outputs, name)[1]) == _core_shape(targets)


def agreements(outputs: Outputs, reference: Outputs, name: str | None = None) -> Values:
    """Return how far a model agrees with a reference on each sample, shape (samples,).

    Where the output holds scores (two or more along the last axis, after the axis of samples), it is the share of
    positions with the same highest score. Whole numbers agree where they are equal. Any other output is taken as a
    regression: the share of the reference's variance that the output explains.

    Raises
    ------
    InputError
        The two have different shapes, or the reference holds NaN.
    """
    key, array, expected = _pair(outputs, reference, name)
    if expected.dtype.kind in "biu":
        return shares(np.asarray(array == expected))
    if np.isnan(expected).any():
        raise InputError(f"output {key!r} of the original model holds NaN on this data")
    if is_scores(expected):
        return shares(np.asarray(_classes(array) == _classes(expected)))
    return explained(outputs, expected, key)


def output_error(outputs: Outputs, reference: Outputs, name: str | None = None) -> float | None:
    """Return the relative error of a model's output, ``|y - y0| / |y0|`` in Frobenius norm over all samples.

    Returns
    -------
    float or None
        None where the output is whole numbers, where it or the reference is not finite, or where the reference is zero
        everywhere and the output is not.

    Raises
    ------
    InputError
        The two have different shapes, or there is no such output.
    """
    _, array, expected = _pair(outputs, reference, name)
    if expected.dtype.kind in "biu":
        return None
    wanted = expected.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        error, size = float(np.linalg.norm(array.astype(np.float64) - wanted)), float(np.linalg.norm(wanted))
    if not (np.isfinite(error) and np.isfinite(size)):
        return None
    if error == 0:
        return 0.0
    return error / size if size > 0 else None


def classes_hit(outputs: Outputs, name: str | None = None) -> tuple[int, int] | None:
    """Return how many different classes the samples fall into, and how many there are; None without class scores.

    Raises
    ------
    InputError
        There is no such output.
    """
    array = _named(outputs, name)[1]
    if not is_scores(array):
        return None
    found = np.unique(_classes(array))
    return int(np.count_nonzero(found >= 0)), int(array.shape[-1])


def _pair(outputs: Outputs, reference: Outputs, name: str | None) -> tuple[str, NDArray[Any], NDArray[Any]]:
    """Return an output's name, its values, and those of the reference."""
    key, expected = _named(reference, name)
    array = outputs[key]
    if array.shape != expected.shape:
        raise InputError(f"output {key!r} has shape {array.shape}, but {expected.shape} in the reference")
    return key, array, expected


def _named(outputs: Outputs, name: str | None) -> tuple[str, NDArray[Any]]:
    key = next(iter(outputs)) if name is None else name
    if key not in outputs:
        raise InputError(f"no output {key!r}; the model's outputs are {', '.join(outputs)}")
    return key, outputs[key]


def _classes(scores: NDArray[Any]) -> NDArray[np.int64]:
    """Return the class of highest score along the last axis, -1 where a score is NaN."""
    return np.where(np.isnan(scores).any(axis=-1), -1, np.argmax(scores, axis=-1))


def is_scores(array: NDArray[Any]) -> bool:
    """Return whether an output holds scores of classes along its last axis."""
    return array.dtype.kind not in "biu" and array.ndim >= 2 and array.shape[-1] > 1


def _among_best(key: str, scores: NDArray[Any], labels: NDArray[np.int64], best: int) -> NDArray[np.bool_]:
    classes = scores.shape[-1]
    if classes <= best:
        raise InputError(f"top-{best} needs more than {best} classes, but output {key!r} has {classes}")
    lead = _squeezed(np.empty(scores.shape[:-1], bool), labels.ndim).shape
    if lead != labels.shape:
        raise InputError(f"output {key!r} decides {lead} classes, but the labels are {labels.shape}")
    scores = scores.reshape(*lead, classes)
    # A negative label is no class: what the original model has not decided.
    safe = np.maximum(labels, 0)
    own = np.take_along_axis(scores, safe[..., None], axis=-1)
    before = np.sum(scores > own, axis=-1)
    before += np.sum((scores == own) & (np.arange(classes) < safe[..., None]), axis=-1)
    return np.asarray((before < best) & ~np.isnan(scores).any(axis=-1) & (labels >= 0))


def _squeezed(array: NDArray[Any], ndim: int) -> NDArray[Any]:
    """Return the array without axes of size 1 after the first, where it has more than `ndim` axes."""
    if array.ndim <= ndim:
        return array
    return np.squeeze(array, tuple(axis for axis, size in enumerate(array.shape) if axis and size == 1))


def _core_shape(array: NDArray[Any]) -> tuple[int, ...]:
    return (len(array) if array.ndim else 0, *(size for size in array.shape[1:] if size != 1))


def _rows(outputs: Outputs, targets: NDArray[Any], name: str | None) -> tuple[Values, Values]:
    """Return output and targets as float64 rows, one a sample."""
    key, array = _named(outputs, name)
    if _core_shape(array) != _core_shape(targets):
        raise InputError(f"output {key!r} has shape {array.shape}, but the targets are {targets.shape}")
    actual, wanted = (each.reshape(len(each), -1).astype(np.float64) for each in (array, targets))
    if not np.isfinite(wanted).all():
        raise InputError(f"targets of output {key!r} hold NaN or Inf")
    return actual, wanted


def _unit(rows: Values) -> Values:
    """Return rows of length 1; zero rows stay."""
    scale = np.abs(rows).max(axis=1, keepdims=True, initial=0.0)
    rows = rows / np.where(scale > 0, scale, 1.0)
    length = np.sqrt(np.sum(rows**2, axis=1, keepdims=True))
    return np.asarray(rows / np.where(length > 0, length, 1.0), np.float64)
