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
from lrfdse.model.match.products import Site
from lrfdse.model.passes.cut import PROBE, behind, read_out
from lrfdse.model.runtime import Arrays, Runtime, batches
from lrfdse.quality.divergence import Loss, evenly_spread, scored_output, scores_of, softmax

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
    """The part of a model behind one use of a layer, up to the output that counts.

    Parameters
    ----------
    model
        The model, or a rewritten form of it.
    site
        The use of the layer.
    output
        Name of the model's output that counts.
    loss
        What a change of that output costs.
    dtype
        Element type of the layer's output.
    runtime
        What runs the model.
    together
        Whether samples may be run in batches of any size.
    """

    def __init__(
        self,
        model: ir.Model,
        site: Site,
        output: str,
        loss: Loss,
        dtype: np.dtype[Any],
        runtime: Runtime,
        together: bool,
    ) -> None:
        part = behind(model, site.output, output, dtype)
        self._runtime = runtime
        self._session = runtime.session(part)
        self._inputs = {port.name for port in self._session.get_inputs()} - {PROBE}
        self._output = self._session.get_outputs()[0].name
        self._axis = site.out_axis
        self._loss: Loss = loss
        self._together = together
        self.direct, self.weights = _looked_over(part, site, loss)

    def scores(self, values: NDArray[Any], feeds: Arrays) -> Array:
        """Return the scores for given outputs of the layer, (samples, positions, classes)."""
        needed = {name: feeds[name] for name in self._inputs}
        found = self._runtime.call(self._session, needed | {PROBE: values}, [self._output])
        return scores_of(found[self._output], self._loss)

    def jacobian(self, values: NDArray[Any], feeds: Arrays, rng: np.random.Generator) -> NDArray[np.float32]:
        """Return derivatives of the scores by the layer's outputs, (samples, positions, classes, outputs).

        Where the layer has several rows in a sample, all are moved at once, each with a sign of its own: in products
        of two derivatives what belongs to different rows cancels on average.
        """
        moved = np.moveaxis(values, self._axis, -1)
        samples, units = len(values), moved.shape[-1]
        base = self.scores(values, feeds)
        scale = STEP * float(np.sqrt(np.mean(np.square(values, dtype=np.float64)))) or STEP
        one_row = moved[0].size == units
        signs = np.ones(moved.shape[:-1]) if one_row else rng.choice([-1.0, 1.0], moved.shape[:-1])
        step = (scale * signs).astype(values.dtype)
        found = np.empty((*base.shape, units), dtype=np.float32)
        group = max(1, _RUN // max(values.size, base.size)) if self._together else 1
        for start in range(0, units, group):
            chosen = range(start, min(start + group, units))
            copies = np.repeat(moved[None], len(chosen), axis=0)
            for number, unit in enumerate(chosen):
                copies[number, ..., unit] += step
            probe = np.moveaxis(copies.reshape(-1, *moved.shape[1:]), -1, self._axis)
            repeated = {name: np.concatenate([feeds[name]] * len(chosen)) for name in self._inputs}
            scores = self.scores(np.ascontiguousarray(probe), repeated).reshape(len(chosen), *base.shape)
            found[..., start : start + len(chosen)] = np.moveaxis((scores - base) / scale, 0, -1)
        return found.reshape(samples, *base.shape[1:], units)


def compute_weightings(
    model: Model,
    dataset: Dataset,
    layers: Sequence[str] | None = None,
    runtime: Runtime | None = None,
    loss: Loss = "softmax",
    samples: int = 256,
    budget: float = 3e11,
    output: str | None = None,
    seed: int = 0,
) -> dict[str, Array]:
    """Return the output weighting of each layer: how the model's output depends on the layer's outputs.

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
        "softmax" for class scores, be they logits or probabilities; "squared" for other outputs.
    samples
        Most samples to look at, spread evenly over the data.
    budget
        MACs, estimated from the weights behind a layer, that its weighting may cost. Fewer samples are looked at, down
        to 32; a layer that costs more even so has no weighting.
    output
        The output that counts; the first of floating point by default.
    seed
        Seed of the signs with which rows of one sample are told apart.

    Returns
    -------
    dict
        Layer name to H, symmetric positive semidefinite. Layers that cost too much, or on which the output does
        not depend, are absent.

    Raises
    ------
    InputError
        The model cannot be run on the data, or there is no such output.
    """
    runtime, original = runtime or Runtime(), model.original
    names = [layer.name for layer in model.layers] if layers is None else list(layers)
    rng = np.random.default_rng(seed)
    output = output or scored_output(original)
    few = evenly_spread(dataset, samples)
    size, fixed = runtime.batch(runtime.session(original), few, 64)
    found: dict[str, Array] = {}
    for name in names:
        total = np.zeros((model.layer(name).outputs,) * 2)
        for site in model.sites[name]:
            part = _weighting(original, site, output, loss, few, runtime, (size, fixed), budget, rng)
            if part is None:
                break
            total += part
        else:
            if np.trace(total) > 0:
                found[name] = (total + total.T) / 2
    return found


def _weighting(
    model: ir.Model,
    site: Site,
    output: str,
    loss: Loss,
    dataset: Dataset,
    runtime: Runtime,
    batch: tuple[int, bool],
    budget: float,
    rng: np.random.Generator,
) -> Array | None:
    size, fixed = batch
    session = runtime.session(read_out(model, list(dict.fromkeys([site.output, output]))))
    downstream: DownstreamModel | None = None
    total: Array | float = 0.0
    seen, most = 0, dataset.count
    for feeds, count in batches(dataset, size, pad=fixed):
        if seen >= most:
            break
        arrays = runtime.call(session, _needed(session, feeds), [site.output, output])
        values, scores = arrays[site.output], scores_of(arrays[output], loss)[:count]
        if downstream is None:
            downstream = DownstreamModel(
                model, site, output, loss, values.dtype, runtime, together=not fixed and size > 1
            )
            units = values.shape[site.out_axis]
            rows = max(1, values[0].size // units)
            if not downstream.direct:
                most = min(most, int(budget / (units * rows * max(downstream.weights, 1))))
                if most < min(_LEAST_SAMPLES, dataset.count) or scores[0].size * units > 4 * _CHUNK:
                    return None
        if downstream.direct:
            total = total + _curvature_sum(scores, loss)
        else:
            chunk = size if fixed else max(1, min(count, _CHUNK // (scores[0].size * units)))
            for start in range(0, len(values), chunk):
                some = {name: array[start : start + chunk] for name, array in feeds.items()}
                slope = downstream.jacobian(values[start : start + chunk], some, rng)[: max(count - start, 0)]
                total = total + _pulled_back(slope, scores[start : start + chunk], loss)
        seen += count
    return np.asarray(total) / max(seen, 1)


def _curvature_sum(scores: Array, loss: Loss) -> Array:
    """Return F summed over samples and positions."""
    flat = scores.reshape(-1, scores.shape[-1])
    if loss == "squared":
        return len(flat) * np.eye(flat.shape[1])
    chances = softmax(flat)
    return np.diag(chances.sum(axis=0)) - chances.T @ chances


def _pulled_back(slope: NDArray[np.float32], scores: Array, loss: Loss) -> Array:
    """Return ``J^T F J`` summed over samples and positions."""
    units = slope.shape[-1]
    rows = slope.reshape(-1, slope.shape[-2], units).astype(np.float64)
    if loss == "squared":
        flat = rows.reshape(-1, units)
        return np.asarray(flat.T @ flat)
    chances = softmax(scores).reshape(-1, scores.shape[-1])
    flat = (np.sqrt(chances)[:, :, None] * rows).reshape(-1, units)
    mean = np.einsum("rk,rku->ru", chances, rows)
    return np.asarray(flat.T @ flat - mean.T @ mean)


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
