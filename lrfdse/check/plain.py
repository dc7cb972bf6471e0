"""A report of ``lrfdse check`` as JSON, for programs that read it."""

from __future__ import annotations

import json
from typing import Any

from lrfdse.check.verdict import CheckReport


def report_json(report: CheckReport) -> str:
    """Return a report as a JSON object that ends with a newline.

    It has "source", "model", "target", "meter" and "kind" (how latencies were obtained), "design" (an id, or null),
    "exit_code", "checks" (each with "name", "verdict", "value", "limit", "reason", "measurement" and "unit") and
    "notes".
    """
    facts: dict[str, Any] = {
        "source": str(report.source),
        "model": report.model,
        "target": report.target,
        "meter": report.meter,
        "kind": report.kind,
        "design": None if report.design is None else report.design.id,
        "exit_code": report.exit_code,
        "checks": [
            {
                "name": each.name,
                "verdict": each.verdict,
                "value": each.value,
                "limit": each.limit,
                "reason": each.reason,
                "measurement": each.measurement,
                "unit": each.unit,
            }
            for each in report.checks
        ],
        "notes": list(report.notes),
    }
    return json.dumps(facts, indent=1) + "\n"
