"""How much a model's output changes with the outputs of its layers: output weightings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lrfdse.model.data import Dataset
from lrfdse.model.graph import Model
from lrfdse.model.match.site import Site
from lrfdse.model.passes.cut import dependent, read_out
from lrfdse.model.runtime import Arrays, Runtime, batches
from lrfdse.model.samples import Rows
from lrfdse.quality.divergence import Loss, evenly_spread
from lrfdse.quality.objective import Objective, SideBySide, names_of, objective_for
from lrfdse.repair.downstream import DownstreamModel, least_macs

if TYPE_CHECKING:
    from lrfdse.ir.factorization import Array


_CHUNK = 16_000_000
"""Elements of Jacobians that are held at once: 64 MB of float32. Chosen."""


_LEAST_SAMPLES = 32
"""Samples below which no weighting is taken: it would be that of their chance. Chosen, not measured."""


_FEW = 3
"""Samples of the run that shows the sizes of what layers give: as many as tell where samples lie. Chosen."""


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
    J comes from backward passes where operators and sizes allow and finite differences where not, by onnxruntime.

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
        MACs, estimated from what stands behind a layer, that its weighting may cost. Fewer samples are looked at, down
        to 32; a layer that costs more even so has no weighting.
    output
        The output that counts where `loss` is that of one; the first of floating point by default.
    seed
        Seed of the signs with which rows of one sample are told apart.

    Returns
    -------
    dict
        Layer name to H, symmetric positive semidefinite. Layers that cost too much, on which no output depends, or
        that stand in the body of an If or a loop, are absent.

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


def within_reach(
    model: Model,
    dataset: Dataset,
    budgets: Mapping[str, float],
    runtime: Runtime | None = None,
    loss: Loss | Objective = "softmax",
) -> list[str]:
    """Return the layers whose weighting may be within reach; of the others `compute_weightings` would give none.

    The original runs on few samples, once for all layers, to show how many rows and scores these have.

    Parameters
    ----------
    model, dataset, runtime, loss
        As for `compute_weightings`.
    budgets
        Layer name to the MACs that its weighting may cost.

    Raises
    ------
    InputError
        The model cannot be run on the data, or there is no such output.
    """
    runtime, original = runtime or Runtime(), model.working.graph
    objective = objective_for(original, loss)
    sites = {name: model.sites[name] for name in budgets if all(site.holder is None for site in model.sites[name])}
    outputs, few = [site.output for each in sites.values() for site in each], dataset.head(_FEW)
    read = list(dict.fromkeys([*outputs, *names_of(objective)]))
    session = runtime.session(read_out(original, read))
    layout = runtime.layout(session, few, _FEW, read)
    feeds, _ = next(batches(few, layout.size, pad=layout.fixed))
    count, arrays = layout.size, runtime.call(session, _needed(session, feeds), read)
    sides: dict[Objective, SideBySide] = {}

    def is_within(site: Site, budget: float) -> bool:
        if not (own := concerned(original, site, objective)):
            return True
        value = arrays[site.output]
        if (place := layout.place(site.output, value)) is None:
            return False
        if own not in sides:
            split = {name: layout.split(name, arrays[name], count) for name in names_of(own)}
            sides[own] = SideBySide.of(own, split)
        _, rows, units = Rows.of(value, place, site.out_axis, count).rows(value, count).shape
        macs = least_macs(original, site, sides[own], value.dtype, rows, units)
        return not macs or (
            min(_LEAST_SAMPLES, dataset.count) * macs <= budget and sides[own].size * units <= 4 * _CHUNK
        )

    return [name for name, each in sites.items() if all(is_within(site, budgets[name]) for site in each)]


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
    if site.holder is not None:
        return None
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
            values = rows_in.rows(value, data.count)
            downstream = DownstreamModel(model, site, scores_in, value.dtype, runtime, rows_in, layout, values, data)
            units = values.shape[-1]
            if not downstream.direct:
                most = min(most, int(budget / (downstream.passes * downstream.macs)))
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
