"""What the page shows of each layer, as plain values that its template only lays out."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from lrfdse.ir.latency import REGIMES
from lrfdse.report.bounds import bound_text, moved_text
from lrfdse.report.bracket import bracket_text
from lrfdse.report.numbers import count_text, kib_text, latency_text
from lrfdse.report.shares import help_text

if TYPE_CHECKING:
    from lrfdse.ir.latency import Latency
    from lrfdse.results.document import Document
    from lrfdse.results.layers import Choice, LayerFacts, Option


def layer_row(layer: LayerFacts, document: Document) -> dict[str, Any]:
    """Return what the page says of a layer, and of each choice for it that was measured."""
    design = document.best
    macs = [each.macs for each in document.layers]
    whitened = layer.spectra.whitened
    chosen = None if design is None else design.plan[layer.name]
    used = Counter(design.plan[layer.name] for design in document.every_design() if design.on_front)
    return {
        "name": layer.name,
        "inputs": layer.inputs,
        "outputs": layer.outputs,
        "uses": layer.uses,
        "rows": layer.rows,
        "params": layer.params,
        "share": layer.share,
        "macs": layer.macs,
        "mac_share": layer.macs / max(sum(macs), 1),
        "rank": layer.effective_rank,
        "whitened": None if whitened is None else whitened.effective_rank,
        "side": min(layer.inputs, layer.outputs),
        "chosen": "" if chosen is None else str(chosen),
        "kept_dense": layer.kept_dense,
        "bounds": [moved_text(layer, chosen, regime) for regime in REGIMES],
        "options": [] if layer.kept_dense else _options(layer, document, chosen, used),
    }


def _options(
    layer: LayerFacts, document: Document, chosen: Choice | None, used: Counter[Choice]
) -> list[dict[str, Any]]:
    """Return the choices that were measured, the one with the least error first."""
    rows = [_option(option, document, chosen, used) for option in layer.options]
    blind = any(row["output_error"] is None for row in rows)
    return sorted(rows, key=lambda row: (row["weight_error" if blind else "output_error"], row["params"]))


def _option(option: Option, document: Document, chosen: Choice | None, used: Counter[Choice]) -> dict[str, Any]:
    return {
        "text": str(option.choice),
        "recommended": option.choice == chosen,
        "params": option.params,
        "flops": option.flops,
        "warm": _latency(option.latency.warm, document),
        "cold": _latency(option.latency.cold, document),
        "bounds": [bound_text(option.bounds.at(regime)) for regime in REGIMES],
        "weight_error": option.weight_error,
        "output_error": option.output_error,
        "peak": option.peak_activation_bytes,
        "deviation": option.kernel_error,
        "used": used[option.choice],
    }


def _latency(latency: Latency | None, document: Document) -> tuple[float, str, str]:
    """Return what a cell sorts by, and the texts of the latency and of its bracket."""
    if latency is None:
        return -1.0, "", ""
    return latency.us, latency_text(latency.us, document.meter.kind), bracket_text(latency, document)


def funnel_rows(document: Document) -> tuple[list[dict[str, Any]], list[str]]:
    """Return how many designs of each layer every filter left, and the names of the filters."""
    found = [(layer.name, layer.funnel) for layer in document.layers if layer.funnel.stages]
    stages = list(dict.fromkeys(stage.stage for _, funnel in found for stage in funnel.stages))
    rows = []
    for name, funnel in found:
        counts = {stage.stage: count_text(stage.designs) for stage in funnel.stages}
        gap = f"{funnel.gap:.2%}" if funnel.gap else "exact"
        rows.append({"name": name, "counts": [counts.get(stage, "") for stage in stages], "gap": gap})
    return rows, stages


def untouched_rows(document: Document) -> list[dict[str, Any]]:
    """Return the parts that are left as they are: what they hold of the whole model, why, and what would help."""
    sizes = [part.weight_bytes for part in document.untouched]
    whole = sum(layer.weight_bytes for layer in document.layers) + sum(size or 0 for size in sizes)
    rows = []
    for part in document.untouched:
        size, macs = part.weight_bytes, part.macs
        rows.append(
            {
                "name": part.name,
                "op": part.op,
                "kib": "" if size is None else kib_text(size),
                "share": "" if size is None or None in sizes else f"{100 * size / max(whole, 1):.1f}",
                "mac_share": "" if macs is None or not document.macs else f"{100 * macs / document.macs:.1f}",
                "reason": part.reason,
                "help": help_text(part.reason),
            }
        )
    return rows
