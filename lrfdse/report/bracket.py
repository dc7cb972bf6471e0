"""The ends between which a latency lies, the same in every table, card and figure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lrfdse.report.numbers import latency_text

if TYPE_CHECKING:
    from lrfdse.ir.latency import Latency
    from lrfdse.results.document import Document


def bracket_ends(latency: Latency, document: Document) -> tuple[float, float]:
    """Return the ends, in microseconds: by the model's error on hardware where that is known.

    Otherwise they are the meter's own: of a model its two rules of overlap, of a measurement the quartiles.
    """
    error = document.meter.hardware_error
    if error is None:
        return latency.low_us, latency.high_us
    return latency.us * error.low, latency.us * error.high


def bracket_text(latency: Latency, document: Document) -> str:
    """Return the ends with the digits that the meter can know."""
    return "..".join(latency_text(end, document.meter.kind) for end in bracket_ends(latency, document))
