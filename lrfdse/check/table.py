"""The verdicts as lines for people."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from lrfdse.base.text import clean
from lrfdse.check.verdict import Check, CheckReport, Verdict

if TYPE_CHECKING:
    from rich.text import Text

WORDS: dict[Verdict, str] = {"pass": "pass", "fail": "FAIL", "skip": "skipped", "error": "ERROR"}
VALUE = "value (± 95 %)"
"""Head of the column of values: a loss stands there with half its 95 % interval."""
_STYLES: dict[Verdict, str] = {"pass": "green", "fail": "bold red", "skip": "yellow", "error": "bold red"}
_INDENT = max(map(len, WORDS.values())) + 2
"""Where the text behind a verdict begins."""


def title_of(report: CheckReport) -> str:
    """Return in one line what was checked: the model, the target, the design."""
    design = "" if report.design is None else f", design {clean(report.design.id)}"
    kind = "" if report.design is None else f", latency {report.kind}"
    return f"Checked {report.title}{design}{kind}"


def check_lines(report: CheckReport, width: int) -> list[Text]:
    """Return a verdict after the other: its word, what was checked, the value, the limit, the reason.

    Parameters
    ----------
    report
        What was found.
    width
        Characters after which a line goes on below itself, indented; only a longer word is longer.
    """
    from rich.text import Text

    heads = f"{'verdict':{_INDENT}}check: {VALUE}, limit; why"
    lines = [Text(line, style="bold") for line in (title_of(report), heads)]
    for check in report.checks:
        told = f"{WORDS[check.verdict]:{_INDENT}}{_told(check)}"
        broken = textwrap.wrap(told, width, subsequent_indent=" " * _INDENT, break_long_words=False)
        lines += map(Text, broken)
        lines[-len(broken)].stylize(_STYLES[check.verdict], 0, _INDENT)
    return lines


def conclusion(report: CheckReport) -> str:
    """Return the sentence that ends the output."""
    counts = [(len(report.of(verdict)), WORDS[verdict].lower()) for verdict in ("pass", "fail", "error", "skip")]
    words = {"pass": "passed", "fail": "failed", "error": "not checked for an error", "skipped": "skipped"}
    return ", ".join(f"{count} {words[word]}" for count, word in counts if count) or "nothing was checked"


def _told(check: Check) -> str:
    facts = ", ".join(part for part in (check.value, check.limit) if part)
    return clean(f"{check.name}: {'; '.join(part for part in (facts, check.reason) if part)}".removesuffix(": "))
