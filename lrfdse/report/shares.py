"""The whole model in words: what can be compressed of it, the bound that follows, and what would help the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lrfdse.base.text import clean, counted
from lrfdse.report.fold import folded, names_text
from lrfdse.report.numbers import count_text, kib_text, latency_text, rounded_text
from lrfdse.results.document import Document
from lrfdse.results.shares import shares_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lrfdse.results.document import InspectionDocument
    from lrfdse.results.layers import UntouchedPart
    from lrfdse.results.shares import Share, Shares

_NEARLY_ALL = 0.95
"""Share from which on the rest bounds nothing worth saying: 20 times faster or smaller. Chosen, not measured."""

_HELP = (
    ("quantized", "explore the float model instead, and take the int8 files that come out"),
    ("the model's input", "store the weight in the model, as an initializer that is no input"),
    ("inside the subgraph", "export it without control flow, loops unrolled"),
    ("inside the function", "inline functions: onnx.inliner.inline_local_functions"),
    ("a convolution", "onnxruntime's quantizer stores its weights as int8"),
    ("an embedding", "onnxruntime's quantizer stores its table as int8"),
    ("a recurrent layer", "onnxruntime's dynamic quantizer stores its weights as int8"),
    ("an operator of", "export the model without a runtime's own operators"),
)
"""What would help a part that is left as it is, by words of the reason."""


def shares_lines(document: Document | InspectionDocument) -> list[str]:
    """Return sentences on the whole model, the share that can be compressed, and the bound; none where unknown."""
    found = _shares(document)
    if found is None:
        return []
    whole = [f"{kib_text(int(found.weight_bytes.whole))} KiB of weights"]
    whole += [] if found.macs is None else [f"{count_text(int(found.macs.whole))} MACs"]
    kind = document.original.whole_model.kind if isinstance(document, Document) else None
    if found.warm_us is not None and kind is not None:
        whole.append(f"{latency_text(found.warm_us.whole, kind)} us ({kind}, warm)")
    parts = [f"{_percent(found.weight_bytes)} of the bytes"]
    parts += [] if found.macs is None else [f"{_percent(found.macs)} of the MACs"]
    parts += [] if found.warm_us is None else [f"{_percent(found.warm_us)} of the time"]
    can = f"{counted(found.layers, 'layer')} can be compressed, with {_listed(parts)}"
    bound = _bound(found) or "the rest is too small to bound anything"
    return [f"Whole model: {_listed(whole)}.", f"{can}: {bound}."]


def bound_text(document: Document) -> str:
    """Return what any compression of the layers can gain of the whole model; empty where that is not known.

    Such as "at most 1.06x faster, 38% fewer bytes". Empty also where the rest is too small to bound anything.
    """
    found = _shares(document)
    return "" if found is None else _bound(found)


def rest_lines(document: Document | InspectionDocument) -> list[str]:
    """Return what is left untouched: a line for parts of one operator and reason, with their shares and what helps."""
    found = _shares(document)
    return [f"  {clean(each)}" for each in _rest(document.untouched, found)]


def help_text(reason: str) -> str:
    """Return what would help a part that is left as it is for that reason; empty where nothing is known to.

    >>> help_text("quantized")
    'explore the float model instead, and take the int8 files that come out'
    """
    return next((advice for words, advice in _HELP if words in reason), "")


def _rest(parts: Sequence[UntouchedPart], found: Shares | None) -> list[str]:
    lines = []
    for group in folded(parts, lambda part: (part.op, part.reason)):
        first, sizes = group[0], [part.weight_bytes for part in group]
        facts = [first.op, counted(sum(part.params for part in group), "param")]
        if found is not None and found.weight_bytes.whole:
            facts.append(f"{sum(size or 0 for size in sizes) / found.weight_bytes.whole:.1%} of the bytes")
        macs = [part.macs for part in group]
        if found is not None and found.macs is not None and found.macs.whole and None not in macs and any(macs):
            facts.append(f"{sum(count or 0 for count in macs) / found.macs.whole:.1%} of the MACs")
        advice = help_text(first.reason)
        names = names_text([part.name for part in group])
        lines.append(f"{names} ({', '.join(facts)}): {first.reason}{f'; {advice}' if advice else ''}")
    return lines


def _shares(document: Document | InspectionDocument) -> Shares | None:
    # What was only inspected has no designs, so nothing that was compiled.
    whole = document.original.whole_model if isinstance(document, Document) else None
    return shares_of(document.layers, document.untouched, document.macs, whole)


def _bound(found: Shares) -> str:
    """Return the bound in words; empty where bytes and time are nearly all the layers'."""
    parts = []
    speed, what = (found.macs, "fewer MACs") if found.warm_us is None else (found.warm_us, "faster")
    if speed is not None and speed.fraction < _NEARLY_ALL and speed.most_times is not None:
        parts.append(f"{rounded_text(speed.most_times, 3)}x {what}")
    if found.weight_bytes.fraction < _NEARLY_ALL:
        parts.append(f"{_percent(found.weight_bytes)} fewer bytes")
    return f"at most {', '.join(parts)}" if parts else ""


def _percent(share: Share) -> str:
    text = f"{100 * share.fraction:.0f}%"
    return text if text != "100%" or share.part == share.whole else f"{100 * share.fraction:.1f}%"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
