"""Predicted over measured cycles of every case, as a figure."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

from benchmarks.meter.compare import Row
from benchmarks.meter.machine_target import Hierarchy
from benchmarks.meter.predict import COLD, KINDS, WARM


def scatter(rows: Sequence[Row], hierarchy: Hierarchy) -> str:
    """Return an SVG picture: one panel for warm calls, one for cold ones."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "lrfdse"
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(11, 5.2), layout="constrained")
    for panel, rules in zip(panels, (WARM, COLD), strict=True):
        for kind in KINDS:
            chosen = [row for row in rows if row.prediction.kind == kind]
            measured = [row.native.warm if rules.regime == "warm" else row.native.cold for row in chosen]
            predicted = [row.prediction.cycles(hierarchy, rules) for row in chosen]
            panel.scatter(measured, predicted, s=14, alpha=0.75, label=kind)
        ends = np.array(panel.get_xlim())
        panel.plot(ends, ends, color="black", linewidth=0.8)
        for factor in (0.75, 1.25):
            panel.plot(ends, factor * ends, color="black", linewidth=0.5, linestyle="dashed")
        panel.set(
            xscale="log",
            yscale="log",
            title=f"{rules.regime} calls",
            xlabel="measured cycles",
            ylabel="modelled cycles",
        )
        panel.grid(which="major", linewidth=0.3)
    panels[0].legend(title="limited by")
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    plt.close(figure)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"
