"""Results as plain text, for whoever looks at an object instead of a terminal."""

from __future__ import annotations

import io
import shutil
from typing import TYPE_CHECKING

from lrfdse.base.text import clean
from lrfdse.report.page.wording import hidden_text, recommendation, way_on
from lrfdse.report.tables import design_table, funnel_table, layer_table

if TYPE_CHECKING:
    from pathlib import Path

    from rich.table import Table

    from lrfdse.results.document import Document, InspectionDocument
    from lrfdse.results.layers import UntouchedPart

_NARROWEST = 100
"""Columns below which ids would be cut; a narrower terminal wraps lines, as it does for `lrfdse explore`."""
_UNSEEN_WIDTH = 180
"""Columns where there is no terminal."""


def designs_text(document: Document, folder: Path) -> str:
    """Return the table of designs with its last lines: what it leaves out, and the recommended design or why not."""
    lines = [_table_text(design_table(document))]
    if left := hidden_text(document):
        lines.append(left)
    lines += ["", recommendation(document, folder)]
    if document.is_refused:
        lines.append(way_on(document, folder))
    return _cleaned("\n".join(lines))


def layers_text(document: InspectionDocument) -> str:
    """Return the tables of layers and of their designs, and what is left untouched."""
    lines = [_table_text(layer_table(document.layers, detailed=True)), "", _table_text(funnel_table(document.layers))]
    if document.untouched:
        lines += ["", "Left untouched", *map(untouched_text, document.untouched)]
    return _cleaned("\n".join(lines))


def untouched_text(part: UntouchedPart) -> str:
    """Return the line of a part of the model that is left as it is."""
    return f"  {part.name} ({part.op}, {part.params:,} params): {part.reason}"


def _table_text(table: Table) -> str:
    from rich.console import Console

    width = max(_NARROWEST, shutil.get_terminal_size((_UNSEEN_WIDTH, 0)).columns)
    shown = io.StringIO()
    Console(
        file=shown, width=width, color_system=None, markup=False, emoji=False, highlight=False, force_jupyter=False
    ).print(table)
    return "\n".join(line.rstrip() for line in shown.getvalue().split("\n")).rstrip("\n")


def _cleaned(text: str) -> str:
    return "\n".join(clean(line) for line in text.split("\n"))
