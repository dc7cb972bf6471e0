"""What whole models took in runtimes that users deploy with, for tables and the answer: never a modelled latency."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lrfdse.base.grid import Column
from lrfdse.report.numbers import latency_text, times_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lrfdse.ir.latency import Latency
    from lrfdse.results.designs import DesignFacts
    from lrfdse.results.document import Document

Ran = tuple[str, str]
"""A runtime and where it ran, as `RuntimeFacts` names them."""

_NAMES = {"litert": "LiteRT", "onnxruntime": "onnxruntime"}


def ran_in(document: Document) -> list[Ran]:
    """Return the runtimes, and where they ran, of which there are numbers: each once, in the document's order."""
    found = [each for design in document.every_design() for each in design.whole_model.runtimes]
    return list(dict.fromkeys((each.runtime, each.where) for each in found))


def ran_text(ran: Ran) -> str:
    """Return whose latency it is.

    >>> ran_text(("litert", "this machine"))
    'LiteRT on this machine'
    """
    return f"{_NAMES[ran[0]]} on {'the board' if ran[1] == 'board' else ran[1]}"


def took(design: DesignFacts, ran: Ran) -> Latency | None:
    """Return what a runtime took for a design's whole model; None where it was not asked."""
    kept = (each.latency for each in design.whole_model.runtimes if (each.runtime, each.where) == ran)
    return next(kept, None)


def runtime_columns(designs: Sequence[DesignFacts], document: Document) -> list[Column]:
    """Return a column for each runtime, with the factors to the original's in the same one."""
    columns = []
    for ran in ran_in(document):
        before, found = took(document.original, ran), [took(design, ran) for design in designs]
        times = [
            "" if us is None or before is None or design.id == document.original.id else times_text(before.us, us.us)
            for design, us in zip(designs, found, strict=True)
        ]
        texts = ["" if us is None else latency_text(us.us, "measured") for us in found]
        columns.append(Column(f"{ran_text(ran)} us", texts, more=times, drop_more=2))
    return columns


def runtime_lines(document: Document, best: DesignFacts) -> list[tuple[str, str]]:
    """Return what the recommended design's whole model took in each runtime, and the original's, for the answer."""
    found = []
    for ran in ran_in(document):
        now, before = took(best, ran), took(document.original, ran)
        if now is not None and before is not None:
            numbers = f"{latency_text(now.us, 'measured')} us instead of {latency_text(before.us, 'measured')} us"
            factor = times_text(before.us, now.us) or "the same"
            found.append(("Runtime", f"{ran_text(ran)}: {numbers} ({factor}; the whole model, measured)"))
    return found
