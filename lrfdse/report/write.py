"""Every file that an exploration leaves for readers, made from its document."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from lrfdse.base.events import Listener, silent
from lrfdse.base.files import write_atomically
from lrfdse.report.rows import design_row
from lrfdse.results.config import CONFIG, config_of
from lrfdse.results.write import document_of, write_document

if TYPE_CHECKING:
    from pathlib import Path

    from lrfdse.results.document import Document
    from lrfdse.results.exploration import Exploration


def write_reports(exploration: Exploration, progress: Listener = silent) -> None:
    """Write ``front.csv``, ``report.html``, ``explore.toml`` and ``front.json`` to the output folder, each whole.

    Then dress the study for optuna-dashboard, where that is installed; `progress` hears of it where that fails.
    """
    from lrfdse.report.dashboard import dress_study
    from lrfdse.report.page.html import report_html

    document = document_of(exploration)
    folder, study = exploration.settings.output, exploration.study
    write_atomically(folder / "front.csv", front_csv(document))
    write_atomically(folder / "report.html", report_html(document))
    write_atomically(folder / CONFIG, config_of(exploration.settings))
    write_document(document, folder)
    dress_study(study.url, study.name, document, folder / "designs", study.artifacts, study.shared, progress)


def write_again(document: Document, folder: Path) -> None:
    """Write ``front.csv`` and ``report.html`` of an output folder anew, each whole, from its document."""
    from lrfdse.base.files import sole_writer
    from lrfdse.report.page.html import report_html

    with sole_writer(folder):
        write_atomically(folder / "front.csv", front_csv(document))
        write_atomically(folder / "report.html", report_html(document))


def front_csv(document: Document) -> str:
    """Return the listed designs as CSV: costs, scores, and a column a layer with what became of it."""
    text = io.StringIO()
    layers = [layer.name for layer in document.layers]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*design_row(document.original, document), *layers])
    for design in document.designs:
        writer.writerow([*design_row(design, document).values(), *(str(design.plan[name]) for name in layers)])
    return text.getvalue()
