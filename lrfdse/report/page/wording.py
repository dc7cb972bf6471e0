"""What reports say in sentences, from the content of ``front.json``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lrfdse.board.result import board_line
from lrfdse.report.document import chosen_score, every_design, is_verified, loss_error, recommended_of, reported_score
from lrfdse.report.numbers import us_text

if TYPE_CHECKING:
    from lrfdse.report.document import Document


def limits_text(document: Document) -> str:
    """Return the limits in words: a loss of at most 1 point, at most 60,000 parameters."""
    made = document["settings"]
    parts = [f"a loss of at most {_points(made['max_drop'])} of {document['metric']}"]
    if not is_verified(document):
        parts[0] += " on random inputs"
    if made["max_params"] is not None:
        parts.append(f"at most {made['max_params']:,} parameters")
    if made["max_latency_us"] is not None:
        parts.append(f"a latency of at most {us_text(made['max_latency_us'])} µs")
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def sentence_of(document: Document) -> str:
    """Return the result in a sentence: which design, and what it gains."""
    design, base = recommended_of(document), document["baseline"]
    if is_refused(document):
        return "No design is recommended, because nothing says what one loses: there was no evaluation data."
    if design is None:
        return f"No design satisfies the limits: {limits_text(document)}."
    if design["id"] == base["id"]:
        return f"No compressed design satisfies the limits ({limits_text(document)}): keep the original model."
    return (
        f"Design {design['id']} is recommended: {_ratio(base['params'], design['params'], 'fewer', 'more')} parameters "
        f"and {_ratio(base['latency_us'], design['latency_us'], 'lower', 'higher')} {document['latency']['kind']} "
        "latency of the fully-connected layers than the original."
        + ("" if is_verified(document) else " Nobody verified it: it was chosen on random inputs.")
    )


def is_refused(document: Document) -> bool:
    """Return whether no design is recommended because nobody measured what designs lose."""
    return recommended_of(document) is None and not (
        is_verified(document) or document["settings"].get("accept_unverified", False)
    )


def loss_text(document: Document) -> str:
    """Return what the recommended design lost, on which data, and how sure that is; empty where there is none."""
    design, base, metric = recommended_of(document), document["baseline"], document["metric"]
    if not is_verified(document):
        return (
            "Losses are not measured: the output errors are those on random inputs, and real ones may tell otherwise."
        )
    if design is None or design["id"] == base["id"]:
        return ""
    chosen = (
        f"it {_change(chosen_score(base) - chosen_score(design))}{_within(design['loss_standard_error'])}; "
        f"the limit was {limits_text(document)}."
    )
    if design["accuracy"] is None:
        return f"On the data that chose it, its {metric} is {chosen_score(design):.2%}: {chosen}"
    change = _change(reported_score(base) - reported_score(design))
    return (
        f"On test data, which chose nothing, its {metric} is {reported_score(design):.2%} against "
        f"{reported_score(base):.2%}: it {change}{_within(loss_error(design))}. On the data that chose it, {chosen}"
    )


def latency_text(document: Document) -> str:
    """Return how the latencies were obtained."""
    latency, clock = document["latency"], document["settings"]["clock_mhz"]
    modelled = latency["kind"] == "modelled"
    said = "modelled, none is measured" if modelled else "measured"
    # A document of an earlier version does not tell the procedure.
    procedure = latency.get("procedure", f"by the meter {document['meter']}")
    at = f" at {clock:g} MHz" if modelled else ""
    return (
        f"Every latency here is {said}: each kernel was compiled and compared with a reference, and its latency "
        f"{latency['kind']}{at} {procedure}. Latency is {latency['covers']}."
    )


def board_text(document: Document) -> str:
    """Return what the board's column is and which board it was; empty without one."""
    boards = [design["board"] for design in every_design(document) if design.get("board")]
    if not boards:
        return ""
    return (
        "median and quartiles of wall clock over all layers, called one after another: "
        f"{board_line(boards[0]['description'])}; each layer's times are in front.json and board.json"
    )


def regime_text(document: Document) -> str:
    """Return in which cache regime designs are charged."""
    made = document["settings"]
    cache = f"{made['last_level_kib']:,} KiB last-level cache" if "last_level_kib" in made else "last-level cache"
    return (
        f"designs whose weights fit the {cache} are charged warm, from the cache; others cold, from DRAM; "
        f"the original is {document['baseline']['cache_regime']}"
    )


def _change(lost: float) -> str:
    if abs(lost) < 5e-5:
        return "lost nothing"
    return f"lost {100 * lost:.2f} points" if lost > 0 else f"gained {-100 * lost:.2f} points"


def _within(error: float | None) -> str:
    return "" if error is None else f" (standard error {100 * error:.2f})"


def _points(fraction: float) -> str:
    return f"{100 * fraction:g} point{'' if fraction == 0.01 else 's'}"


def _ratio(before: float, after: float, less: str, more: str) -> str:
    """Return a ratio in words.

    >>> _ratio(300, 100, "fewer", "more"), _ratio(100, 200, "fewer", "more")
    ('3.0 times fewer', '2.0 times more')
    """
    if after <= before:
        return f"{before / after:.1f} times {less}"
    return f"{after / before:.1f} times {more}"
