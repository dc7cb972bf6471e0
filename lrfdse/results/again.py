"""A finished exploration under other limits: what would be recommended of the designs that were evaluated."""

from __future__ import annotations

import dataclasses

from lrfdse.ir.choice import is_plain
from lrfdse.results.asked import Limits
from lrfdse.results.choice import (
    Candidate,
    Field,
    field_of,
    front_of,
    is_within,
    joint_loss,
    recommended_of,
    shared_losses,
)
from lrfdse.results.designs import DesignFacts
from lrfdse.results.document import Document


def candidate_of(design: DesignFacts, document: Document, limits: Limits | None = None) -> Candidate:
    """Return what the choice looks at in a design, by the limits of the document or by others."""
    limits = document.settings.limits if limits is None else limits
    kept = min(design.others.values(), default=1.0)
    own = document.original.eval_value - design.eval_value
    score = design.eval_score
    error = None if score is None else score.loss_standard_error
    return Candidate(
        id=design.id,
        params=design.params,
        bytes=design.weight_bytes,
        latency=design.charged,
        worth=design.eval_value,
        loss=joint_loss(own, 1.0 - kept, limits.max_drop, limits.max_other_drop),
        standard_error=error or 0.0,
        is_original=design.id == document.original.id,
        kept=kept,
        others=shared_losses(design.others, design.others_error, limits.max_drop, limits.max_other_drop),
        rest_us=None if document.latency.rest is None else document.latency.rest.us,
    )


def keeps_limits(design: DesignFacts, document: Document) -> bool:
    """Return whether a design satisfies the limits; of a loss that nobody measured, nothing is asked."""
    limits = document.settings.limits
    if not document.verified:
        limits = dataclasses.replace(limits, max_drop=None)
    return is_within(candidate_of(design, document), limits)


def under_limits(document: Document, limits: Limits) -> Document:
    """Return the document of the same designs under other limits, with the design to recommend then.

    What belongs to the earlier choice alone goes with it: its kernels and its sensitivity. SVD at equal size is the one
    that scores best of the designs of SVD that were evaluated and have no more bytes.
    """
    settings = dataclasses.replace(document.settings, limits=limits)
    other = dataclasses.replace(document, settings=settings)
    if not (document.verified or settings.accept_unverified):
        return other
    best = recommended_of(_front(document, limits), limits, document.resolution)
    identity = None if best is None else best.id
    if identity == document.recommended:
        return other
    plain = None if identity is None else _plain(document, identity)
    return dataclasses.replace(other, recommended=identity, svd_at_equal_size=plain, kernels=(), sensitivity=())


def with_design(document: Document, design: DesignFacts) -> Document:
    """Return the document with other facts of one of its designs, and the front that follows; what was recommended is.

    The lists are those of an exploration: the front, uniform SVD and SVD at equal size, and apart from them the rest.
    """
    every = [design if each.id == design.id else each for each in document.every_design()]
    front = {each.id for each in front_of([candidate_of(d, document) for d in every], document.resolution)}
    marked = [dataclasses.replace(each, on_front=each.id in front) for each in every]
    marked.sort(key=lambda d: (d.charged.us, d.weight_bytes, d.id))
    own = {each.id for each in (*document.designs, *document.dominated)}
    listed = {d.id for d in marked if d.on_front or d.origin == "uniform-svd" or d.id == document.svd_at_equal_size}
    return dataclasses.replace(
        document,
        original=next(each for each in marked if each.id == document.original.id),
        designs=tuple(each for each in marked if each.id in listed & own),
        dominated=tuple(each for each in marked if each.id in own - listed and each.id != document.original.id),
    )


def field_of_document(document: Document) -> Field | None:
    """Return among which designs the recommended one was chosen; None where none is within the limits."""
    return field_of(_front(document, document.settings.limits), document.settings.limits, document.resolution)


def _front(document: Document, limits: Limits) -> list[Candidate]:
    every = document.every_design()
    return [candidate_of(d, document, limits) for d in every if d.on_front or d.id == document.original.id]


def _plain(document: Document, identity: str) -> str | None:
    """Return the id of the best SVD design at no more bytes than the design of that id, or None."""
    most = next(design.weight_bytes for design in document.every_design() if design.id == identity)
    svd = [
        design
        for design in document.every_design()
        if design.weight_bytes <= most
        and design.id not in (identity, document.original.id)
        and all(is_plain(choice.factorization) for choice in design.plan.values())
    ]
    return max(svd, key=lambda d: (d.eval_value, -d.charged.us, d.id)).id if svd else None
