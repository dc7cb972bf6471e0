"""The verdicts as JUnit XML: what Jenkins, GitLab and other CI servers read as test results."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from lrfdse.check.limits import points_of, regime_latencies
from lrfdse.check.verdict import Check, CheckReport

_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 does not have, however they are escaped."""


def junit_xml(report: CheckReport) -> str:
    """Return a document with one suite, the target, and one testcase a check.

    A broken limit is a failure, a tool or device that failed is an error, a device that is not there, or a thing that
    cannot be compared, is skipped. The form is what Surefire writes: properties belong to the suite, and there is no
    time of day, so equal results give equal documents.
    """
    counts = {
        "tests": len(report.checks),
        "failures": len(report.of("fail")),
        "errors": len(report.of("error")),
        "skipped": len(report.of("skip")),
    }
    totals = {name: str(count) for name, count in counts.items()}
    root = ElementTree.Element("testsuites", {"name": "lrfdse", **{k: v for k, v in totals.items() if k != "skipped"}})
    suite = ElementTree.SubElement(root, "testsuite", {"name": _legal(report.target or "unknown"), **totals})
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in _properties(report).items():
        ElementTree.SubElement(properties, "property", {"name": name, "value": _legal(value)})
    for check in report.checks:
        _add(suite, check, f"lrfdse.{report.model or 'model'}")
    ElementTree.indent(root, " ")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _add(suite: ElementTree.Element, check: Check, classname: str) -> None:
    case = ElementTree.SubElement(suite, "testcase", {"name": check.name, "classname": _legal(classname), "time": "0"})
    element = {"fail": "failure", "error": "error", "skip": "skipped"}.get(check.verdict)
    if element:
        kind = {"failure": "limit", "error": "infrastructure", "skipped": "skipped"}[element]
        ElementTree.SubElement(case, element, {"type": kind, "message": _legal(check.reason)})
    lines = [f"limit: {check.limit}", f"value: {check.value}", f"note: {check.reason}"]
    text = "\n".join(line for line in lines if not line.endswith(": "))
    if text:
        ElementTree.SubElement(case, "system-out").text = _legal(text)


def _properties(report: CheckReport) -> dict[str, str]:
    found = {"model": report.model, "target": report.target, "meter": report.meter, "lrfdse": report.version}
    if (design := report.design) is not None:
        found |= {
            "design": design.id,
            "latency_us": repr(design.charged.us),
            "latency_low_us": repr(design.charged.low_us),
            "latency_high_us": repr(design.charged.high_us),
            **regime_latencies(design),
            "params": str(design.params),
            "flops": str(design.flops),
        }
        if report.loss is not None:
            found["loss_points"] = points_of(report.loss.value)
    return {name: value for name, value in found.items() if value}


def _legal(text: str) -> str:
    return _ILLEGAL.sub("\ufffd", text)
