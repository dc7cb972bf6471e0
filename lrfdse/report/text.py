"""Results as plain text, for whoever looks at an object instead of a terminal."""

from __future__ import annotations

import shutil
import textwrap
from typing import TYPE_CHECKING

from lrfdse.base.text import clean
from lrfdse.report.answer import UNBROKEN, answer_of
from lrfdse.report.healed import healed_table
from lrfdse.report.int8 import int8_table
from lrfdse.report.layer_tables import funnel_table, kept_dense_lines, layer_table
from lrfdse.report.page.wording import hidden_text, regime_text, tie_text
from lrfdse.report.shares import rest_lines, shares_lines
from lrfdse.report.tables import ESTIMATED, design_table, marks_text
from lrfdse.report.whole import estimate_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.text import Text

    from lrfdse.report.answer import Answer
    from lrfdse.results.document import Document, InspectionDocument

_UNSEEN_WIDTH = 100
"""Columns where there is no terminal. Chosen, not measured: what an issue or a notebook shows without scrolling."""


def designs_text(document: Document, folder: Path) -> str:
    """Return the table of designs with its last lines: what it leaves out, and the recommended design or why not."""
    width = _width()
    designs = _plain(design_table(document, width))
    lines = [*designs, *legend_lines(document, designs), ""]
    for table in (healed_table(document, width), int8_table(document, width)):
        if table:
            lines += [*_plain(table), ""]
    answer = answer_of(document, folder)
    return _cleaned("\n".join([*lines, answer.title, *answer_lines(answer, width)]))


def legend_lines(document: Document, table: Sequence[str]) -> list[str]:
    """Return what stands below the table of designs: marks, what it leaves out, when latencies tie, what counts.

    Parameters
    ----------
    document
        What the table is of.
    table
        Its lines, whose columns depend on the width: an estimate is explained where one is shown.
    """
    found = [marks_text(document), hidden_text(document), tie_text(document)]
    found.append(estimate_text(document) if any(ESTIMATED in line for line in table) else "")
    found.append(f"{regime_text(document)}.")
    return [f"{line[0].upper()}{line[1:]}" for line in found if line]


def answer_lines(answer: Answer, width: int) -> list[str]:
    """Return the lines of an answer: labels in a column, texts wrapped unless they hold a path or a command."""
    indent = max(len(label) for label, _ in answer.lines) + 2
    lines = []
    for label, text in answer.lines:
        whole = label in UNBROKEN or len(text) <= width - indent
        parts = [text] if whole else textwrap.wrap(text, max(20, width - indent))
        lines += [f"{label if place == 0 else '':{indent}}{part}" for place, part in enumerate(parts)]
    return lines


def layers_text(document: InspectionDocument) -> str:
    """Return the tables of layers and of their designs, and what is left untouched."""
    width = _width()
    lines = _plain(layer_table(document.layers, width, detailed=True))
    lines += [*kept_dense_lines(document.layers), "", *_plain(funnel_table(document.layers, width))]
    if document.untouched:
        lines += ["", "Left untouched", *rest_lines(document)]
    if sentences := shares_lines(document):
        lines += ["", *sentences]
    return _cleaned("\n".join(lines))


def _plain(lines: Sequence[Text]) -> list[str]:
    return [line.plain for line in lines]


def _width() -> int:
    return shutil.get_terminal_size((_UNSEEN_WIDTH, 0)).columns


def _cleaned(text: str) -> str:
    return "\n".join(clean(line) for line in text.split("\n"))
