"""The verdicts for GitHub Actions: a summary in Markdown, annotations, and outputs for later steps."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from lrfdse.base.text import clean
from lrfdse.check.limits import regime_latencies
from lrfdse.check.table import VALUE, WORDS, title_of
from lrfdse.check.verdict import CheckReport
from lrfdse.ir.latency import REGIMES

if TYPE_CHECKING:
    from lrfdse.results.designs import DesignFacts

SUMMARY_BYTES = 1024 * 1024
"""Bytes that GitHub shows of one step's summary (its documented limit, 1 MiB); a longer one is not shown at all."""

_CUT = "\n\n*(cut: a summary may hold 1 MiB)*\n"


def step_summary(report: CheckReport) -> str:
    """Return Markdown to append to the file that ``GITHUB_STEP_SUMMARY`` names."""
    rows: list[tuple[str, ...]] = [("check", "limit", VALUE, "verdict", ""), ("---",) * 5]
    rows += [
        (check.name, *map(markdown, (check.limit, check.value)), _mark(check.verdict), markdown(check.reason))
        for check in report.checks
    ]
    lines = [f"### {markdown(title_of(report))}", "", *(f"| {' | '.join(row)} |" for row in rows), ""]
    lines += [f"- {markdown(note)}" for note in report.notes]
    return "\n".join(lines) + "\n"


def fitted(text: str, there: int) -> str:
    """Return as much of a summary as fits behind `there` bytes that the file holds already, cut after a line."""
    room = SUMMARY_BYTES - there
    if len(text.encode()) <= room:
        return text
    kept = text.encode()[: max(0, room - len(_CUT.encode()))].decode(errors="ignore")
    head, newline, _ = kept.rpartition("\n")
    return head + _CUT if newline else ""


def workflow_commands(report: CheckReport) -> list[str]:
    """Return workflow commands: an error for each check that failed, a notice for each that was skipped."""
    levels = {"fail": "error", "error": "error", "skip": "notice"}
    return [
        command(levels[check.verdict], f"lrfdse: {check.name}, {report.title}", check.reason or check.value)
        for check in report.checks
        if check.verdict in levels
    ]


def command(level: str, title: str, message: str) -> str:
    """Return one workflow command, escaped as the runner reads it.

    >>> command("error", "a: b, c", "100%" + chr(10) + "more")
    '::error title=a%3A b%2C c::100%25%0Amore'
    """
    return f"::{level} title={_escaped(title, _PROPERTY)}::{_escaped(message, _DATA)}"


def outputs(report: CheckReport) -> str:
    """Return lines for the file that ``GITHUB_OUTPUT`` names: the verdict, the design, and what it costs."""
    # Where all was skipped, nothing passed.
    exit_words = {0: "skip" if report.of("skip") and not report.of("pass") else "pass", 1: "fail"}
    found = {"verdict": exit_words.get(report.exit_code, "error")}
    if (design := report.design) is not None:
        found |= {
            "design": clean(design.id),
            "latency_us": repr(design.charged.us),
            **regime_latencies(design),
            "params": str(design.params),
        }
        if report.original is not None:
            found |= _speed_ups(design, report.original)
            found["compression"] = _ratio(report.original.params, design.params)
        if design.model is not None:
            folder = report.source if report.source.is_dir() else report.source.parent
            found["model"] = str(folder / design.model)
    return "".join(_assignment(name, value) for name, value in found.items())


def markdown(text: str) -> str:
    """Return `text` for one cell of a table, with nothing in it that Markdown or HTML acts on.

    >>> markdown("a|b <i> `c` 5 us [1..2]")
    'a&#124;b &#60;i&#62; &#96;c&#96; 5 us &#91;1..2&#93;'
    """
    return re.sub(r"[\\`*_{}\[\]<>|~&#$@!]|:(?=//)", lambda found: f"&#{ord(found[0])};", clean(text))


_DATA = {"%": "%25", "\r": "%0D", "\n": "%0A"}
_PROPERTY = {**_DATA, ":": "%3A", ",": "%2C"}


def _escaped(text: str, escapes: Mapping[str, str]) -> str:
    return "".join(escapes.get(character, character) for character in text)


def _assignment(name: str, value: str) -> str:
    """Return ``name=value``, or with a delimiter that the value cannot hold where it has more than one line."""
    if "\n" not in value and "\r" not in value:
        return f"{name}={value}\n"
    delimiter = f"lrfdse_{hashlib.sha256(value.encode('utf-8', 'surrogateescape')).hexdigest()}"
    return f"{name}<<{delimiter}\n{value}\n{delimiter}\n"


def _speed_ups(design: DesignFacts, original: DesignFacts) -> dict[str, str]:
    """Return by what factors the latency fell, warm against warm and cold against cold.

    "speedup" without a regime is the factor in the regime that counts for the design.
    """
    found = {}
    for regime in REGIMES:
        now, before = design.latency.at(regime), original.latency.at(regime)
        if now is not None and before is not None:
            found[f"speedup_{regime}"] = _ratio(before.us, now.us)
    counted = found.get(f"speedup_{design.cache_regime}")
    return found if counted is None else {"speedup": counted, **found}


def _ratio(before: float, after: float) -> str:
    return f"{before / after:.4g}" if after else "inf"


def _mark(verdict: str) -> str:
    words = {str(key): word for key, word in WORDS.items()}
    return words[verdict] if verdict in ("pass", "skip") else f"**{words[verdict]}**"
