"""How far a compressed model's outputs are from the original's, in nats or squared units."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lrfdse.errors import InputError
from lrfdse.model.constants import FLOATS
from lrfdse.model.data import Dataset

if TYPE_CHECKING:
    from lrfdse.ir.factorization import Array


Loss = Literal["softmax", "squared"]
"""What a change of the output costs: divergence of class scores (logits or probabilities), or half its square."""


_TINY = 1e-12
"""The least probability that has a logarithm of its own: below, outputs of float32 softmax are rounding."""


def scores_of(array: NDArray[Any], loss: Loss, chances: bool | None = None) -> Array:
    """Return an output as scores of shape (samples, positions, classes); probabilities become their logarithms.

    Parameters
    ----------
    array
        The output, samples first.
    loss
        How outputs are compared.
    chances
        Whether scores of classes are probabilities; None looks at the numbers.
    """
    scores = np.asarray(array, dtype=np.float64)
    scores = scores.reshape(len(scores), -1, scores.shape[-1]) if scores.ndim > 1 else scores.reshape(-1, 1, 1)
    if loss == "softmax" and (are_chances(scores) if chances is None else chances):
        return np.asarray(np.log(np.maximum(scores, _TINY)))
    return scores


def scores_pulled(weights: Array, array: NDArray[Any], loss: Loss, chances: bool | None = None) -> NDArray[np.float32]:
    """Return the derivatives of weighted sums of an output's scores by its elements, in the output's shape.

    Parameters
    ----------
    weights
        A weight for each score, of as many elements as the output has.
    array, loss, chances
        As for `scores_of`.

    >>> scores_pulled(np.array([1.0, 2.0]), np.array([[0.25, 0.75]]), "softmax")
    array([[4.       , 2.6666667]], dtype=float32)
    """
    found = weights.reshape(array.shape)
    if loss == "softmax" and (are_chances(array) if chances is None else chances):
        found = np.where(array > _TINY, found / np.maximum(array, _TINY), 0.0)
    return np.asarray(found, dtype=np.float32)


def are_chances(scores: NDArray[Any]) -> bool:
    """Return whether numbers are probabilities of the classes along the last axis; float16 sums of many are rough.

    >>> are_chances(np.array([[0.25, 0.75]])), are_chances(np.array([[-1.0, 2.0]]))
    (True, False)
    """
    rough = scores.dtype.kind != "f" or scores.dtype.itemsize < 4
    total = scores.astype(np.float64).sum(axis=-1)
    return bool(scores.min(initial=0.0) >= 0 and np.allclose(total, 1, atol=2e-2 if rough else 1e-3))


def softmax(scores: Array) -> Array:
    """Return class probabilities along the last axis."""
    shifted = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def divergences(scores: Array, reference: Array, loss: Loss) -> Array:
    """Return what each sample's scores cost against the reference, summed over positions, shape (samples,).

    The Kullback-Leibler divergence from the reference's class probabilities in nats, or half the squared difference.
    """
    if loss == "squared":
        return np.asarray(0.5 * ((scores - reference) ** 2).sum(axis=(1, 2)))
    wanted, got = _log_softmax(reference), _log_softmax(scores)
    return np.asarray((np.exp(wanted) * (wanted - got)).sum(axis=(1, 2)))


def _log_softmax(scores: Array) -> Array:
    shifted = scores - scores.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def scored_output(model: ir.Model) -> str:
    """Return the name of the first output of floating point.

    Raises
    ------
    InputError
        There is none.
    """
    for value in model.graph.outputs:
        is_tensor = isinstance(value.type, ir.TensorType)
        if is_tensor and value.dtype in FLOATS:
            return str(value.name)
    raise InputError("the model has no output of floating point to compare its versions by")


def evenly_spread(dataset: Dataset, count: int) -> Dataset:
    """Return at most `count` samples, spread evenly over a data set."""
    if count >= dataset.count:
        return dataset
    return dataset.take(np.arange(count) * dataset.count // count)


def output_information(scores: Array, loss: Loss, otherwise: float = 1.0) -> float:
    """Return what is lost a sample where scores (samples, positions, classes) give way to the best constant ones.

    That is the mutual information of sample and class in nats, or half the variance, summed over positions;
    `otherwise` where the scores are constant.

    >>> round(output_information(np.array([[[40.0, 0.0]], [[0.0, 40.0]]]), "softmax"), 6)  # ln 2
    0.693147
    """
    if loss == "squared":
        constant = scores.mean(axis=0, keepdims=True)
    else:
        constant = np.log(np.maximum(softmax(scores).mean(axis=0, keepdims=True), np.finfo(np.float64).tiny))
    found = float(divergences(np.broadcast_to(constant, scores.shape), scores, loss).mean())
    return found if found > 0 else otherwise
