"""What a layer reads and gives on samples, as rows sample by sample, with the model's outputs beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lrfdse.errors import InputError
from lrfdse.model.passes.cut import read_out
from lrfdse.model.runtime import Layout, batches
from lrfdse.model.samples import Place, Rows, single_place

if TYPE_CHECKING:
    from lrfdse.model.data import Dataset
    from lrfdse.model.runtime import Arrays, Runtime


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """Values of a model on all samples of a data set."""

    rows: Mapping[str, NDArray[Any]]
    """Value name to its features, (samples, rows, features)."""
    forms: Mapping[str, Rows]
    """Value name to how a run's value becomes such rows, and back."""
    outputs: Arrays
    """Output name to array, samples first."""
    layout: Layout
    """How samples were run."""


def observe(
    runtime: Runtime,
    model: ir.Model,
    data: Dataset,
    features: Mapping[str, int],
    outputs: Sequence[str],
    batch: int = 256,
) -> Observed:
    """Run a model and return some of its values.

    Parameters
    ----------
    runtime
        What runs the model.
    model
        The model, or a rewritten form of it.
    data
        The samples.
    features
        Names of values of the main graph, inputs among them, to their axis of features, a negative number.
    outputs
        Names of outputs.
    batch
        Samples a run, where the model leaves that open.

    Raises
    ------
    InputError
        The model cannot be run on the data, or where a value has the samples of a run cannot be told.
    """
    fed = {name for name in features if name in data.inputs or name in data.shared}
    read = list(dict.fromkeys([*(name for name in features if name not in fed), *outputs]))
    session = runtime.session(read_out(model, read))
    layout = runtime.layout(session, data, batch, read)
    taken = {port.name for port in session.get_inputs()}
    rows: dict[str, list[NDArray[Any]]] = {name: [] for name in features}
    given: dict[str, list[NDArray[Any]]] = {name: [] for name in outputs}
    forms: dict[str, Rows] = {}
    for feeds, count in batches(data, layout.size, pad=layout.fixed):
        run = layout.size if layout.fixed else count
        arrays = runtime.call(session, {name: array for name, array in feeds.items() if name in taken}, read)
        for name, axis in features.items():
            value = feeds[name] if name in fed else arrays[name]
            place = fed_place(data, name, value) if name in fed else layout.place(name, value)
            if place is None:
                raise InputError(f"value {name!r}: which part of it belongs to which sample of a run cannot be told")
            forms[name] = Rows.of(value, place, axis, run)
            rows[name].append(forms[name].rows(value, run)[:count])
        for name in outputs:
            given[name].append(layout.split(name, arrays[name], run)[:count])
    return Observed(
        {name: np.concatenate(parts) for name, parts in rows.items()},
        forms,
        {name: np.concatenate(parts) for name, parts in given.items()},
        layout,
    )


def fed_place(data: Dataset, name: str, value: NDArray[Any]) -> Place:
    """Return where an input has the samples of a run."""
    if name in data.shared:
        return Place(None)
    axis = data.axes.get(name, 0)
    return single_place(value.shape) if axis is None else Place(axis)
