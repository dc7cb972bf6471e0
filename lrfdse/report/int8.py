"""Designs as int8, beside their float versions and what onnxruntime's quantizer makes of the original."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from lrfdse.base.grid import Column, fitted
from lrfdse.report.numbers import kib_text, times_text
from lrfdse.results.designs import Int8Facts
from lrfdse.results.roles import ranked, role_of

if TYPE_CHECKING:
    from rich.text import Text

    from lrfdse.results.document import Document


class Int8Row(NamedTuple):
    """A line of the table, as text; empty where nobody measured it."""

    design: str
    role: str
    float_kib: str
    """KiB of the float version's file."""
    int8_kib: str
    times: str
    """By what factor the int8 file is smaller than the original's float file."""
    float_score: str
    """Score of the float version, in percent."""
    int8_score: str
    change: str
    """Int8 score less that of the original in floating point, in points, with half its 95 % interval."""


def int8_rows(document: Document) -> list[Int8Row]:
    """Return a line for each design that was made int8, slower ones first; empty where none was.

    The baseline of onnxruntime's quantizer comes first, behind the original.
    """
    original = document.original
    rows = [
        _row(design.id, role_of(design, document), design.int8, design.reported_score, document)
        for design in ranked(document.every_design(), document)
        if design.int8 is not None and design.id != original.id
    ]
    if document.int8_baseline is not None:
        rows.insert(0, _row("onnxruntime", "static int8", document.int8_baseline, original.reported_score, document))
    if original.int8 is not None:
        rows.insert(0, _row(original.id, "original", original.int8, original.reported_score, document))
    return rows


def int8_table(document: Document, width: int) -> list[Text]:
    """Return the table for a terminal; empty where nothing was made int8."""
    rows = int8_rows(document)
    if not rows:
        return []
    columns = [
        Column("design", [row.design for row in rows], left=True),
        Column(
            "", [{"SVD at equal size": "equal-size SVD"}.get(row.role, row.role) for row in rows], left=True, drop=1
        ),
        Column("KiB float", [row.float_kib for row in rows]),
        Column("KiB int8", [row.int8_kib for row in rows], more=[row.times for row in rows], drop_more=2),
    ]
    if any(row.int8_score for row in rows):
        columns += [
            Column(f"{document.metric} %", [row.float_score for row in rows]),
            Column("int8 %", [row.int8_score for row in rows]),
            Column("change ±\u00a095\u00a0%", [row.change for row in rows]),
        ]
    styles = ["bold green" if row.design == document.recommended else "" for row in rows]
    return fitted(columns, width, "Int8: the same files with int8 weights", styles)


def _row(design: str, role: str, facts: Int8Facts, before: float, document: Document) -> Int8Row:
    original, score = document.original, facts.reported
    whole = facts.float_bytes if original.int8 is None else original.int8.float_bytes
    sizes = kib_text(facts.float_bytes), kib_text(facts.int8_bytes), times_text(whole, facts.int8_bytes)
    if score is None:
        return Int8Row(design, role, *sizes, "", "", "")
    margin = f" ±{100 * score.margin:.2f}" if score.margin else ""
    change = f"{100 * (score.value - original.reported_score):+.2f}{margin}"
    return Int8Row(design, role, *sizes, f"{100 * before:.2f}", f"{100 * score.value:.2f}", change)
