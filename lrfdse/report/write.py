"""Every file that an exploration leaves for readers, made from its document."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from lrfdse.base.events import Listener, silent
from lrfdse.base.files import write_atomically
from lrfdse.results.write import document_of, write_document

if TYPE_CHECKING:
    from lrfdse.results.document import Document
    from lrfdse.results.exploration import Exploration


def write_reports(exploration: Exploration, tell: Listener = silent) -> None:
    """Write ``front.csv``, ``report.html`` and ``front.json`` to the output folder, each by atomic rename.

    Then dress the study for optuna-dashboard, where that is installed; `tell` hears of it where that fails.
    """
    from lrfdse.report.dashboard import dress_study
    from lrfdse.report.page.html import report_html

    document = document_of(exploration)
    folder, study = exploration.settings.output, exploration.study
    write_atomically(folder / "front.csv", front_csv(document))
    write_atomically(folder / "report.html", report_html(document))
    write_document(document, folder)
    dress_study(study.url, study.name, document, folder / "designs", study.artifacts, study.shared, tell)


def front_csv(document: Document) -> str:
    """Return the listed designs as CSV: costs, scores, and a column a layer with what became of it."""
    text = io.StringIO()
    layers = [layer.name for layer in document.layers]
    columns = ["id", "params", "weight_bytes", "flops", "latency_us", "latency_low_us", "latency_high_us", "warm_us"]
    columns += ["cold_us", "accuracy", "eval_accuracy", "fidelity", "output_error", "origin", "on_front"]
    # A table that travels alone cannot say that scores are of random inputs.
    hidden = not document.verified
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*columns, *layers])
    for design in document.designs:
        charged, warm, cold = design.charged, design.latency.warm, design.latency.cold
        tested, chosen = design.test_score, design.eval_score
        writer.writerow(
            [
                *(design.id, design.params, design.weight_bytes, design.flops),
                *(charged.us, charged.low_us, charged.high_us),
                *(None if latency is None else latency.us for latency in (warm, cold)),
                None if tested is None else tested.value,
                None if chosen is None or hidden or document.metric == "fidelity" else chosen.value,
                None if hidden else design.fidelity,
                *(design.output_error, design.origin, design.on_front),
                *(str(design.plan[name]) for name in layers),
            ]
        )
    return text.getvalue()
