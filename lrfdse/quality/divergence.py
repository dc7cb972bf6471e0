"""How far a compressed model's outputs are from the original's, in nats or squared units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lrfdse.errors import InputError, PlanError, plan_errors
from lrfdse.model.data import Dataset

if TYPE_CHECKING:
    from lrfdse.ir.factorization import Array
    from lrfdse.ir.factors import Factors
    from lrfdse.model.graph import Model


Loss = Literal["softmax", "squared"]
"""What a change of the output costs: divergence of class scores (logits or probabilities), or half its square."""


_TINY = 1e-12
"""The least probability that has a logarithm of its own: below, outputs of float32 softmax are rounding."""


def scores_of(array: NDArray[Any], loss: Loss) -> Array:
    """Return an output as scores of shape (samples, positions, classes); probabilities become their logarithms."""
    scores = np.asarray(array, dtype=np.float64)
    scores = scores.reshape(len(scores), -1, scores.shape[-1]) if scores.ndim > 1 else scores.reshape(-1, 1, 1)
    if loss == "softmax" and scores.min(initial=0.0) >= 0 and np.allclose(scores.sum(axis=-1), 1, atol=1e-3):
        return np.asarray(np.log(np.maximum(scores, _TINY)))
    return scores


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
        if is_tensor and value.dtype in (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16):
            return str(value.name)
    raise InputError("the model has no output of floating point to compare its versions by")


def evenly_spread(dataset: Dataset, count: int) -> Dataset:
    """Return at most `count` samples, spread evenly over a data set."""
    if count >= dataset.count:
        return dataset
    index = np.arange(count) * dataset.count // count
    labels = None if dataset.labels is None else dataset.labels[index]
    return Dataset({name: array[index] for name, array in dataset.inputs.items()}, labels)


_FLOPS = 4e9
"""Floating-point operations in FC layers that one measurement of a loss may cost: about a second on one core.
Chosen; it decides, between the two bounds below, how many samples are run."""


_LEAST, _MOST = 32, 512
"""Samples that losses are measured on, at least and at most; docs/accuracy.md says what they predict. Chosen, not
measured."""


def loss_of(model: Model, data: Dataset, numbers: bool) -> Loss:
    """Return what the model's outputs are compared by: as distributions over classes, or as numbers.

    Parameters
    ----------
    model
        The original model.
    data
        Data of which one sample is run.
    numbers
        Whether outputs are compared as numbers even where they look like class scores.
    """
    from lrfdse.model.runtime import Runtime
    from lrfdse.quality.outputs import is_scores

    name = scored_output(model.original)
    classes = is_scores(Runtime().run(model.original, data.head(1))[name])
    return "softmax" if classes and not numbers else "squared"


class Divergences:
    """Measures what compressed models lose against the original, as a share of all that its outputs tell.

    Parameters
    ----------
    model
        The original model.
    data
        Samples, of which some are run, spread evenly; labels are not looked at.
    loss
        How outputs are compared.
    """

    def __init__(self, model: Model, data: Dataset, loss: Loss) -> None:
        from lrfdse.model.runtime import Runtime

        flops = sum(layer.flops for layer in model.layers)
        self._model, self._loss = model, loss
        self._data = evenly_spread(data, int(min(max(_FLOPS / max(flops, 1), _LEAST), _MOST)))
        # Every version of the model is run once.
        self._runtime = Runtime(sessions=0)
        self._output = scored_output(model.original)
        self._reference = self._scores(model.original)
        self._whole = output_information(self._reference, loss)

    def __call__(self, factors: Mapping[str, Factors]) -> float:
        """Return the loss with these factors: 0 is the original, 1 what outputs that never change would lose.

        Raises
        ------
        PlanError
            The compressed model cannot be run, or its outputs are not finite.
        """
        from lrfdse.model.passes.factor import rewrite

        version = rewrite(self._model, factors)
        with plan_errors():
            scores = self._scores(version)
        found = float(divergences(scores, self._reference, self._loss).mean())
        if not np.isfinite(found):
            raise PlanError("the outputs of the compressed model are not finite")
        return found / self._whole

    def _scores(self, version: ir.Model) -> Array:
        return scores_of(self._runtime.run(version, self._data)[self._output], self._loss)


def output_information(scores: Array, loss: Loss) -> float:
    """Return what is lost a sample where scores (samples, positions, classes) give way to the best constant ones.

    That is the mutual information of sample and class in nats, or half the variance, summed over positions; 1 where
    the scores are constant.

    >>> round(output_information(np.array([[[40.0, 0.0]], [[0.0, 40.0]]]), "softmax"), 6)  # ln 2
    0.693147
    """
    if loss == "squared":
        constant = scores.mean(axis=0, keepdims=True)
    else:
        constant = np.log(np.maximum(softmax(scores).mean(axis=0, keepdims=True), np.finfo(np.float64).tiny))
    found = float(divergences(np.broadcast_to(constant, scores.shape), scores, loss).mean())
    return found if found > 0 else 1.0
