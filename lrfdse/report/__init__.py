"""The finished exploration as files, tables, figures and a page."""

from lrfdse.report.card import design_card
from lrfdse.report.document import read_document
from lrfdse.report.figures import funnel_figure, pareto_figure, score_figure, spectra_figure
from lrfdse.report.front import front_document, inspection_document, write_reports
from lrfdse.report.html import report_html, write_again
from lrfdse.report.tables import (
    design_table,
    funnel_table,
    hidden_text,
    is_refused,
    layer_table,
    recommendation,
    way_on,
)

__all__ = [
    "design_card",
    "design_table",
    "front_document",
    "funnel_figure",
    "funnel_table",
    "hidden_text",
    "inspection_document",
    "is_refused",
    "layer_table",
    "pareto_figure",
    "read_document",
    "recommendation",
    "report_html",
    "score_figure",
    "spectra_figure",
    "way_on",
    "write_again",
    "write_reports",
]
