"""What a design is to the reader, and which designs are worth a reader's time: one rule for every table and figure."""

from __future__ import annotations

import math
from collections.abc import Iterable

from lrfdse.ir.latency import are_tied
from lrfdse.ir.plan import DENSE_STORED
from lrfdse.results.designs import DesignFacts
from lrfdse.results.document import Document

WORTH_SHOWING = 0.1
"""Loss (fraction) beyond which a design is left to the files, unless the user allows more. Chosen, not measured: nobody
deploys a model that lost ten points."""

WORST_SHOWN = 0.5
"""Relative output error beyond which a design is left to the files where losses are not measured. Chosen, not measured:
the difference from the original then has a quarter of the outputs' energy."""

ROLES = (
    "recommended",
    "original",
    "SVD at equal size",
    *DENSE_STORED.values(),
    "uniform SVD",
    "front",
    "dominated",
)
"""What a design is to the reader, the most telling first."""


def role_of(design: DesignFacts, document: Document) -> str:
    """Return the first of `ROLES` that holds."""
    if design.id == document.recommended:
        return "recommended"
    if design.id == document.original.id:
        return "original"
    if design.id == document.svd_at_equal_size:
        return "SVD at equal size"
    if design.origin in DENSE_STORED:
        return DENSE_STORED[design.origin]
    if design.origin == "uniform-svd":
        return "uniform SVD"
    return "front" if design.on_front else "dominated"


def worth_showing(document: Document) -> float:
    """Return the loss, a fraction, beyond which a design of the front is left to the files."""
    return max(WORTH_SHOWING, document.settings.limits.max_drop or 0.0)


def is_worth_showing(design: DesignFacts, document: Document) -> bool:
    """Return whether the design loses no more than anybody could want, on the evaluation data.

    Where losses are not measured, output errors tell.
    """
    if document.verified:
        return design.eval_value >= document.original.eval_value - worth_showing(document)
    return design.output_error is None or design.output_error <= WORST_SHOWN


def shown_name(document: Document) -> str:
    """Return what reports tell designs apart by: the metric, or where losses are not measured the output error."""
    return document.metric if document.verified else "output error"


def shown_value(design: DesignFacts, document: Document) -> float | None:
    """Return the value of `shown_name`, a fraction; None where the output error is not known."""
    return design.reported_score if document.verified else design.output_error


def least_drawn(document: Document) -> float | None:
    """Return the score at which plots begin, where designs that nobody could want would squeeze the rest together."""
    if not document.verified:
        return None
    least = _best(document) - 2 * worth_showing(document)
    return least if any(design.reported_score < least for design in document.every_design()) else None


def drawn_range(document: Document) -> tuple[float, float] | None:
    """Return the ends of the scores that plots show; None where that is all of them. Errors are drawn up to 1."""
    if not document.verified:
        beyond = any((design.output_error or 0.0) > 1 for design in document.every_design())
        return (0.0, 1.0) if beyond else None
    return None if (least := least_drawn(document)) is None else (least, _best(document))


def _best(document: Document) -> float:
    return max(design.reported_score for design in document.every_design())


def shown(document: Document) -> list[DesignFacts]:
    """Return the designs of a short table, slowest first.

    These are the original, the front as far as it loses no more than anybody could want, all layers dense in int8 where
    that was a choice, and SVD in no more bytes than the recommended design: the best of the knapsack's, and the nearest
    uniform one.
    """
    original, best, every = document.original, document.best, document.every_design()
    listed = {original.id} | {design.id for design in every if design.origin in DENSE_STORED}
    listed |= {design.id for design in every if design.on_front and is_worth_showing(design, document)}
    if best is not None:
        uniform = [
            design for design in every if design.origin == "uniform-svd" and design.weight_bytes <= best.weight_bytes
        ]
        listed |= {best.id, max(uniform, key=lambda design: design.weight_bytes, default=original).id}
    if document.svd_at_equal_size is not None:
        listed.add(document.svd_at_equal_size)
    chosen = [design for design in every if design.id in listed]
    return sorted(chosen, key=lambda design: (-design.charged.us, design.id))


def ranked(designs: Iterable[DesignFacts], document: Document) -> list[DesignFacts]:
    """Return designs slowest first; of latencies that tie with the slowest of a group, the better design stands first.

    Better is a higher score or, where losses are not measured, a lower output error; then fewer bytes.
    """
    left = sorted(designs, key=lambda design: (-design.charged.us, design.id))
    found: list[DesignFacts] = []
    while left:
        level = [each for each in left if are_tied(each.charged, left[0].charged, document.resolution)]
        found += sorted(level, key=lambda design: (_badness(design, document), design.weight_bytes, design.id))
        left = [each for each in left if each not in level]
    return found


def _badness(design: DesignFacts, document: Document) -> float:
    if document.verified:
        return -design.eval_value
    return math.inf if design.output_error is None else design.output_error


def hidden(document: Document) -> int:
    """Return how many designs of the front `shown` leaves out."""
    front = {design.id for design in document.every_design() if design.on_front}
    return len(front - {design.id for design in shown(document)})
