"""The verdicts as a table for people."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from lrfdse.base.text import clean
from lrfdse.check.verdict import CheckReport, Verdict

WORDS: dict[Verdict, str] = {"pass": "pass", "fail": "FAIL", "skip": "skipped", "error": "ERROR"}
VALUE = "value (± 95 %)"
"""Head of the column of values: a loss stands there with half its 95 % interval."""
_STYLES: dict[Verdict, str] = {"pass": "green", "fail": "bold red", "skip": "yellow", "error": "bold red"}


def title_of(report: CheckReport) -> str:
    """Return in one line what was checked: the model, the target, the design."""
    design = "" if report.design is None else f", design {clean(report.design.id)}"
    kind = "" if report.design is None else f", latency {report.kind}"
    return f"Checked {report.title}{design}{kind}"


def check_table(report: CheckReport) -> Table:
    """Return the table of verdicts: what was checked, the limit, the value, the verdict, a row each."""
    table = Table(title=Text(title_of(report)), title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name in ("check", "limit", VALUE, "verdict", ""):
        table.add_column(name)
    for check in report.checks:
        verdict = Text(WORDS[check.verdict], style=_STYLES[check.verdict])
        table.add_row(check.name, Text(check.limit), Text(check.value), verdict, Text(check.reason))
    return table


def conclusion(report: CheckReport) -> str:
    """Return the sentence that ends the output."""
    counts = [(len(report.of(verdict)), WORDS[verdict].lower()) for verdict in ("pass", "fail", "error", "skip")]
    words = {"pass": "passed", "fail": "failed", "error": "not checked for an error", "skipped": "skipped"}
    return ", ".join(f"{count} {words[word]}" for count, word in counts if count) or "nothing was checked"
