"""Second moments of what the layers of a model read, taken over calibration data in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrfdse.design import Moments
from lrfdse.errors import InputError
from lrfdse.model.data import Dataset
from lrfdse.model.find import Site
from lrfdse.model.graph import Model
from lrfdse.model.runtime import Runtime, batches, exposed


class _Sum:
    """Running sums of rows, in float64."""

    def __init__(self, size: int) -> None:
        self.count = 0
        self.first = np.zeros(size)
        self.second = np.zeros((size, size))

    def add(self, rows: NDArray[np.float64]) -> None:
        self.count += len(rows)
        self.first += rows.sum(axis=0)
        self.second += rows.T @ rows

    def moments(self) -> Moments:
        return Moments(self.count, self.first / self.count, self.second / self.count)


def moments(
    model: Model,
    dataset: Dataset,
    layers: Sequence[str] | None = None,
    runtime: Runtime | None = None,
    batch: int = 64,
    content: bytes | None = None,
) -> dict[str, Moments]:
    """Return the moments of the inputs of layers, pooled over uses, samples and positions.

    Memory holds the activations of one batch and, for each layer, inputs² numbers.

    Parameters
    ----------
    model
        The model whose layers are meant.
    dataset
        Calibration data; labels are not looked at.
    layers
        Names of layers; all by default.
    runtime
        How to run the model; one thread by default.
    batch
        Samples a run, where the model leaves that open.
    content
        A rewritten form of the model to run in its place, to see what the layers read there.

    Raises
    ------
    InputError
        The model cannot be run on the data, or a layer reads NaN or Inf.
    """
    runtime = runtime or Runtime()
    content = content or model.content
    names = [layer.name for layer in model.layers] if layers is None else list(layers)
    sums = {name: _Sum(model.layer(name).inputs) for name in names}
    wanted = {site.source for name in names for site in model.sites[name]} - set(dataset.inputs)
    size, fixed = runtime.batch(runtime.session(content), dataset, batch)
    session = runtime.session(exposed(content, sorted(wanted)))
    for feeds, count in batches(dataset, size, pad=fixed):
        # The samples that fill up a last batch would count twice; alone, they are all there is.
        if count < size and fixed and dataset.count > size:
            continue
        arrays = runtime.call(session, feeds, sorted(wanted)) | feeds
        for name in names:
            for site in model.sites[name]:
                sums[name].add(_rows(arrays[site.source], site, name))
    return {name: total.moments() for name, total in sums.items()}


def _rows(array: NDArray[Any], site: Site, name: str) -> NDArray[np.float64]:
    features = np.moveaxis(array, site.in_axis, -1)
    rows = features.reshape(-1, features.shape[-1]).astype(np.float64)
    if not np.isfinite(rows).all():
        raise InputError(f"layer {name!r} reads NaN or Inf on the calibration data")
    return rows
