"""The loss of the whole model as a measure of what a layer's error costs: its curvature, and runs of the model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from lrfdse.base.keys import code_key, digest, result_key

if TYPE_CHECKING:
    from lrfdse.base.store import Store
    from lrfdse.ir.factorization import Array
    from lrfdse.model.data import Dataset
    from lrfdse.model.graph import Model
    from lrfdse.quality.divergence import Loss


MOST_OUTPUTS = 2048
"""Outputs up to which a layer's metric is taken: it has that many rows and columns of float64."""


_SAMPLES = 1024


_BUDGETS = {True: 3e11, False: 2e10}
"""MACs that one layer's metric may cost, by whether the layer has one row a sample. With several rows, parts of the
model that hold no weights, such as attention, cost as much as the weights that the estimate knows."""


def layer_metrics(
    model: Model, calib: Dataset, names: Sequence[str], loss: Loss, cache: Store, seed: int = 0
) -> dict[str, Array]:
    """Return the metric of the outputs of each layer whose derivatives are within reach, from the cache where known.

    They are taken on calibration samples and on mixtures of two: a model is surer of the samples than of what errors
    make of them, and where it is sure its curvature vanishes.
    """
    from lrfdse.model.data import mixed
    from lrfdse.repair.curvature import output_metrics

    key = metrics_key(model, calib, loss, seed)
    data: Dataset | None = None
    found: dict[str, Array] = {}
    for name in names:
        layer = model.layer(name)
        if layer.outputs > MOST_OUTPUTS:
            continue
        own = result_key("metrics", of=key, layer=name)
        if (stored := cache.get_arrays("metrics", own, partial(_checked, outputs=layer.outputs))) is None:
            data = data or mixed(calib, calib.count, seed)
            made = output_metrics(
                model, data, [name], loss=loss, samples=_SAMPLES, budget=_BUDGETS[layer.rows == 1], seed=seed
            )
            stored = {"metric": made[name]} if name in made else {}
            cache.put_arrays("metrics", own, stored)
        if "metric" in stored:
            found[name] = stored["metric"]
    return found


def _checked(stored: dict[str, Array], outputs: int) -> dict[str, Array]:
    """Return what the cache holds of a layer, which is one square matrix or nothing."""
    for name, matrix in stored.items():
        if name != "metric" or matrix.shape != (outputs, outputs) or not np.isfinite(matrix).all():
            raise ValueError(f"{name!r} is no metric of {outputs} outputs")
    return stored


def metrics_key(model: Model, calib: Dataset, loss: Loss, seed: int = 0) -> str:
    """Return a name for what `layer_metrics` returns, without computing it."""
    from lrfdse.model.graph import load_model

    return digest("metrics", code_key(layer_metrics, load_model).digest, model.sha256, calib.digest, loss, seed)
