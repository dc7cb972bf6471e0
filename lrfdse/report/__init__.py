"""The finished exploration as files and as tables."""

from lrfdse.report.front import front_document, inspection_document, write_reports
from lrfdse.report.tables import design_table, funnel_table, hidden, layer_table, recommendation, worth_showing

__all__ = [
    "design_table",
    "front_document",
    "funnel_table",
    "hidden",
    "inspection_document",
    "layer_table",
    "recommendation",
    "worth_showing",
    "write_reports",
]
