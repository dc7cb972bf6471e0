"""What layers lose in int8, dense and factorized, beside the same shapes and the same bytes in float32."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from benchmarks.accuracy.cases import Case
from benchmarks.results import table
from lrfdse.base.store import Store
from lrfdse.explore.layers.fits import FitRequest, open_builder, open_fits
from lrfdse.formats.onnx import serialized
from lrfdse.ir.choice import Choice
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.layer import Layer
from lrfdse.ir.plan import Plan
from lrfdse.ir.storage import FLOAT32, INT8
from lrfdse.model.passes.factor import rewrite
from lrfdse.model.runtime import Runtime
from lrfdse.quality.objective import objective_for
from lrfdse.repair.int8 import int8_version

RATIOS = (2.0, 3.0, 4.0)
"""Compressions of each layer by its SVD, of which int8 makes four times as much."""

REPAIRS = (8, 32)
"""Ranks of the repair of dense int8."""

UNCORRECTED = ("minilm",)
"""Models whose layers are fitted one by one, to what each gives: correcting their plans takes hours."""

DENSE = "dense"


@dataclass(frozen=True, slots=True)
class Row:
    """A version of a model."""

    shape: str
    """What its layers are: dense, or SVDs of a compression."""
    way: str
    """How its weights are stored."""
    bytes: int
    """Of all weights of the compressed layers, scales and biases included."""
    score: float
    """On the data that report, of 100."""


WAYS = ("float32", "int8, fitted to it", "int8, afterwards", "float32 of these bytes")


def rows(case: Case, cache: Store) -> Iterator[Row]:
    """Yield the versions of a model, the original first.

    Parameters
    ----------
    case
        The model with its data.
    cache
        Keeps fits.
    """
    model, names = case.model, case.layers
    corrected = case.name not in UNCORRECTED
    loss = objective_for(model.original, case.loss) if corrected else None
    request = FitRequest("auto", correct=corrected, loss=loss)
    fits = open_fits(request, model, case.calib, names, cache)
    builder = open_builder(request, model, case.calib, fits, cache)
    layers = [model.layer(name) for name in names]
    biases = sum(FLOAT32.bytes_of(layer.outputs) for layer in layers)

    def plan(chosen: Mapping[str, Choice]) -> Plan:
        return Plan(tuple((each.name, chosen.get(each.name, dense(each))) for each in model.layers))

    def size(asked: Plan) -> int:
        return biases + sum(asked[name].bytes for name in names)

    def score(version: ir.Model) -> float:
        part = case.reporting[0]
        return case.scores(serialized(version), (part,))[part.name]

    runtime = Runtime(sessions=1)
    for ratio in (None, *RATIOS):
        shape = DENSE if ratio is None else f"SVD {ratio:g}x"
        shapes = {layer.name: dense(layer) if ratio is None else svd(layer, ratio) for layer in layers}
        in_int8 = {name: Choice(choice.factorization, INT8) for name, choice in shapes.items()}
        within = {layer.name: svd_within(layer, in_int8[layer.name].bytes) for layer in layers}
        plain, fitted, same = plan(shapes), plan(in_int8), plan(within)
        version = builder.model_of(plain)
        yield Row(shape, WAYS[0], size(plain), score(version))
        yield Row(shape, WAYS[1], size(fitted), score(builder.model_of(fitted)))
        after = int8_version(version, case.calib, runtime)
        if after is not None:
            yield Row(shape, WAYS[2], size(fitted), score(after))
        yield Row(shape, WAYS[3], size(same), score(builder.model_of(same)))
    for rank in REPAIRS:
        repairs = {layer.name: repaired(layer, rank) for layer in layers}
        factors = {layer.name: fits.factors(layer, repairs[layer.name]) for layer in layers}
        yield Row(f"{DENSE}, repaired by rank {rank}", WAYS[1], size(plan(repairs)), score(rewrite(model, factors)))


def dense(layer: Layer) -> Choice:
    """Return a layer as it is."""
    return Choice(Factorization.dense(layer.outputs, layer.inputs))


def repaired(layer: Layer, rank: int) -> Choice:
    """Return a layer dense in int8 with a repair of a rank, at most that of the layer."""
    outputs, inputs = layer.outputs, layer.inputs
    return Choice(Factorization.repaired(outputs, inputs, min(rank, outputs, inputs)), INT8)


def svd(layer: Layer, ratio: float) -> Choice:
    """Return the SVD of a layer by which it has so many times fewer weights, in float32."""
    return _svd_of_weights(layer, layer.outputs * layer.inputs / ratio)


def svd_within(layer: Layer, size: int) -> Choice:
    """Return the largest SVD of a layer in float32 that takes no more bytes, of rank 1 at least."""
    return _svd_of_weights(layer, size / FLOAT32.bytes_of(1))


def _svd_of_weights(layer: Layer, weights: float) -> Choice:
    rank = max(1, int(weights / (layer.outputs + layer.inputs)))
    return Choice(Factorization.svd(layer.outputs, layer.inputs, rank))


def section(name: str, unit: str, runs: Sequence[Sequence[Row]]) -> list[str]:
    """Return the lines of one model: a row a shape, its storages beside each other, as means over the seeds.

    Parameters
    ----------
    name
        Of the model.
    unit
        What its score is.
    runs
        The rows of each seed, the original first.
    """
    means = {key: _mean(runs, *key) for key in dict.fromkeys((row.shape, row.way) for row in runs[0])}
    lines = []
    for shape in dict.fromkeys(row.shape for row in runs[0]):
        cells: list[str] = [shape]
        for way in WAYS:
            found = means.get((shape, way))
            cells += ["–"] * 2 if found is None else [f"{found[0]:,}", f"{found[1]:+.2f}"]
        both = [means.get((shape, way)) for way in WAYS[:2]]
        gap = None if both[0] is None or both[1] is None else both[1][1] - both[0][1]
        lines.append([*cells, "–" if gap is None else f"{gap:+.2f}"])
    heads = ["layers", *(head for way in WAYS for head in (f"bytes, {way}", "points")), "int8 less float32"]
    originals = ", ".join(f"{run[0].score:.2f}" for run in runs)
    told = f"The original has {originals} ({unit})" + (f"; means over {len(runs)} seeds." if len(runs) > 1 else ".")
    return [f"### {name}", "", told, "", *table(heads, lines), ""]


def _mean(runs: Sequence[Sequence[Row]], shape: str, way: str) -> tuple[int, float]:
    """Return the bytes and the mean difference from the original of one version, in points."""
    found = [row for run in runs for row in run if (row.shape, row.way) == (shape, way)]
    return found[0].bytes, float(np.mean([row.score for row in found]) - np.mean([run[0].score for run in runs]))
