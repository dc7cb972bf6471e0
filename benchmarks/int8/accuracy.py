"""What factorized layers lose in int8: fitted to the rounding, and rounded afterwards, beside the same in float32."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from benchmarks.results import table
from lrfdse.base.store import Store
from lrfdse.explore.layers.fits import FitRequest, open_builder, open_fits
from lrfdse.ir.choice import Choice
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.plan import Plan
from lrfdse.ir.storage import FLOAT32, INT8, Storage
from lrfdse.model.data import Dataset, load_data
from lrfdse.model.graph import Model, load_model
from lrfdse.model.runtime import Runtime
from lrfdse.quality.objective import objective_for
from lrfdse.repair.int8 import int8_version

RATIOS = (2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0)
"""Compressions of each layer by its SVD, in float32."""

SMALLEST = 2000
"""Weights of a layer from which it is compressed."""


@dataclass(frozen=True, slots=True)
class Row:
    """A version of a model."""

    ratio: float | None
    """Compression of its layers by SVD; None where they are dense."""
    way: str
    """How its weights are stored."""
    bytes: int
    """Of all weights of its layers, biases included."""
    accuracy: float


def rows(folder: Path, cache: Store) -> Iterator[Row]:
    """Yield the versions of a model, of its original on: dense, and by SVD at `RATIOS`.

    Parameters
    ----------
    folder
        Holds model.onnx, calib.npz, and test.npz with labels.
    cache
        Keeps fits.
    """
    model = load_model(folder / "model.onnx")
    calib, test = (load_data(folder / f"{part}.npz", model.inputs) for part in ("calib", "test"))
    names = [layer.name for layer in model.layers if layer.weights >= SMALLEST]
    request = FitRequest("auto", correct=True, loss=objective_for(model.original, "softmax"))
    builder = open_builder(request, model, calib, open_fits(request, model, calib, names, cache), cache)

    def plan(ratio: float | None, storage: Storage) -> Plan:
        chosen = []
        for layer in model.layers:
            shape, kept = Factorization.dense(layer.outputs, layer.inputs), storage if layer.name in names else FLOAT32
            if ratio is not None and layer.name in names:
                rank = int(layer.outputs * layer.inputs / ratio / (layer.outputs + layer.inputs))
                shape = Factorization.svd(layer.outputs, layer.inputs, max(1, rank))
            chosen.append((layer.name, Choice(shape, kept)))
        return Plan(tuple(chosen))

    runtime = Runtime(sessions=1)
    for ratio in (None, *RATIOS):
        plain, fitted = plan(ratio, FLOAT32), plan(ratio, INT8)
        version = builder.model_of(plain)
        yield Row(ratio, "float32", size_of(plain, model), accuracy(version, test))
        yield Row(ratio, "int8, fitted to it", size_of(fitted, model), accuracy(builder.model_of(fitted), test))
        after = int8_version(version, calib, runtime)
        if after is not None:
            yield Row(ratio, "int8, afterwards", size_of(fitted, model), accuracy(after, test))


def size_of(plan: Plan, model: Model) -> int:
    """Return the bytes of all layers, biases included."""
    return sum(plan[layer.name].bytes + FLOAT32.bytes_of(layer.bias_params) for layer in model.layers)


def accuracy(version: ir.Model, data: Dataset) -> float:
    """Return the share of samples whose largest score is that of their label."""
    assert data.labels is not None
    (scores,) = Runtime(sessions=1).run(version, data).values()
    return float((np.argmax(scores, axis=1) == data.labels).mean())


def section(name: str, found: list[Row]) -> list[str]:
    """Return the lines of one model: a row a compression, its storages beside each other."""
    original = found[0].accuracy
    ways = list(dict.fromkeys(row.way for row in found))
    lines = []
    for ratio in dict.fromkeys(row.ratio for row in found):
        cells: list[str] = ["dense" if ratio is None else f"SVD {ratio:g}x"]
        for way in ways:
            row = next((r for r in found if (r.ratio, r.way) == (ratio, way)), None)
            cells += ["–"] * 2 if row is None else [f"{row.bytes:,}", f"{100 * (row.accuracy - original):+.2f}"]
        lines.append(cells)
    heads = ["layers", *(head for way in ways for head in (f"bytes, {way}", "points"))]
    return [f"### {name}", "", f"The original has {original:.2%}.", "", *table(heads, lines), ""]
