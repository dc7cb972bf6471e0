"""Designs whose factors were trained: what they scored before, and what they score now."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from lrfdse.base.grid import Column, fitted
from lrfdse.results.roles import ranked, role_of

if TYPE_CHECKING:
    from rich.text import Text

    from lrfdse.results.designs import DesignFacts, Healed
    from lrfdse.results.document import Document


class HealedRow(NamedTuple):
    """A line of the table, as text."""

    design: str
    role: str
    teacher: str
    """What training went by."""
    samples: str
    """Samples that trained."""
    eval_before: str
    """Score on the evaluation data before, in percent."""
    eval_now: str
    test_before: str
    """Score on the test data before, in percent; empty without such data."""
    test_now: str


def healed_rows(document: Document) -> list[HealedRow]:
    """Return a line for each design that was healed, slower ones first; empty where none was."""
    every = ranked(document.every_design(), document)
    return [_row(design, design.healed, document) for design in every if design.healed is not None]


def healed_table(document: Document, width: int) -> list[Text]:
    """Return the table for a terminal; empty where nothing was healed."""
    rows = healed_rows(document)
    if not rows:
        return []
    columns = [
        Column("design", [row.design for row in rows], left=True),
        Column("", [row.role for row in rows], left=True, drop=1),
        Column("trained by", [row.teacher for row in rows], left=True, drop=3),
        Column("samples", [row.samples for row in rows], drop=2),
        Column("eval % before", [row.eval_before for row in rows]),
        Column("healed", [row.eval_now for row in rows]),
    ]
    if any(row.test_now for row in rows):
        columns += [
            Column("test % before", [row.test_before for row in rows]),
            Column("healed", [row.test_now for row in rows]),
        ]
    styles = ["bold green" if row.design == document.recommended else "" for row in rows]
    return fitted(columns, width, f"Healed: {document.metric} of factors trained on data", styles)


def _row(design: DesignFacts, healed: Healed, document: Document) -> HealedRow:
    now, before = design.test_score, healed.test_before
    return HealedRow(
        design=design.id,
        role=role_of(design, document),
        teacher={"both": "outputs and labels"}.get(healed.teacher, healed.teacher),
        samples=f"{healed.samples:,}",
        eval_before=f"{100 * healed.eval_before.value:.2f}",
        eval_now=f"{100 * design.eval_value:.2f}",
        test_before="" if before is None else f"{100 * before.value:.2f}",
        test_now="" if now is None else f"{100 * now.value:.2f}",
    )
