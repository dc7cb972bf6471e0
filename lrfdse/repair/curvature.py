"""How much a model's output changes with the outputs of its layers: output weightings, by finite differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lrfdse.model.constants import trace
from lrfdse.model.data import Dataset
from lrfdse.model.graph import Model
from lrfdse.model.match.site import Site
from lrfdse.model.passes.cut import PROBE, behind, dependent, read_out
from lrfdse.model.runtime import Arrays, Layout, Runtime
from lrfdse.model.samples import Rows
from lrfdse.quality.divergence import Loss, evenly_spread
from lrfdse.quality.objective import Objective, SideBySide, names_of, objective_for

if TYPE_CHECKING:
    from lrfdse.ir.factorization import Array


STEP = 1e-2
"""Step of finite differences, in parts of the root mean square of the values that are moved: between the rounding
of float32 and the curvature of activations. Chosen; tests compare with derivatives in closed form."""


_CHUNK = 16_000_000
"""Elements of Jacobians that are held at once: 64 MB of float32. Chosen."""


_RUN = 2_000_000
"""Elements that one run behind a layer takes in: 8 MB of float32. Chosen."""


_LEAST_SAMPLES = 32
"""Samples below which no weighting is taken: it would be that of their chance. Chosen, not measured."""


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
        direct, self.weights = _looked_over(part, site, only[0].loss if only else "squared")
        self.direct = direct and only is not None

    def scores(self, values: NDArray[Any], data: Dataset) -> Array:
        """Return the scores, (samples, size), for given outputs of the layer, (samples, rows, outputs)."""
        count = len(values)
        feeds = {name: array for name, array in data.feeds(0, count).items() if name in self._inputs}
        probe = self._rows.value(values).astype(self._dtype, copy=False)
        found = self._runtime.call(self._session, feeds | {PROBE: probe}, list(self._outputs.values()))
        split = {name: self._layout.split(name, found[own], count) for name, own in self._outputs.items()}
        return self._scores.scores(split)

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
        base = self.scores(values, data)
        scale = STEP * float(np.sqrt(np.mean(np.square(values, dtype=np.float64)))) or STEP
        signs = np.ones((samples, rows)) if rows == 1 else rng.choice([-1.0, 1.0], (samples, rows))
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


def compute_weightings(
    model: Model,
    dataset: Dataset,
    layers: Sequence[str] | None = None,
    runtime: Runtime | None = None,
    loss: Loss | Objective = "softmax",
    samples: int = 256,
    budget: float = 3e11,
    output: str | None = None,
    seed: int = 0,
) -> dict[str, Array]:
    """Return the output weighting of each layer: how the model's outputs depend on the layer's outputs.

    The weighting is ``H = E[J^T F J]``, shape (outputs, outputs), with J the derivatives of the scores by the layer's
    outputs and F the curvature of the loss at the model's own scores: the identity, or the Fisher information
    ``diag(p) - p p^T`` of the softmax. The expectation is over samples, and rows of one sample add up. A small change
    d of the outputs thus costs about ``d^T H d / 2``. For the layer whose outputs are the scores H is exact; elsewhere
    J comes from finite differences through onnxruntime, whatever the operators in between.

    Parameters
    ----------
    model
        The model whose layers are meant.
    dataset
        Samples; labels are not looked at.
    layers
        Names of layers; all by default.
    runtime
        What runs the models; one of this call's own by default.
    loss
        The outputs that count, with what their changes cost; or that of one output: "softmax" for class scores, be
        they logits or probabilities, "squared" for other outputs.
    samples
        Most samples to look at, spread evenly over the data.
    budget
        MACs, estimated from the weights behind a layer, that its weighting may cost. Fewer samples are looked at, down
        to 32; a layer that costs more even so has no weighting.
    output
        The output that counts where `loss` is that of one; the first of floating point by default.
    seed
        Seed of the signs with which rows of one sample are told apart.

    Returns
    -------
    dict
        Layer name to H, symmetric positive semidefinite. Layers that cost too much, or on which no output
        depends, are absent.

    Raises
    ------
    InputError
        The model cannot be run on the data, or there is no such output.
    """
    runtime, original = runtime or Runtime(), model.working.graph
    names = [layer.name for layer in model.layers] if layers is None else list(layers)
    rng = np.random.default_rng(seed)
    objective = objective_for(original, loss, output)
    few = evenly_spread(dataset, samples)
    found: dict[str, Array] = {}
    for name in names:
        total = np.zeros((model.layer(name).outputs,) * 2)
        for site in model.sites[name]:
            part = _weighting(original, site, objective, few, runtime, budget, rng)
            if part is None:
                break
            total += part
        else:
            if np.trace(total) > 0:
                found[name] = (total + total.T) / 2
    return found


def concerned(model: ir.Model, site: Site, objective: Objective) -> Objective:
    """Return the outputs that count and depend on one use of a layer."""
    behind_it = dependent(model, [site.output], names_of(objective))
    return tuple(part for part in objective if part.output in behind_it)


def _weighting(
    model: ir.Model,
    site: Site,
    objective: Objective,
    dataset: Dataset,
    runtime: Runtime,
    budget: float,
    rng: np.random.Generator,
) -> Array | None:
    if not (objective := concerned(model, site, objective)):
        return np.zeros(())
    names = names_of(objective)
    read = list(dict.fromkeys([site.output, *names]))
    session = runtime.session(read_out(model, read))
    layout = runtime.layout(session, dataset, 64, read)
    downstream: DownstreamModel | None = None
    total: Array | float = 0.0
    seen, most = 0, dataset.count
    for start in range(0, dataset.count, layout.size):
        if seen >= most:
            break
        count = min(layout.size, dataset.count - start)
        index = np.minimum(np.arange(start, start + (layout.size if layout.fixed else count)), dataset.count - 1)
        data = dataset.take(index)
        arrays = runtime.call(session, _needed(session, data.feeds(0, data.count)), read)
        value = arrays[site.output]
        if (place := layout.place(site.output, value)) is None:
            return None
        if downstream is None:
            split = {name: layout.split(name, arrays[name], data.count) for name in names}
            scores_in = SideBySide.of(objective, split)
            rows_in = Rows.of(value, place, site.out_axis, data.count)
            downstream = DownstreamModel(model, site, scores_in, value.dtype, runtime, rows_in, layout)
            _, rows, units = rows_in.rows(value, data.count).shape
            if not downstream.direct:
                most = min(most, int(budget / (units * rows * max(downstream.weights, 1))))
                if most < min(_LEAST_SAMPLES, dataset.count) or scores_in.size * units > 4 * _CHUNK:
                    return None
        values = rows_in.rows(value, data.count)
        scores = scores_in.scores({name: layout.split(name, arrays[name], data.count) for name in names})[:count]
        if downstream.direct:
            total = total + scores_in.curvature_sum(scores)
        else:
            chunk = data.count if layout.fixed else max(1, min(count, _CHUNK // (scores_in.size * units)))
            for first in range(0, data.count, chunk):
                some = data.take(slice(first, first + chunk))
                slope = downstream.jacobian(values[first : first + chunk], some, rng)[: max(count - first, 0)]
                total = total + scores_in.pulled_back(slope, scores[first : first + chunk])
        seen += count
    return np.asarray(total) / max(seen, 1)


def _needed(session: Any, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
    taken = {port.name for port in session.get_inputs()}
    return {name: array for name, array in feeds.items() if name in taken}


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
