"""Accuracy: how often a model is right, and how often it agrees with another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrfdse.errors import InputError


def top1(outputs: Mapping[str, NDArray[Any]], labels: NDArray[np.int64], name: str | None = None) -> float:
    """Return the share of labels that are the class of highest score; for arguments and errors see `hits`."""
    return float(np.mean(hits(outputs, labels, name)))


def hits(outputs: Mapping[str, NDArray[Any]], labels: NDArray[np.int64], name: str | None = None) -> NDArray[np.bool_]:
    """Return, in the shape of the labels, where the label is the class of highest score.

    Parameters
    ----------
    outputs
        Output name to scores of shape (samples, classes) or (samples, positions, classes), or to class numbers.
    labels
        Class numbers of shape (samples,) or (samples, positions).
    name
        The output that holds the scores; the first by default.

    Raises
    ------
    InputError
        The output's shape does not fit the labels, or a label is no class of the output.
    """
    key, array = _named(outputs, name)
    if _is_scores(array):
        if labels.size and int(labels.max()) >= array.shape[-1]:
            raise InputError(
                f"labels below {array.shape[-1]} must hold, the classes of output {key!r}, but got {labels.max()}"
            )
        decided = _classes(array)
    elif array.dtype.kind in "biu":
        decided = array
    else:
        raise InputError(
            f"output {key!r} of shape {array.shape} holds no class scores: labels cannot be compared with it"
        )
    if decided.shape != labels.shape:
        decided = np.squeeze(decided, tuple(axis for axis, size in enumerate(decided.shape) if axis and size == 1))
    if decided.shape != labels.shape:
        raise InputError(f"output {key!r} decides {decided.shape} classes, but the labels are {labels.shape}")
    return np.asarray(decided == labels)


def fidelity(
    outputs: Mapping[str, NDArray[Any]], reference: Mapping[str, NDArray[Any]], name: str | None = None
) -> float:
    """Return the agreement of a model with a reference on the same samples, between 0 and 1.

    Where the output holds scores (two or more along the last axis, after the axis of samples), it is the share of
    samples and positions with the same highest score. Whole numbers agree where they are equal. Any other output is
    taken as a regression: the share of the reference's variance that the output explains (R², at least 0).

    Raises
    ------
    InputError
        The two have different shapes, or the reference holds NaN.
    """
    key, expected = _named(reference, name)
    array = outputs[key]
    if array.shape != expected.shape:
        raise InputError(f"output {key!r} has shape {array.shape}, but {expected.shape} in the reference")
    if expected.dtype.kind in "biu":
        return float(np.mean(array == expected))
    if np.isnan(expected).any():
        raise InputError(f"output {key!r} of the original model holds NaN on this data")
    if _is_scores(expected):
        return float(np.mean(_classes(array) == _classes(expected)))
    wide, reference_wide = array.astype(np.float64), expected.astype(np.float64)
    residual = float(np.sum((wide - reference_wide) ** 2))
    variance = float(np.sum((reference_wide - reference_wide.mean()) ** 2))
    if not np.isfinite(residual) or (variance == 0 and residual > 0):
        return 0.0
    return 1.0 if residual == 0 else max(0.0, 1.0 - residual / variance)


def _named(outputs: Mapping[str, NDArray[Any]], name: str | None) -> tuple[str, NDArray[Any]]:
    key = next(iter(outputs)) if name is None else name
    if key not in outputs:
        raise InputError(f"no output {key!r}; the model's outputs are {', '.join(outputs)}")
    return key, outputs[key]


def _classes(scores: NDArray[Any]) -> NDArray[np.int64]:
    """Return the class of highest score along the last axis, -1 where a score is NaN."""
    return np.where(np.isnan(scores).any(axis=-1), -1, np.argmax(scores, axis=-1))


def _is_scores(array: NDArray[Any]) -> bool:
    return array.dtype.kind not in "biu" and array.ndim >= 2 and array.shape[-1] > 1
