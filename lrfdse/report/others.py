"""What designs keep of the outputs that count beside the judged one, in words and numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lrfdse.results.designs import DesignFacts
    from lrfdse.results.document import Document

_HEADS = {"agreement": "agreement", "R2": "R²", "cosine": "cosine"}
"""Measures of agreement with the original, as people write them."""


def has_others(document: Document) -> bool:
    """Return whether outputs count beside the judged one."""
    return any(design.others for design in document.every_design())


def least_kept_text(design: DesignFacts, document: Document) -> str:
    """Return what the worst of the other outputs keeps of the original's, in percent; empty where none is known.

    The original keeps all by definition, and has no number.
    """
    if not design.others or design.id == document.original.id:
        return ""
    return f"{100 * min(design.others.values()):.2f}"


def others_listed(design: DesignFacts, document: Document) -> list[str]:
    """Return what each of the other outputs keeps of the original's, the worst first: "mask 98.00% (agreement)".

    Names are as the model has them: the caller makes them safe for where they are shown.
    """
    measures = {each.name: _HEADS[each.measure] for each in document.outputs}
    listed = sorted(design.others.items(), key=lambda item: (item[1], item[0]))
    return [f"{name} {value:.2%} ({measures.get(name, 'agreement')})" for name, value in listed]


def others_text(design: DesignFacts, document: Document) -> str:
    """Return `others_listed` as one text, with commas between."""
    return ", ".join(others_listed(design, document))
