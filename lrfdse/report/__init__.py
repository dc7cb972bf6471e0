"""The finished exploration as files, tables, figures and a page."""

from lrfdse.report.card import design_card
from lrfdse.report.figures import funnel_figure, pareto_figure, score_figure, spectra_figure
from lrfdse.report.html import report_html, write_again
from lrfdse.report.tables import design_table, funnel_table, layer_table
from lrfdse.report.wording import hidden_text, recommendation, way_on
from lrfdse.report.write import write_reports

__all__ = [
    "design_card",
    "design_table",
    "funnel_figure",
    "funnel_table",
    "hidden_text",
    "layer_table",
    "pareto_figure",
    "recommendation",
    "report_html",
    "score_figure",
    "spectra_figure",
    "way_on",
    "write_again",
    "write_reports",
]
