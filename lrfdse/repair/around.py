"""The whole model around one of its layers, to second order: what a refinement of that layer is to lower."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from lrfdse.errors import plan_errors
from lrfdse.repair.moments import finite_rows
from lrfdse.repair.refine import Local

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx_ir as ir

    from lrfdse.ir.factors import Factors
    from lrfdse.model.data import Dataset
    from lrfdse.model.graph import Model
    from lrfdse.model.runtime import Runtime
    from lrfdse.quality.objective import Objective

_SLOPES = 100_000_000
"""Most derivatives of scores by outputs of a layer that are held for a refinement: 400 MB of float32. Chosen."""

_DIRECT = 20_000_000
"""Most outputs, over rows and samples, that a refinement sees of a layer whose outputs are the scores. Chosen."""

_BUDGET = 1e11
"""MACs, estimated from what stands behind a layer, that its derivatives for one refinement may take. Chosen."""


def around(
    model: Model,
    current: Mapping[str, Factors],
    name: str,
    objective: Objective,
    data: Dataset,
    runtime: Runtime,
    least: int,
) -> Local | None:
    """Return the compressed model around a layer, or None where its derivatives are out of reach.

    Parameters
    ----------
    model
        The original model.
    current
        Layer name to factors, of all layers of the plan.
    name
        The layer.
    objective
        The outputs that count, with what their changes cost.
    data
        Samples and mixtures to take it at; fewer of them, evenly spread, where all would take too much.
    runtime
        What runs the models.
    least
        Samples below which a layer of one row a sample is left alone: fewer than were calibrated with would undo more
        than a step gains.

    Raises
    ------
    PlanError
        The compressed model cannot be run on the data.
    """
    from lrfdse.model.passes.factor import rewrite
    from lrfdse.quality.divergence import evenly_spread
    from lrfdse.quality.objective import SideBySide, names_of
    from lrfdse.repair.curvature import concerned
    from lrfdse.repair.downstream import DownstreamModel
    from lrfdse.repair.observe import Observed, observe

    sites = model.sites[name]
    if len(sites) > 1:
        return None
    (site,), outputs = sites, model.layer(name).outputs
    if site.in_axis is None or site.holder is not None:
        return None
    objective = concerned(model.working.graph, site, objective)
    if not objective:
        return None
    version, names = rewrite(model, current, closed=False), names_of(objective)

    reads, gives = {site.source: site.in_axis}, {site.output: site.out_axis}

    def seen(form: ir.Model, some: Dataset, features: Mapping[str, int]) -> Observed:
        with plan_errors():
            return observe(runtime, form, some, features, names)

    one = seen(version, data.head(3), reads | gives)
    if not one.layout.together:
        return None
    side = SideBySide.of(objective, one.outputs)
    # What is rounded behind the layer has no slope: there the numbers stand for their levels.
    smooth = {each: dataclasses.replace(factors, roundings=None) for each, factors in current.items()}
    rounds = any(factors.roundings is not None for factors in current.values())
    downstream = DownstreamModel(
        rewrite(model, smooth, closed=False) if rounds else version,
        site,
        side,
        one.rows[site.output].dtype,
        runtime,
        one.forms[site.output],
        one.layout,
        one.rows[site.output],
        data.head(3),
    )
    rows = one.rows[site.output].shape[1]
    if downstream.direct:
        most = _DIRECT // (rows * outputs)
    elif rows > 1:
        return None
    else:
        most = min(_SLOPES // (side.size * outputs), int(_BUDGET / (downstream.passes * downstream.macs)))
    if rows == 1 and most < least:
        return None
    data = evenly_spread(data, most)
    found, original = seen(version, data, reads | gives), seen(model.working.graph, data, reads)
    size = found.layout.size
    inputs = finite_rows(found.rows[site.source], name).astype(np.float32)
    weight = model.weight(name).astype(np.float32)
    targets = finite_rows(original.rows[site.source], name).astype(np.float32) @ weight.T
    values = found.rows[site.output]
    scores, reference = (side.scores(each.outputs) for each in (found, original))
    parts = [(data.take(slice(s, s + size)), slice(s, s + size)) for s in range(0, data.count, size)]
    slopes = None
    rng = np.random.default_rng(0)
    if not downstream.direct:
        slopes = np.concatenate([downstream.jacobian(values[place], some, rng) for some, place in parts])

    def evaluate(change: Any) -> float:
        moved = values + change.reshape(values.shape)
        total = 0.0
        for some, place in parts:
            total += float(side.divergences(downstream.scores(moved[place], some), reference[place]).sum())
        return total / len(inputs)

    chances, pulls = side.chances(scores), side.pulls(scores, reference)
    by_row = side
    if downstream.direct:
        # Each row of the layer is a position of the output: the scores, row by row.
        only = side.only
        assert only is not None
        by_row = SideBySide(objective, {only[0].output: (1, only[1][1])})
    flat = (len(inputs), -1)
    return Local(
        inputs,
        targets,
        slopes,
        chances.reshape(flat).astype(np.float32),
        pulls.reshape(flat).astype(np.float32),
        by_row,
        evaluate,
    )
