"""What training is fed: values in front of the trained layers, and the original's outputs, batch by batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lrfdse.model.passes.cut import read_out
from lrfdse.model.runtime import batches
from lrfdse.model.samples import Place

if TYPE_CHECKING:
    from lrfdse.healing.part import Part
    from lrfdse.model.data import Dataset
    from lrfdse.model.graph import Model
    from lrfdse.model.runtime import Arrays, Runtime

MOST_A_STEP = 256
"""Samples of a step at most, where the model leaves that open. LeNet-300-100 with 32 times fewer weights, by outputs
and labels: 88.5 % of validation images in 20 epochs; as many steps of 128 in 10 epochs gave 88.3 %, 512 in 30 epochs
88.6 %."""

LEAST_A_STEP = 32
"""Samples of a step at least. Chosen, not measured: of fewer, slopes are mostly noise."""

STEPS_AN_EPOCH = 100
"""Steps into which an epoch of few samples is divided, where steps have enough of them. Chosen, not measured."""

_KEPT = 1 << 30
"""Bytes of values in front of the trained layers that are held for all samples; what takes more is computed again in
every epoch. Chosen: a GiB holds 85,000 samples of 3136 float32 numbers."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step is fed."""

    fed: Arrays
    """Value name to array, as a run of the model has it."""
    reference: Arrays
    """Output name to the original's, samples first."""
    labels: NDArray[Any] | None
    count: int


def step_of(count: int) -> int:
    """Return the samples of a step, where there are `count` and the model leaves that open.

    >>> [step_of(count) for count in (100, 10_000, 60_000)]
    [32, 100, 256]
    """
    return min(MOST_A_STEP, max(LEAST_A_STEP, count // STEPS_AN_EPOCH))


class Feeder:
    """Gives batches of a data set; what no trained layer changes is computed by onnxruntime, once where it fits memory.

    Parameters
    ----------
    model
        The original model.
    part
        The part of it that is differentiated.
    data
        The samples, with their labels where these count.
    runtime
        What runs the model.

    Raises
    ------
    InputError
        The model cannot be run on the data.
    """

    def __init__(self, model: Model, part: Part, data: Dataset, runtime: Runtime) -> None:
        graph, self._data, self._runtime = model.working.graph, data, runtime
        inputs = {value.name for value in graph.graph.inputs}
        self._computed = [name for name in part.fed if name not in inputs]
        self._part = part
        names = list(dict.fromkeys([*self._computed, *part.outputs]))
        session = runtime.session(read_out(graph, names))
        layout = runtime.layout(session, data, step_of(data.count), names)
        self.size = layout.size
        """Samples of a batch."""
        self.fixed = layout.fixed
        """Whether the model fixes that number."""
        self.reference: Arrays = runtime.run(read_out(graph, part.outputs), data, self.size, part.outputs)
        """The original's outputs, samples first."""
        self._session = runtime.session(read_out(graph, self._computed)) if self._computed else None
        self._taken = set() if self._session is None else {port.name for port in self._session.get_inputs()}
        self.places: dict[str, Place] = {}
        """Output name to where a run has its samples."""
        feeds, _ = next(batches(data.head(self.size), self.size, pad=layout.fixed))
        once = runtime.call(session, feeds, names)
        found = {name: layout.place(name, once[name]) for name in names}
        self.places = {name: place for name in part.outputs if (place := found[name]) is not None}
        self.folded: Arrays = {}
        """Values that depend on constants alone."""
        if part.folded:
            self.folded = runtime.call(runtime.session(read_out(graph, part.folded)), feeds, part.folded)
        size = sum(once[name].nbytes for name in self._computed) // max(1, self.size) * data.count
        together = all(found[name] == Place(0) and once[name].shape[0] == self.size for name in self._computed)
        self._kept: Arrays | None = None
        if self._session is not None and together and size <= _KEPT:
            self._kept = self._all()

    def _all(self) -> Arrays:
        parts: dict[str, list[NDArray[Any]]] = {name: [] for name in self._computed}
        for feeds, count in batches(self._data, self.size, pad=self.fixed):
            for name, array in self._run(feeds).items():
                parts[name].append(array[:count])
        return {name: np.concatenate(pieces) for name, pieces in parts.items()}

    def _run(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        if self._session is None:
            return {}
        taken = {name: array for name, array in feeds.items() if name in self._taken}
        return self._runtime.call(self._session, taken, self._computed)

    def batch(self, index: Sequence[int] | NDArray[Any]) -> Batch:
        """Return the samples of an index array as one batch."""
        chosen = self._data.take(np.asarray(index))
        feeds = chosen.feeds(0, chosen.count)
        computed = self._run(feeds) if self._kept is None else {n: array[index] for n, array in self._kept.items()}
        fed = {name: feeds[name] for name in self._part.fed if name not in computed}
        reference = {name: array[index] for name, array in self.reference.items()}
        return Batch({**fed, **computed}, reference, chosen.labels, chosen.count)


class Feeders:
    """Gives the feeder of a part; designs whose parts read the same values share one, and what it computed once.

    Parameters
    ----------
    model
        The original model.
    data
        The samples, with their labels where these count.
    runtime
        What runs the model.
    fitted
        Which samples the factors were fitted to before, of shape (samples,); None where that is not known.
    """

    def __init__(self, model: Model, data: Dataset, runtime: Runtime, fitted: NDArray[np.bool_] | None = None) -> None:
        self._model, self._data, self._runtime = model, data, runtime
        self.fitted = fitted
        """Which samples the factors were fitted to before."""
        self._last: tuple[tuple[tuple[str, ...], ...], Feeder] | None = None

    @property
    def count(self) -> int:
        """Samples in all."""
        return self._data.count

    def of(self, part: Part) -> Feeder:
        """Return the feeder of a part; see `Feeder`."""
        key = part.fed, part.folded, part.outputs
        if self._last is None or self._last[0] != key:
            # One alone: it may hold a GiB.
            self._last = None
            self._last = key, Feeder(self._model, part, self._data, self._runtime)
        return self._last[1]
