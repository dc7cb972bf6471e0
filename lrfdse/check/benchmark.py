"""The checked design's numbers in the form of github-action-benchmark, tool ``customSmallerIsBetter``."""

from __future__ import annotations

import json
from typing import Any

from lrfdse.check.verdict import CheckReport


def benchmark_json(report: CheckReport) -> str:
    """Return a list of objects with "name", "value", "unit", "range" and "extra"; empty where there is no design.

    Names hold the model, the target and the meter, so that charts of several explorations can share a page and a
    modelled latency never continues the line of a measured one.
    """
    design, original = report.design, report.original
    if design is None or original is None:
        return "[]\n"
    place = " ".join(part for part in (report.model, report.target) if part)
    latency, before = design.charged, original.charged
    spread = max(latency.high_us - latency.us, latency.us - latency.low_us)
    extra = f"design {design.id}\nmeter {report.meter}"
    entries: list[dict[str, Any]] = [
        {
            "name": f"{place}: latency ({report.kind})",
            "unit": "us",
            "value": latency.us,
            "range": f"± {spread:.4g}",
            "extra": f"{extra}\noriginal {before.us:.6g} us",
        },
        {
            "name": f"{place}: parameters",
            "unit": "parameters",
            "value": design.params,
            "extra": f"{extra}\noriginal {original.params}",
        },
    ]
    if (loss := report.loss) is not None:
        entries.append(
            {
                "name": f"{place}: loss",
                "unit": "points",
                "value": round(100 * loss.value, 6),
                "range": f"± {100 * (loss.margin or 0.0):.4g}",
                "extra": extra,
            }
        )
    return json.dumps(entries, indent=1) + "\n"
