"""The verdicts as a table for people."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from lrfdse.base.text import clean
from lrfdse.check.verdict import Checked, Verdict

WORDS: dict[Verdict, str] = {"pass": "pass", "fail": "FAIL", "skip": "skipped", "error": "ERROR"}
_STYLES: dict[Verdict, str] = {"pass": "green", "fail": "bold red", "skip": "yellow", "error": "bold red"}


def title_of(checked: Checked) -> str:
    """Return what was checked, in one line."""
    design = "" if checked.design is None else f", design {clean(checked.design.id)}"
    kind = "" if checked.design is None else f", latency {checked.kind}"
    return f"Checked {checked.title}{design}{kind}"


def check_table(checked: Checked) -> Table:
    """Return what was checked, the limit, the value and the verdict, a row each."""
    table = Table(title=Text(title_of(checked)), title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name in ("check", "limit", "value", "verdict", ""):
        table.add_column(name)
    for check in checked.checks:
        verdict = Text(WORDS[check.verdict], style=_STYLES[check.verdict])
        table.add_row(check.name, Text(check.limit), Text(check.value), verdict, Text(check.reason))
    return table


def conclusion(checked: Checked) -> str:
    """Return the sentence that ends the output."""
    counts = [(len(checked.of(verdict)), WORDS[verdict].lower()) for verdict in ("pass", "fail", "error", "skip")]
    words = {"pass": "passed", "fail": "failed", "error": "not checked for an error", "skipped": "skipped"}
    return ", ".join(f"{count} {words[word]}" for count, word in counts if count) or "nothing was checked"
