"""A version of the model with its weights as int8, rounded against what its products read where data say that."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lrfdse.factorize.rounding import against_moment
from lrfdse.ir.int8 import nearest
from lrfdse.model.passes.cut import read_out
from lrfdse.model.passes.int8 import Int8Site, int8_sites, stored_int8
from lrfdse.model.runtime import Runtime, batches
from lrfdse.model.samples import batch_within
from lrfdse.quality.divergence import evenly_spread
from lrfdse.repair.moments import finite_rows

if TYPE_CHECKING:
    import onnx_ir as ir

    from lrfdse.model.data import Dataset
    from lrfdse.model.runtime import Arrays

MOST_INPUTS = 4096
"""Inputs of a weight up to which it is rounded against their second moment, which then takes 128 MiB. Chosen."""

ENOUGH = 8
"""Rows for each input of a weight from which further samples are not run: the second moment's error is then a third of
itself in directions of equal size, less in those that count. A sentence encoder has 30,720 rows on 240 texts for 384
to 1536 inputs, and eight designs of it took a quarter of an hour of one processor. Chosen."""

LEAST = 64
"""Samples that are run in any case, where there are so many: rows of one sample are alike. Chosen."""


def int8_version(version: ir.Model, data: Dataset | None, runtime: Runtime | None = None) -> ir.Model | None:
    """Return a version of a model with the weights of its products as int8, or None where that makes none smaller.

    Parameters
    ----------
    version
        The original or a rewritten model; it stays as it is.
    data
        Calibration data, which the version itself is run on: weights are then rounded against the second moment of
        what they multiply, all of it in float32. None rounds to nearest.
    runtime
        What runs the version; one of this call's own by default.

    Raises
    ------
    InputError
        The version cannot be run on the data, or what a product reads there holds NaN or Inf.
    """
    sites = int8_sites(version)
    if not sites:
        return None
    known = {} if data is None else second_moments(version, sites, data, runtime or Runtime())
    rounded = {
        site.root: against_moment(weight, known[site.root]) if site.root in known else nearest(weight)
        for site in sites
        for weight in [site.weight.astype(np.float64)]
    }
    return stored_int8(version, sites, rounded)


def second_moments(
    version: ir.Model, sites: Sequence[Int8Site], data: Dataset, runtime: Runtime, batch: int = 256
) -> dict[str, NDArray[np.float64]]:
    """Return E[x x^T] of what each weight multiplies, by its root, pooled over uses, samples and positions.

    Weights of more than `MOST_INPUTS` inputs are left out, and those that bodies of If and loops alone use. Where
    samples have many rows, some are run, spread evenly: so many that each weight has `ENOUGH` rows an input.

    Raises
    ------
    InputError
        The version cannot be run on the data, or there is NaN or Inf.
    """
    wanted = [site for site in sites if site.reads and site.weight.shape[1] <= MOST_INPUTS]
    fed = {*data.inputs, *data.shared}
    names = sorted({name for site in wanted for name, _ in site.reads} - fed)
    sums = {site.root: np.zeros((site.weight.shape[1],) * 2) for site in wanted}
    counts = dict.fromkeys(sums, 0)
    session = runtime.session(read_out(version, names)) if names else None

    def seen(feeds: Arrays) -> Arrays:
        if session is None:
            return feeds
        taken = {port.name for port in session.get_inputs()}
        return feeds | runtime.call(session, {name: a for name, a in feeds.items() if name in taken}, names)

    layout = runtime.layout(runtime.session(version), data, batch)
    run = layout.size if layout.fixed else 1
    few = seen(dict(next(batches(data.head(1), run, pad=layout.fixed))[0]))
    if data.count > max(LEAST, run):
        data = evenly_spread(data, max(run, _enough(wanted, few, run, data.count)))
    if not layout.fixed:
        layout = replace(layout, size=batch_within(layout.size, [few[name] for name in names], run))
    for feeds, count in batches(data, layout.size, pad=layout.fixed):
        # The samples that fill up a last batch would count twice; alone, they are all there is.
        if count < layout.size and layout.fixed and data.count > layout.size:
            continue
        arrays = seen(dict(feeds))
        for site in wanted:
            for name, axis in site.reads:
                array = arrays[name]
                rows = finite_rows(np.moveaxis(array, axis, -1) if array.ndim > 1 else array, site.root)
                sums[site.root] += rows.T @ rows
                counts[site.root] += len(rows)
    return {root: total / max(counts[root], 1) for root, total in sums.items()}


def _enough(sites: Sequence[Int8Site], arrays: Arrays, samples: int, most: int) -> int:
    """Return how many samples give each weight enough rows, by what it reads in one run of so many `samples`."""
    rows = [float(sum(arrays[name].size for name, _ in site.reads)) / site.weight.shape[1] / samples for site in sites]
    if max(rows, default=1.0) <= 1.0:
        return most
    needed: float = max(
        ENOUGH * int(site.weight.shape[1]) / max(each, 1e-9) for site, each in zip(sites, rows, strict=True)
    )
    return min(most, max(LEAST, math.ceil(needed)))
