"""Labels as users keep them, made the class numbers that outputs are compared with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrfdse.errors import InputError
from lrfdse.quality.outputs import hits, is_scores, shares

_ONE_OFF = 2.0
"""Times as many hits of labels less one from which labels are taken to be counted from 1. Chosen."""


def class_labels(labels: NDArray[Any], output: NDArray[Any], name: str, where: str) -> tuple[NDArray[np.int64], str]:
    """Return labels as class numbers from 0, and a note of what was changed, "" for nothing.

    Labels in which every row has a single 1 among 0 are one-hot; labels of -1 and 1 name two classes.

    Parameters
    ----------
    labels
        Numbers, samples first.
    output
        What the original model gives, samples first.
    name
        Name of the output.
    where
        Begins messages: the file.

    Raises
    ------
    InputError
        Labels are no class numbers of the output, or are counted from 1.
    """
    classes = output.shape[-1] if is_scores(output) else None
    if labels.ndim >= 2 and labels.shape == output.shape and classes is not None and _one_hot(labels):
        return labels.argmax(axis=-1).astype(
            np.int64
        ), f"labels of {where} are one-hot: each row's class is where its 1 is"
    whole = labels.dtype.kind in "biu" or bool((labels == np.round(labels)).all())
    if not whole or labels.ndim not in (1, 2):
        # Which axis of scores a class of every pixel belongs to is not asked for.
        fix = "" if labels.ndim < 3 else ": for one a pixel give --metric MODULE:FUNCTION, or leave labels out"
        raise InputError(
            f"{where}: labels must be class numbers from 0, one a sample, but got {labels.dtype} {labels.shape}{fix}"
        )
    found = labels.astype(np.int64)
    found = found[:, 0] if found.ndim == 2 and found.shape[1] == 1 else found
    two = classes is None or classes == 2
    if found.size and found.min() < 0:
        if two and set(np.unique(found)) <= {-1, 1}:
            return (found > 0).astype(np.int64), f"labels of {where} are -1 and 1: taken as classes 0 and 1"
        raise InputError(
            f"{where}: labels must be class numbers from 0, but one is {found.min()}: leave out samples without a class"
        )
    if classes is not None and found.size and found.min() >= 1:
        _check_counted_from_0(found, output, name, classes, where)
    return found, ""


def _one_hot(labels: NDArray[Any]) -> bool:
    return bool(np.isin(labels, (0, 1)).all() and (labels.sum(axis=-1) == 1).all())


def _check_counted_from_0(labels: NDArray[np.int64], output: NDArray[Any], name: str, classes: int, where: str) -> None:
    """Refuse labels from 1 to the number of classes, or less, where the output agrees with each less 1."""
    if labels.max() == classes:
        raise InputError(
            f"{where}: labels go from {labels.min()} to {labels.max()}, but the {classes} classes of output {name!r} "
            f"from 0 to {classes - 1}: subtract 1"
        )
    if labels.max() < classes:
        own, less = (float(shares(hits({name: output}, found, name)).mean()) for found in (labels, labels - 1))
        if less > 0.5 and less > _ONE_OFF * own:
            raise InputError(
                f"{where}: {own:.1%} of the labels are the class that output {name!r} decides, but {less:.1%} of the "
                "labels less 1: they are counted from 1, subtract 1"
            )
