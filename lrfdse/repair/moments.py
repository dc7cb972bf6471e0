"""Second moments of what the layers of a model read, taken over calibration data in one pass."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lrfdse.base.heap import give_back
from lrfdse.base.threads import in_threads
from lrfdse.errors import InputError
from lrfdse.ir.factors import Moments
from lrfdse.model.data import Dataset
from lrfdse.model.graph import Model
from lrfdse.model.match.site import Site
from lrfdse.model.passes.cut import read_out
from lrfdse.model.runtime import Arrays, Runtime, batches
from lrfdse.model.samples import batch_within

KEPT = 512
"""Rows of what a layer reads that are kept as they are, to take the range of its inputs from: as many as the samples
that onnxruntime's quantizer is shown (`lrfdse.model.static_int8.SAMPLES`). Chosen, not measured."""


class _Sum:
    """Running sums of rows, in float64, and some of the rows."""

    def __init__(self, size: int) -> None:
        self.count = 0
        # Every row draws a number, and those of the least are kept, whatever comes in which batches.
        self._rng, self._drawn = np.random.default_rng(0), np.zeros(0)
        self._kept = np.zeros((0, size), np.float32)
        self.first = np.zeros(size)
        self.second = np.zeros((size, size))

    def add(self, rows: NDArray[np.float64]) -> None:
        self.count += len(rows)
        self.first += rows.sum(axis=0)
        self.second += rows.T @ rows
        drawn = self._rng.random(len(rows))
        new = np.flatnonzero(drawn < self._drawn.max()) if len(self._drawn) == KEPT else np.arange(len(rows))
        if len(new):
            drawn, kept = (
                np.append(self._drawn, drawn[new]),
                np.append(self._kept, rows[new].astype(np.float32), axis=0),
            )
            least = np.sort(np.argsort(drawn)[:KEPT])
            self._drawn, self._kept = drawn[least], kept[least]

    def moments(self) -> Moments:
        rows = max(self.count, 1)
        return Moments(self.count, self.first / rows, self.second / rows, rows=self._kept)


class _Targets:
    """Running sums that tie the original outputs ``W x`` to what another form of the model reads.

    Where the layer has fewer inputs than outputs, sums are over x, and W is applied to them once.
    """

    def __init__(self, weight: NDArray[np.float64]) -> None:
        outputs, inputs = weight.shape
        self._weight = weight
        self._late = inputs < outputs
        size = min(outputs, inputs)
        self._first = np.zeros(size)
        self._cross = np.zeros((size, inputs))
        self._second = np.zeros((size, size)) if self._late else np.zeros(size)

    def add(self, original: NDArray[np.float64], rows: NDArray[np.float64]) -> None:
        target = original if self._late else original @ self._weight.T
        self._first += target.sum(axis=0)
        self._cross += target.T @ rows
        self._second += target.T @ target if self._late else (target**2).sum(axis=0)

    def joined(self, seen: Moments) -> Moments:
        rows = max(seen.count, 1)
        first, cross = self._first / rows, self._cross / rows
        cross -= first[:, None] * seen.mean[None, :]
        second = self._second / rows
        if self._late:
            weight = self._weight
            variance = float(np.vdot(weight @ (second - first[:, None] * first), weight))
            first, cross = weight @ first, weight @ cross
        else:
            variance = float((second - first**2).sum())
        return Moments(seen.count, seen.mean, seen.second, cross, first, max(variance, 0.0), seen.rows)


def moments(
    model: Model,
    dataset: Dataset,
    layers: Sequence[str] | None = None,
    runtime: Runtime | None = None,
    batch: int = 64,
    version: ir.Model | None = None,
    cross: bool = False,
    threads: int = 1,
) -> dict[str, Moments]:
    """Return the moments of the inputs of layers, pooled over uses, samples and positions, with up to `KEPT` rows.

    Memory holds the activations of one batch and, for each layer, inputs² numbers; with `cross`, as many again or
    outputs times inputs, whichever is less. Layers that read the same have the same moments, summed and held once.

    A layer in a branch or a loop that is never run has moments of no rows, all 0. With `cross`, runs in which the two
    models take other branches or other numbers of turns tell nothing of what belongs together, and are left out.

    Parameters
    ----------
    model
        The model whose layers are meant.
    dataset
        Calibration data; labels are not looked at.
    layers
        Names of layers; all by default.
    runtime
        What runs the models; one of this call's own by default.
    batch
        Samples a run, where the model leaves that open.
    version
        A rewritten form of the model to run in its place, to see what the layers read there.
    cross
        Run the original model beside `version`, and tie what the layers read there to what their products give in the
        original: `Moments.cross`, `Moments.output_mean` and `Moments.output_variance`.
    threads
        Layers whose sums are taken side by side; they do not depend on it.

    Raises
    ------
    InputError
        The model cannot be run on the data, or a layer reads NaN or Inf.
    """
    asked = [layer.name for layer in model.layers] if layers is None else list(layers)
    # What ties a layer to the original's outputs is its own.
    same = {name: name for name in asked} if cross else _readers(model, asked)
    names = list(dict.fromkeys(same.values()))
    sums = {name: _Sum(model.layer(name).inputs) for name in names}
    targets = {name: _Targets(model.weight(name)) for name in names} if cross else {}
    _sum_up(model, dataset, sums, targets, runtime or Runtime(), batch, version, threads)
    # Sessions and activations were many blocks, of which the next call needs others.
    give_back()
    found = {name: total.moments() for name, total in sums.items()}
    if cross:
        found = {name: targets[name].joined(seen) for name, seen in found.items()}
    return {name: _with_lookups(model, name, found[of]) for name, of in same.items()}


def _sum_up(
    model: Model,
    dataset: Dataset,
    sums: Mapping[str, _Sum],
    targets: Mapping[str, _Targets],
    runtime: Runtime,
    batch: int,
    version: ir.Model | None,
    threads: int,
) -> None:
    """Run the model, and where there are targets the original beside it, and add what layers read to their sums."""
    wanted = sorted(
        {site.source for name in sums for site in model.sites[name]} - set(dataset.inputs) - set(dataset.shared)
    )
    # Rewriting keeps open sizes open and fixed ones fixed: every form of a model takes the batches of the original.
    layout = runtime.layout(runtime.session(model.working.graph), dataset, batch)
    size, fixed = layout.size, layout.fixed
    seen = runtime.session(read_out(version or model.working.graph, wanted)) if wanted else None
    beside = runtime.session(read_out(model.working.graph, wanted)) if targets and wanted else None
    if not fixed and size > 1 and wanted:
        one = _read(runtime, seen, dataset.feeds(0, 1), wanted)
        size = batch_within(size, [one[name] for name in wanted for _ in range(1 + bool(targets))], 1)
    for feeds, count in batches(dataset, size, pad=fixed):
        # The samples that fill up a last batch would count twice; alone, they are all there is.
        if count < size and fixed and dataset.count > size:
            continue
        arrays = _read(runtime, seen, feeds, wanted)
        untouched = _read(runtime, beside, feeds, wanted) if targets else arrays

        def add(name: str, arrays: Arrays = arrays, untouched: Arrays = untouched) -> None:
            for site in model.sites[name]:
                values, others = (_in_turns(site, read[site.source]) for read in (arrays, untouched))
                # A branch that is not taken gives nothing.
                if values.size == 0 or values.shape != others.shape:
                    continue
                read = (finite_rows(block, name) for block in site.blocks(values))
                before = (finite_rows(block, name) for block in site.blocks(others)) if targets else None
                for rows in read:
                    sums[name].add(rows)
                    if before is not None:
                        targets[name].add(next(before), rows)

        for _ in in_threads(add, list(sums), threads):
            pass


def _with_lookups(model: Model, name: str, seen: Moments) -> Moments:
    """Return the moments of a layer, of a tied embedding as if lookups of its rows were products, too.

    All rows count alike, as inputs of covariance c I do: the relative error of a row is then ``|D|^2 / |W|^2``, with D
    the error of W. c makes it as large a part of the layer's error as the relative error of what the product gives.
    """
    weight = model.weight(name) if model.layer(name).kind == "tied" else np.zeros((0, 0))
    energy = float(np.vdot(weight, weight))
    if not energy or not seen.count:
        return seen
    variance = seen.output_variance
    if variance is None:
        variance = max(float(np.vdot(weight @ seen.covariance, weight)), 0.0)
    scale = variance / energy
    return dataclasses.replace(
        seen,
        second=seen.second + scale * np.eye(len(seen.second)),
        cross=None if seen.cross is None else seen.cross + scale * weight,
        output_variance=None if seen.output_variance is None else 2 * variance,
    )


def _readers(model: Model, names: Sequence[str]) -> dict[str, str]:
    """Return for each layer the first of those named that reads the same, along one axis of the same value."""
    first: dict[object, str] = {}
    found = {}
    for name in names:
        sites = model.sites[name]
        plain = all(type(site) is Site for site in sites)
        read = tuple((site.source, site.in_axis, site.rank, site.holder) for site in sites)
        found[name] = first.setdefault((read, model.layer(name).inputs) if plain else name, name)
    return found


def _in_turns(site: Site, value: NDArray[Any]) -> NDArray[Any]:
    """Return what a use reads with its turns in the axis of samples, where it stands in a loop."""
    extra = value.ndim - site.rank
    return value.reshape(-1, *value.shape[extra + 1 :]) if site.holder is not None and extra > 0 else value


def _read(runtime: Runtime, session: Any, feeds: Arrays, wanted: Sequence[str]) -> Arrays:
    if session is None:
        return dict(feeds)
    taken = {port.name for port in session.get_inputs()}
    return runtime.call(session, {name: array for name, array in feeds.items() if name in taken}, wanted) | feeds


def finite_rows(features: NDArray[Any], name: str) -> NDArray[np.float64]:
    """Return features along the last axis as rows, shape (rows, features).

    Raises
    ------
    InputError
        There is NaN or Inf in what the layer `name` reads.
    """
    rows = features.reshape(-1, features.shape[-1]).astype(np.float64)
    if not np.isfinite(rows).all():
        raise InputError(f"layer {name!r} reads NaN or Inf on the calibration data")
    return rows
