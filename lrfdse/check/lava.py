"""The verdicts as signals of LAVA's test shell: one line a check, read from the console."""

from __future__ import annotations

import re

from lrfdse.check.verdict import CheckReport

_RESULTS = {"pass": "pass", "fail": "fail", "skip": "skip", "error": "unknown"}


def lava_lines(report: CheckReport) -> list[str]:
    """Return what ``lava-test-case ID --result RESULT --units UNITS --measurement NUMBER`` prints, for each check.

    The dispatcher splits a signal at white space and each part at its one ``=``, so names hold neither. LAVA knows four
    results; a tool or device that failed is "unknown".
    """
    prefix = ".".join(part for part in (slug(report.model), slug(report.target)) if part)
    lines = []
    for check in report.checks:
        name = f"{prefix}.{check.name}" if prefix else check.name
        data = f"TEST_CASE_ID={name} RESULT={_RESULTS[check.verdict]}"
        if check.measurement is not None:
            data += f" UNITS={check.unit} MEASUREMENT={check.measurement:.10g}"
        lines.append(f"<LAVA_SIGNAL_TESTCASE {data}>")
    return lines


def slug(name: str) -> str:
    """Return a name that can be part of a test case's id.

    >>> slug("my board=2 <x>")
    'my_board_2__x_'
    """
    return re.sub(r"[^A-Za-z0-9._+-]", "_", name)
