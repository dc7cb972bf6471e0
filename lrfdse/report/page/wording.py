"""What reports say in sentences."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from lrfdse.base.text import counted
from lrfdse.board.result import board_line
from lrfdse.ir.latency import REGIMES
from lrfdse.report.numbers import kib_text, rounded_text, times_text, us_text
from lrfdse.results.again import field_of_document
from lrfdse.results.choice import MARGINS
from lrfdse.results.layers import nouns_text
from lrfdse.results.roles import WORST_SHOWN, hidden, worth_showing

if TYPE_CHECKING:
    from pathlib import Path

    from lrfdse.results.designs import DesignFacts
    from lrfdse.results.document import Document

_MARGIN_TEXTS = dict(zip(MARGINS, (" with 95 % confidence", " by a standard error", ""), strict=True))
"""What is said of designs that are within the limits by a margin."""


def limits_text(document: Document) -> str:
    """Return the limits in words: a loss of at most 1 point on the evaluation data and at most 60,000 parameters."""
    limits, parts = document.settings.limits, []
    if limits.max_drop is not None:
        data = "the evaluation data" if document.verified else "random inputs"
        parts.append(f"a loss of at most {_points(limits.max_drop)} of {document.metric} on {data}")
    if limits.max_other_drop is not None:
        parts.append(f"of at most {_points(limits.max_other_drop)} of every other output")
    if limits.max_params is not None:
        parts.append(f"at most {limits.max_params:,} parameters")
    if limits.max_size is not None:
        parts.append(f"at most {limits.max_size:,} bytes of weights")
    if limits.max_latency_us is not None:
        parts.append(f"a latency of at most {us_text(limits.max_latency_us)} µs")
    if limits.max_model_latency_us is not None:
        parts.append(f"a latency of the whole model of at most {us_text(limits.max_model_latency_us)} µs")
    if not parts:
        return "none"
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def sentence_of(document: Document) -> str:
    """Return the result in a sentence: which design, what it gains and by which limits; or why there is none."""
    design, original, limits = document.best, document.original, limits_text(document)
    if document.is_refused:
        return "No design is recommended, because nothing says what one loses: there was no evaluation data."
    if design is None:
        return f"No design satisfies the limits: {limits}."
    if design.id == original.id:
        return f"No compressed design satisfies the limits ({limits}): keep the original model."
    return (
        f"Recommended: {design.id}, {kib_text(design.weight_bytes)} KiB of weights instead of "
        f"{kib_text(original.weight_bytes)}; {document.meter.kind} latency of the C kernels of the "
        f"{nouns_text(layer.kind for layer in document.layers)} {speed_text(document, design)}; chosen for {limits}."
        + ("" if document.verified else " Nobody verified it: random inputs chose it.")
    )


def why_text(document: Document) -> str:
    """Return why the recommended design and no other: "the least bytes x latency of 9 designs"; "" where unknown.

    Of a document whose designs were chosen by another rule, as an earlier version did, nothing is said.
    """
    field = field_of_document(document) if document.verified else None
    compressed = [] if field is None else [each for each in field.competing if not each.is_original]
    if field is None or document.recommended not in {each.id for each in field.tied} or not compressed:
        return ""
    within = f"within the limits{_MARGIN_TEXTS[field.margin]}"
    if len(compressed) == 1:
        return f"the only compressed design {within}"
    text = f"the least bytes x latency of {counted(len(compressed), 'design')} {within}"
    others = len(field.tied) - 1
    if not others:
        return text
    tie = "1 other ties with it and scores" if others == 1 else f"{others} others tie with it and score"
    return f"{text}; {tie} no higher"


def speed_text(document: Document, design: DesignFacts) -> str:
    """Return by what factors the latency fell, warm against warm and cold against cold: "23x lower warm, 5.7x cold"."""
    parts = []
    for regime in REGIMES:
        before, now = document.original.latency.at(regime), design.latency.at(regime)
        if before is not None and now is not None:
            parts.append((before.us, now.us, regime))
    if not parts:
        return "unknown in the cache regime of the original"
    words = ["lower " if now <= before else "higher " for before, now, _ in parts]
    if len(set(words)) == 1:
        words[1:] = [""] * len(words[1:])
    return ", ".join(
        f"{times_text(max(before, now), min(before, now)) or '1.0x'} {word}{regime}"
        for (before, now, regime), word in zip(parts, words, strict=True)
    )


def hardware_text(document: Document, with_source: bool = True) -> str:
    """Return how far latencies are from hardware: what was compared, by which source if asked, or nothing."""
    meter, target = document.meter, document.target
    if meter.kind == "measured":
        return "measured on this machine"
    if (error := meter.hardware_error) is None:
        return "not checked against hardware"
    text = (
        f"nine in ten published measurements of {target.core or 'this core'} took {rounded_text(error.low, 2)} to "
        f"{rounded_text(error.high, 2)} times as long as modelled"
    )
    return f"{text} ({error.source})" if with_source else text


def bracket_meaning(document: Document) -> str:
    """Return what the ends of a bracket are, as a clause."""
    if document.meter.hardware_error is not None:
        return "nine in ten boards' numbers lie between the ends: the model's own error on this core"
    return document.meter.bracket or "low and high are its bounds"


def tie_text(document: Document) -> str:
    """Return when latencies count as equal."""
    if document.resolution is None:
        return "Latencies whose quartiles overlap are a tie: they stand together, the better scores first."
    return (
        f"Latencies within {100 * document.resolution:.0f} % of each other are a tie: they stand together, the better "
        "scores first."
    )


def recommendation(document: Document) -> str:
    """Return `sentence_of` the document, and where nothing may be recommended what would change that."""
    sentence = sentence_of(document)
    if not document.is_refused:
        return sentence
    return (
        f"{sentence} Give --eval DATA.npz (inputs with labels, or real inputs alone), or --accept-unverified to have "
        "one chosen on random inputs."
    )


def way_on(document: Document, folder: Path) -> str:
    """Return what can be done with an exploration that recommends nothing for want of evaluation data."""
    export = f"`lrfdse export {shlex.quote(str(folder))} ID` makes any design of front.json"
    kept = sorted(design.id for design in document.every_design() if design.model)
    if not kept:
        return f"No files of designs were kept (--keep 0): {export}."
    return (
        f"To go on: try the {counted(len(kept), 'design')} of the trade-off in {folder}/designs ({', '.join(kept)}), "
        f"or run the same command with --eval: what was compiled is used again; {export}."
    )


def weak_text(document: Document, count: int, of: str = "") -> str:
    """Return what is said of that many designs that are left to the files: how they fall short.

    Parameters
    ----------
    document
        The document of an exploration.
    count
        How many designs these are.
    of
        Where they are from, to stand behind the count, such as " of the front".
    """
    if document.verified:
        why = f"lose{'s' if count == 1 else ''} over {counted(100 * worth_showing(document), 'point')}"
    else:
        why = f"{'has' if count == 1 else 'have'} an output error over {WORST_SHOWN:.0%}"
    return f"{counted(count, 'more design')}{of} {why}"


def hidden_text(document: Document) -> str:
    """Return what is said of the designs of the front that the table leaves out; empty where there are none."""
    if not (count := hidden(document)):
        return ""
    return f"{weak_text(document, count, ' of the front')}; front.csv has {'it' if count == 1 else 'them all'}"


def loss_sentences(document: Document) -> str:
    """Return what the recommended design lost, on which data, and how sure that is; empty where there is none."""
    design, original, metric = document.best, document.original, document.metric
    if not document.verified:
        return (
            "Losses are not measured: the output errors are those on random inputs, and real ones may tell otherwise."
        )
    if design is None or design.id == original.id:
        return ""
    change = _change(original.eval_value - design.eval_value, design.eval_margin)
    if design.test_score is None:
        return f"On the evaluation data, which chose it, its {metric} is {design.eval_value:.2%}: it {change}."
    tested = _change(original.reported_score - design.reported_score, design.reported_margin)
    beyond = beyond_limit(document)
    tested += f", {beyond}" if beyond else ""
    return (
        f"On test data, which chose nothing, its {metric} is {design.reported_score:.2%} against "
        f"{original.reported_score:.2%}: it {tested}. On the evaluation data, which chose it, it {change}."
    )


def beyond_limit(document: Document) -> str:
    """Return that the recommended design loses more on test data than it may; empty where it does not."""
    best, limit = document.best, document.settings.limits.max_drop
    if best is None or best.test_score is None or limit is None or not document.verified:
        return ""
    if document.original.reported_score - best.reported_score <= limit + 1e-9:
        return ""
    return "above the limit, unlike on evaluation data"


def latency_sentences(document: Document) -> str:
    """Return how the latencies were obtained."""
    meter = document.meter
    said = "modelled, none is measured" if meter.kind == "modelled" else "measured"
    at = f" at {document.target.clock_mhz:g} MHz" if meter.kind == "modelled" else ""
    # A document of an earlier version does not tell the procedure.
    procedure = meter.procedure or f"by the meter {meter.name}"
    return (
        f"Every latency here is {said}: each kernel was compiled and compared with a reference, and its latency "
        f"{meter.kind}{at} {procedure}. Latency is {document.latency.covers}."
    )


def basics(document: Document) -> list[str]:
    """Return what a reader must know of every number of an exploration, whatever came out of it."""
    meter = document.meter
    return [
        f"latency is {document.latency.covers or 'that of the fully-connected layers'}: of their C kernels, not of "
        "model.onnx in a runtime",
        f"{regime_text(document)}",
        *([] if meter.kind == "measured" else [f"latencies are modelled: {hardware_text(document)}"]),
    ]


def board_text(document: Document) -> str:
    """Return what the board's column is and which board it was; empty without one."""
    boards = [design.board for design in document.every_design() if design.board is not None]
    if not boards:
        return ""
    return (
        "median and quartiles of wall clock over all layers, called one after another: "
        f"{board_line(boards[0].description)}; each layer's times are in front.json and board.json"
    )


def regime_text(document: Document) -> str:
    """Return what warm and cold mean, and in which of the two latencies count on this target."""
    kib = document.target.last_level_kib
    cache = "last-level cache" if kib is None else f"{kib:,} KiB last-level cache"
    counts = {
        "warm": "warm counts, whatever the size: the target says that nothing evicts weights between inferences",
        "cold": "cold counts, whatever the size: the target says that other work evicts weights between inferences",
        "auto": "what counts is warm where all weights of a design fit the cache, else cold",
    }[document.target.resident]
    return (
        f"warm: a layer's weights are still in the {cache} from the inference before; cold: they come from DRAM, as "
        f"after other work; {counts}"
    )


def _change(lost: float, margin: float | None) -> str:
    within = "" if margin is None else f" (± {100 * margin:.2f}, 95 %)"
    if abs(lost) < 5e-5:
        return f"lost nothing{within}"
    return (f"lost {100 * lost:.2f} points" if lost > 0 else f"gained {-100 * lost:.2f} points") + within


def _points(fraction: float) -> str:
    return f"{100 * fraction:g} point{'' if fraction == 0.01 else 's'}"
