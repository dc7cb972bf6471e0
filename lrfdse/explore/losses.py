"""The loss of the whole model as a measure of what a layer's error costs: its curvature, and runs of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lrfdse.base.keys import code_key, digest, result_key

if TYPE_CHECKING:
    import onnx_ir as ir

    from lrfdse.base.store import Store
    from lrfdse.design import Array, Factors
    from lrfdse.model import Dataset, Model
    from lrfdse.model.sensitivity import Loss

MOST_OUTPUTS = 2048
"""Outputs up to which a layer's metric is taken: it has that many rows and columns of float64."""

_SAMPLES = 1024
_BUDGETS = {True: 3e11, False: 2e10}
"""MACs that one layer's metric may cost, by whether the layer has one row a sample. With several rows, parts of the
model that hold no weights, such as attention, cost as much as the weights that the estimate knows."""

_FLOPS = 4e9
_LEAST, _MOST = 32, 512
"""Samples that losses are measured on: as many as cost so many FLOPs in FC layers, between these."""


def loss_of(model: Model, data: Dataset, numbers: bool) -> Loss:
    """Return what the model's outputs are compared by: as distributions over classes, or as numbers.

    Parameters
    ----------
    model
        The original model.
    data
        Of which one sample is run.
    numbers
        Whether outputs are compared as numbers even where they look like class scores.
    """
    from lrfdse.model import Runtime
    from lrfdse.model.evaluate import is_scores
    from lrfdse.model.sensitivity import scored_output

    name = scored_output(model.original)
    classes = is_scores(Runtime().run(model.original, data.head(1))[name])
    return "softmax" if classes and not numbers else "squared"


def layer_metrics(
    model: Model, calib: Dataset, names: Sequence[str], loss: Loss, cache: Store, seed: int = 0
) -> dict[str, Array]:
    """Return the metric of the outputs of each layer whose derivatives are within reach, from the cache where known.

    They are taken on calibration samples and on mixtures of two: a model is surer of the samples than of what errors
    make of them, and where it is sure its curvature vanishes.
    """
    from lrfdse.explore.correct import mixed
    from lrfdse.model.sensitivity import output_metrics

    key = metrics_key(model, calib, loss, seed)
    data: Dataset | None = None
    found: dict[str, Array] = {}
    for name in names:
        layer = model.layer(name)
        if layer.outputs > MOST_OUTPUTS:
            continue
        own = result_key("metrics", of=key, layer=name)
        if (stored := cache.get_arrays("metrics", own)) is None:
            data = data or mixed(calib, calib.count, seed)
            made = output_metrics(
                model, data, [name], loss=loss, samples=_SAMPLES, budget=_BUDGETS[layer.rows == 1], seed=seed
            )
            stored = {"metric": made[name]} if name in made else {}
            cache.put_arrays("metrics", own, stored)
        if "metric" in stored:
            found[name] = stored["metric"]
    return found


def metrics_key(model: Model, calib: Dataset, loss: Loss, seed: int = 0) -> str:
    """Return a name for what `layer_metrics` returns, without computing it."""
    from lrfdse.model import load_model

    return digest("metrics", code_key(layer_metrics, load_model).digest, model.sha256, calib.digest, loss, seed)


class Divergences:
    """Measures what compressed models lose against the original, as a share of all that its outputs tell.

    Parameters
    ----------
    model
        The original model.
    data
        Samples; labels are not looked at. Some of them are run, spread evenly.
    loss
        How outputs are compared.
    """

    def __init__(self, model: Model, data: Dataset, loss: Loss) -> None:
        from lrfdse.model import Runtime
        from lrfdse.model.sensitivity import scored_output, spread

        flops = sum(layer.flops for layer in model.layers)
        self._model, self._loss = model, loss
        self._data = spread(data, int(min(max(_FLOPS / max(flops, 1), _LEAST), _MOST)))
        # Every version of the model is run once.
        self._runtime = Runtime(sessions=0)
        self._output = scored_output(model.original)
        self._reference = self._scores(model.original)
        self._whole = told(self._reference, loss)

    def __call__(self, factors: Mapping[str, Factors]) -> float:
        """Return the loss with these factors: 0 is the original, 1 what outputs that never change would lose.

        Raises
        ------
        InputError
            The model cannot be run.
        """
        from lrfdse.errors import InputError
        from lrfdse.model import rewrite
        from lrfdse.model.sensitivity import divergences

        scores = self._scores(rewrite(self._model, factors))
        found = float(divergences(scores, self._reference, self._loss).mean())
        if not np.isfinite(found):
            raise InputError("the outputs of the compressed model are not finite")
        return found / self._whole

    def _scores(self, version: ir.Model) -> Array:
        from lrfdse.model.sensitivity import scores_of

        return scores_of(self._runtime.run(version, self._data)[self._output], self._loss)


def told(scores: Array, loss: Loss) -> float:
    """Return what is lost a sample where scores (samples, positions, classes) give way to the best constant ones.

    That is the mutual information of sample and class in nats, or half the variance, summed over positions; 1 where
    the scores are constant.

    >>> round(told(np.array([[[40.0, 0.0]], [[0.0, 40.0]]]), "softmax"), 6)  # ln 2
    0.693147
    """
    from lrfdse.model.sensitivity import divergences, softmax

    if loss == "squared":
        constant = scores.mean(axis=0, keepdims=True)
    else:
        constant = np.log(np.maximum(softmax(scores).mean(axis=0, keepdims=True), np.finfo(np.float64).tiny))
    found = float(divergences(np.broadcast_to(constant, scores.shape), scores, loss).mean())
    return found if found > 0 else 1.0
