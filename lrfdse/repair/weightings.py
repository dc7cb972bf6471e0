"""The loss of the whole model as a measure of what a layer's error costs: its curvature, and runs of the model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from lrfdse.base.events import Event, Listener, silent
from lrfdse.base.keys import code_key, digest, result_key
from lrfdse.base.threads import in_threads
from lrfdse.factorize.problem import DAMPING
from lrfdse.quality.objective import objective_facts

if TYPE_CHECKING:
    from lrfdse.base.store import Store
    from lrfdse.ir.factorization import Array
    from lrfdse.model.data import Dataset
    from lrfdse.model.graph import Model
    from lrfdse.quality.divergence import Loss
    from lrfdse.quality.objective import Objective


MOST_OUTPUTS = 2048
"""Outputs up to which a layer's weighting is taken: it has that many rows and columns of float64, 32 MB. Chosen."""


_SAMPLES = 1024
"""Most samples and mixtures that a weighting is taken from. Chosen, not measured."""


_BUDGETS = {True: 3e11, False: 2e10}
"""MACs that one layer's weighting may cost, by whether the layer has one row a sample: half a minute on one core.
With several rows, parts of the model that hold no weights, such as attention, cost as much as the weights that the
estimate knows. Chosen."""


def output_weightings(
    model: Model,
    calib: Dataset,
    names: Sequence[str],
    loss: Loss | Objective,
    cache: Store,
    seed: int = 0,
    most_outputs: int = MOST_OUTPUTS,
    progress: Listener = silent,
    threads: int = 1,
) -> dict[str, Array]:
    """Return the output weighting of each layer whose derivatives are within reach, from the cache where known.

    They are taken on calibration samples and on mixtures of two: a model is surer of the samples than of what errors
    make of them, and where it is sure its curvature vanishes.

    Parameters
    ----------
    model
        The original model.
    calib
        Calibration data; labels are not looked at.
    names
        The layers.
    loss
        The outputs that count, and what they are compared by; one loss stands for the first of floating point.
    cache
        Where weightings are kept.
    seed
        Seed of the mixtures.
    most_outputs
        Outputs above which a layer gets none.
    progress
        Told of every layer, and how many are done.
    threads
        Layers that are looked at side by side.

    Returns
    -------
    dict
        Layer name to H, shape (outputs, outputs); see `lrfdse.repair.curvature.compute_weightings`.
    """
    from lrfdse.model.data import mixed
    from lrfdse.repair.curvature import compute_weightings, within_reach

    key = weightings_key(model, calib, loss, seed)
    within = [name for name in names if model.layer(name).outputs <= most_outputs]
    own = {name: result_key("weightings", of=key, layer=name) for name in within}

    def known(name: str) -> dict[str, Array] | None:
        read = partial(_checked, outputs=model.layer(name).outputs)
        return cache.get_arrays("weightings", own[name], read)

    kept = {name: stored for name in within if (stored := known(name)) is not None}
    missing = [name for name in within if name not in kept]
    data = mixed(calib, calib.count, seed) if missing else calib

    budgets = {name: _BUDGETS[model.layer(name).rows == 1] for name in missing}
    reached = within_reach(model, data, budgets, loss=loss) if missing else []

    def computed(name: str) -> dict[str, Array]:
        made: dict[str, Array] = {}
        if name in reached:
            made = compute_weightings(model, data, [name], loss=loss, samples=_SAMPLES, budget=budgets[name], seed=seed)
        stored = {"weighting": made[name]} if name in made else {}
        cache.put_arrays("weightings", own[name], stored)
        return stored

    if missing:
        progress(Event("calibrate", missing[0], len(kept), len(within)))
    for name, stored in zip(missing, in_threads(computed, missing, threads), strict=True):
        kept[name] = stored
        progress(Event("calibrate", name, len(kept), len(within)))
    found = {name: kept[name]["weighting"] for name in within if "weighting" in kept[name]}
    return {name: weighting for name, weighting in found.items() if _is_curvature(weighting)}


def _is_curvature(weighting: Array) -> bool:
    """Return whether fits can weigh errors by a matrix: a damped one has a root.

    Where outputs saturate the loss on nearly every sample, as scores in the millions do a softmax, it is what rounding
    leaves, and fits go without it.
    """
    damped = weighting + DAMPING * np.trace(weighting) / len(weighting) * np.eye(len(weighting))
    try:
        np.linalg.cholesky(damped)
    except np.linalg.LinAlgError:
        return False
    return True


def _checked(stored: dict[str, Array], outputs: int) -> dict[str, Array]:
    """Return what the cache holds of a layer, which is one square matrix or nothing."""
    for name, matrix in stored.items():
        if name != "weighting" or matrix.shape != (outputs, outputs) or not np.isfinite(matrix).all():
            raise ValueError(f"{name!r} is no weighting of {outputs} outputs")
    return stored


def weightings_key(model: Model, calib: Dataset, loss: Loss | Objective, seed: int = 0) -> str:
    """Return a name for what `output_weightings` returns, without computing it.

    Parameters
    ----------
    model, calib, loss, seed
        As for `output_weightings`.
    """
    from lrfdse.model.graph import load_model

    code, facts = code_key(output_weightings, load_model).digest, objective_facts(loss)
    return digest("weightings", code, model.sha256, calib.digest, facts, seed)
