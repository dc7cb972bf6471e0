"""What whole models cost, in words: with everything around the compressed layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lrfdse.report.numbers import kib_text, latency_text, times_text

if TYPE_CHECKING:
    from lrfdse.results.designs import DesignFacts, RuntimeFacts, WholeModel
    from lrfdse.results.document import Document


def whole_text(document: Document, design: DesignFacts) -> str:
    """Return the warm latency of a design's whole model after the original's; empty where one of them is not known.

    Where operators can be told apart, it ends with how many of the original's compute layers that the design
    compresses, and their share of its latency: no compression of these gains more than that.
    """
    original, found = document.original.whole_model, design.whole_model
    before, now = original.latency.warm, found.latency.warm
    if before is None or now is None or found.kind is None:
        return ""
    numbers = f"{latency_text(before.us, found.kind)} -> {latency_text(now.us, found.kind)} us"
    text = f"{numbers} ({times_text(before.us, now.us) or '1.0x'}, {found.kind})"
    share = original.share_of(design.changed())
    if share is None:
        return text
    return f"{text}, {share[0]} of {len(original.operators)} operators took {share[1]:.0%} of it"


def estimate_text(document: Document) -> str:
    """Return what the latencies of whole models are that were not taken of a library; empty where there are none."""
    rest, kind = document.latency.rest, document.meter.kind
    if rest is None:
        return ""
    return (
        f"~ estimated whole model, warm: the kernels and {latency_text(rest.us, kind)} us that all else takes in the "
        "original"
    )


def whole_facts(document: Document) -> list[tuple[str, str]]:
    """Return what the page says of whole models: latency, memory, and what the number means; nothing without one."""
    rows = []
    named = (
        ("original", document.original),
        ("recommended", document.best),
        ("SVD at equal size", document.design(document.svd_at_equal_size or "")),
    )
    for role, design in named:
        if design is None or (role != "original" and design.id == document.original.id):
            continue
        if text := _cost_text(design.whole_model):
            rows.append((f"whole model, {role}", text))
        rows += [
            (f"whole model, {role}, in {each.runtime}", _runtime_text(each)) for each in design.whole_model.runtimes
        ]
    best = document.best
    if best is not None and (text := whole_text(document, best)):
        layers = ": those of the layers that are compressed" if text.endswith(" of it") else ""
        rows.append(("whole model, before and after", f"{text}{layers}"))
    return rows


def _runtime_text(facts: RuntimeFacts) -> str:
    """Return what a runtime took for a model's file, whose number that is, and where."""
    threads = "1 thread" if facts.threads == 1 else f"{facts.threads} threads"
    whose = f"{facts.package} {facts.version}".strip()
    took = latency_text(facts.latency.us, "measured")
    return f"{took} us (measured, {whose}, {threads}, {facts.where}: {facts.machine})"


def _cost_text(cost: WholeModel) -> str:
    """Return what one whole model takes; empty where that is not known."""
    parts = []
    for regime in ("warm", "cold"):
        latency = cost.latency.at(regime)
        if latency is not None and cost.kind is not None:
            parts.append(f"{regime} {latency_text(latency.us, cost.kind)} us")
    if not parts:
        return ""
    parts[-1] += f" ({cost.kind})"
    if cost.board is not None and (took := cost.board.latency.warm) is not None:
        parts.append(f"{latency_text(took.us, 'measured')} us on the board")
    sizes = (("code", cost.code_bytes), ("weights", cost.weight_bytes), ("arena", cost.arena_bytes))
    parts += [f"{kib_text(size)} KiB of {name}" for name, size in sizes if size is not None]
    return ", ".join(parts)
