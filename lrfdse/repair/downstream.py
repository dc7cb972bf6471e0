"""The part of a model behind one use of a layer: what it scores, and the derivatives of that."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lrfdse.model.constants import is_standard, trace
from lrfdse.model.data import Dataset
from lrfdse.model.match.site import Site
from lrfdse.model.passes.cut import PROBE, behind, read_out
from lrfdse.model.runtime import Arrays, Layout, Runtime
from lrfdse.model.samples import Rows
from lrfdse.model.vjp.backward import COTANGENT, SLOPE, backward
from lrfdse.model.vjp.steps import in_steps
from lrfdse.quality.divergence import Loss
from lrfdse.quality.objective import SideBySide, names_of

if TYPE_CHECKING:
    from lrfdse.ir.factorization import Array


BACKWARD = 2
"""Cost of a backward pass with what it needs of the forward one, in forward passes. Counted: as many products again."""


STEP = 1e-2
"""Step of finite differences, in parts of the root mean square of the values that are moved: between the rounding
of float32 and the curvature of activations. Chosen; tests compare with derivatives in closed form."""


_RUN = 2_000_000
"""Elements that one run behind a layer takes in: 8 MB of float32. Chosen."""


_SEEN = 3
"""Samples of the run that shows which sizes the values behind a layer have. Chosen: with one alone, the axis of samples
would look like one that is broadcast."""


class DownstreamModel:
    """The part of a model behind one use of a layer, up to the outputs that count.

    Parameters
    ----------
    model
        The model, or a rewritten form of it.
    site
        The use of the layer.
    scores
        The outputs that count and depend on the layer, side by side.
    dtype
        Element type of the layer's output.
    runtime
        What runs the model.
    rows
        How the layer's output in one run becomes rows sample by sample.
    layout
        How samples are run, and where outputs have them.
    values
        The layer's outputs for some samples, (samples, rows, outputs).
    data
        These samples, in the same order.
    """

    def __init__(
        self,
        model: ir.Model,
        site: Site,
        scores: SideBySide,
        dtype: np.dtype[Any],
        runtime: Runtime,
        rows: Rows,
        layout: Layout,
        values: NDArray[Any],
        data: Dataset,
    ) -> None:
        names = names_of(scores.objective)
        part = behind(model, site.output, names, dtype)
        self._runtime = runtime
        self._session = runtime.session(part)
        self._inputs = {port.name for port in self._session.get_inputs()} - {PROBE}
        # An output that is the layer's own is handed through under the probe's name.
        self._outputs = dict(zip(names, [port.name for port in self._session.get_outputs()], strict=True))
        self._scores, self._rows, self._layout, self._dtype = scores, rows, layout, dtype
        only = scores.only
        direct, weights = _looked_over(part, site, only[0].loss if only else "squared")
        self.direct = direct and only is not None
        self.macs = max(1, weights * values.shape[1])
        """MACs of one sample, estimated: weights meet every row of the layer, and filters every pixel of their own."""
        if not self.direct:
            few = values[:_SEEN] if layout.together else values
            self.macs = max(self.macs, self._filtered(part, few, data))
        self.passes = values.shape[-1]
        """Runs of the part, or as much work, that derivatives of one sample's scores take."""
        self._backward = None
        # Backward passes cost by the score, finite differences by the unit.
        if not self.direct and BACKWARD * scores.size < self.passes:
            back = self._backward_of(part, values[:_SEEN], data)
            if back is not None:
                self.passes, self._backward = BACKWARD * scores.size, runtime.session(back)

    def _backward_of(self, part: ir.Model, values: NDArray[Any], data: Dataset) -> ir.Model | None:
        """Return the backward pass of the part; None where there is none, or samples of a run cannot be told apart."""
        places = [self._layout.places.get(name) for name in self._outputs]
        if len(values) < _SEEN or not self._layout.together or any(p is None or p.axis is None for p in places):
            return None
        steps, seen = in_steps(part, [PROBE], self._feeds(values, data), self._runtime)
        return backward(steps, [PROBE], seen)

    def _filtered(self, part: ir.Model, values: NDArray[Any], data: Dataset) -> int:
        """Return the MACs of the convolutions of the part in one sample, as a run shows their sizes."""
        filters = {
            node.outputs[0].name or "": weight.shape
            for node in part.graph
            if is_standard(node) and node.op_type == "Conv" and (weight := trace(node.inputs[1])) is not None
        }
        if not filters:
            return 0
        session = self._runtime.session(read_out(part, list(filters)))
        read = {port.name for port in session.get_inputs()}
        feeds = {name: array for name, array in self._feeds(values, data).items() if name in read}
        found = self._runtime.call(session, feeds, list(filters))
        return sum(found[name].size * math.prod(shape[1:]) for name, shape in filters.items()) // len(values)

    def _feeds(self, values: NDArray[Any], data: Dataset) -> dict[str, NDArray[Any]]:
        """Return what the part reads, for the first samples of the data and given outputs of the layer."""
        feeds = {name: array for name, array in data.feeds(0, len(values)).items() if name in self._inputs}
        return feeds | {PROBE: self._rows.value(values).astype(self._dtype, copy=False)}

    def _run(self, values: NDArray[Any], data: Dataset) -> Arrays:
        """Return the outputs that count, samples first, for given outputs of the layer."""
        found = self._runtime.call(self._session, self._feeds(values, data), list(self._outputs.values()))
        return {name: self._layout.split(name, found[own], len(values)) for name, own in self._outputs.items()}

    def scores(self, values: NDArray[Any], data: Dataset) -> Array:
        """Return the scores, (samples, size), for given outputs of the layer, (samples, rows, outputs)."""
        return self._scores.scores(self._run(values, data))

    def jacobian(self, values: NDArray[Any], data: Dataset, rng: np.random.Generator) -> NDArray[np.float32]:
        """Return derivatives of the scores by the layer's outputs, (samples, size, outputs).

        Where the layer has several rows in a sample, all are moved at once, each with a sign of its own: in products
        of two derivatives what belongs to different rows cancels on average.

        Parameters
        ----------
        values
            The layer's outputs, (samples, rows, outputs).
        data
            The samples.
        rng
            Draws the signs.
        """
        samples, rows, units = values.shape
        signs = np.ones((samples, rows)) if rows == 1 else rng.choice([-1.0, 1.0], (samples, rows))
        if self._backward is not None:
            return self._slopes(self._backward, values, data, signs)
        base = self.scores(values, data)
        scale = STEP * float(np.sqrt(np.mean(np.square(values, dtype=np.float64)))) or STEP
        step = (scale * signs).astype(values.dtype)
        found = np.empty((*base.shape, units), dtype=np.float32)
        group = max(1, _RUN // max(values.size, base.size)) if self._layout.together else 1
        for start in range(0, units, group):
            chosen = range(start, min(start + group, units))
            copies = np.repeat(values[None], len(chosen), axis=0)
            for number, unit in enumerate(chosen):
                copies[number, ..., unit] += step
            repeated = data.take(np.tile(np.arange(samples), len(chosen)))
            scores = self.scores(copies.reshape(-1, rows, units), repeated).reshape(len(chosen), *base.shape)
            found[..., start : start + len(chosen)] = np.moveaxis((scores - base) / scale, 0, -1)
        return found

    def _slopes(
        self, session: Any, values: NDArray[Any], data: Dataset, signs: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """Return what `jacobian` does by backward passes, several scores of all samples in one run."""
        samples, rows, units = values.shape
        size = self._scores.size
        outputs = self._run(values, data)
        taken = {port.name for port in session.get_inputs()}
        found = np.empty((samples, size, units), dtype=np.float32)
        group = max(1, _RUN // (samples * max(rows * units, size)))
        for start in range(0, size, group):
            chosen = np.arange(start, min(start + group, size))
            times = len(chosen)
            weights = np.zeros((times, samples, size))
            weights[np.arange(times), :, chosen] = 1.0
            repeated = {name: np.tile(array, (times,) + (1,) * (array.ndim - 1)) for name, array in outputs.items()}
            feeds = self._feeds(np.tile(values, (times, 1, 1)), data.take(np.tile(np.arange(samples), times)))
            for number, (name, pull) in enumerate(
                zip(self._outputs, self._scores.pulled(weights.reshape(-1, size), repeated), strict=True)
            ):
                place = self._layout.places[name]
                assert place is not None
                feeds[f"{COTANGENT}.{number}"] = place.joined(pull)
            slope = self._runtime.call(session, {name: feeds[name] for name in taken})[f"{SLOPE}.0"]
            by_row = self._rows.rows(slope, times * samples).reshape(times, samples, rows, units)
            found[:, chosen] = np.einsum("tsru,sr->stu", by_row, signs.astype(np.float32))
        return found


def least_macs(model: ir.Model, site: Site, scores: SideBySide, dtype: np.dtype[Any], rows: int, units: int) -> float:
    """Return the MACs that derivatives of one sample's scores take at least; 0 where a layer's outputs are the scores.

    They are estimated as `DownstreamModel` does, from the weights behind the layer, but nothing is run.

    Parameters
    ----------
    model, site, scores, dtype
        As for `DownstreamModel`.
    rows, units
        Rows and outputs of the layer in one sample.
    """
    only = scores.only
    part = behind(model, site.output, names_of(scores.objective), dtype)
    direct, weights = _looked_over(part, site, only[0].loss if only else "squared")
    if direct and only is not None:
        return 0.0
    return float(min(units, BACKWARD * scores.size) * rows * max(weights, 1))


def _looked_over(part: ir.Model, site: Site, loss: Loss) -> tuple[bool, int]:
    """Return whether a layer's outputs are the scores up to constants, and how many weights stand behind it."""
    graph = part.graph
    weights = sum(value.const_value.size for value in graph.initializers.values() if value.const_value is not None)
    constants = (node for node in graph if node.op_type == "Constant" and node.attributes)
    weights += sum(c.array().size for node in constants if (c := trace(node.outputs[0])) is not None)
    value = next(value for value in graph.inputs if value.name == PROBE)
    while not value.is_graph_output():
        uses = list(value.uses())
        if len(uses) != 1:
            return False, weights
        node = uses[0].node
        axis = node.attributes["axis"].as_int() if "axis" in node.attributes else -1
        along_last = axis in (-1, site.rank - 1)
        passes = node.op_type == "Identity"
        passes |= node.op_type == "Add" and any(trace(v) is not None for v in node.inputs if v is not value)
        passes |= node.op_type in ("Softmax", "LogSoftmax") and along_last and loss == "softmax"
        if not passes:
            return False, weights
        value = node.outputs[0]
    return site.out_axis == -1 and not value.uses(), weights
