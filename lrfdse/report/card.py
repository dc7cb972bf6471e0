"""A Markdown card of one design: what it costs, what it scores, what each layer became."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lrfdse.report.document import (
    chosen_score,
    is_verified,
    loss_error,
    reported_interval,
    reported_score,
    role_of,
    shown_value,
)
from lrfdse.report.markdown import code, plain
from lrfdse.report.numbers import points_text, times_text, us_text

if TYPE_CHECKING:
    from lrfdse.report.document import DesignEntry, Document


def design_card(document: Document, design: DesignEntry) -> str:
    """Return a card in GitHub's Markdown.

    Parameters
    ----------
    document
        The content of ``front.json``.
    design
        One of its designs: an entry of "designs" or "dominated", or "baseline".
    """
    made, kind = document["settings"], document["latency"]["kind"]
    regime = {"warm": "weights in the last-level cache", "cold": "weights from DRAM"}[design["cache_regime"]]
    # A measured number does not depend on the clock that the target's file names.
    machine = made["core"] if kind == "measured" else f"{made['core']}, {made['clock_mhz']:g} MHz"
    lines = [
        f"### {code(design['id'])} {role_of(design, document)}",
        "",
        "| | this design | original | change |",
        "|---|--:|--:|--:|",
        *(f"| {' | '.join(row)} |" for row in _costs(document, design)),
        "",
        f"Latency is **{kind}** ({plain(machine)}; {regime}). It covers the fully-connected layers alone. "
        f"In the bracket, {plain(document['latency'].get('bracket', 'low and high are its bounds'))}.",
        "",
        "| layer | factorization | parameters | FLOPs | latency (µs) | weight error | output error |",
        "|---|---|--:|--:|--:|--:|--:|",
        *(f"| {' | '.join(_layer(layer, design))} |" for layer in document["layers"]),
        "",
        f"Proposed by {plain(design['origin'])}."
        + (
            f" Model: {code(design['model'])}." if design["model"] else f" `lrfdse export DIR {design['id']}` makes it."
        ),
    ]
    return "\n".join(lines) + "\n"


def _costs(document: Document, design: DesignEntry) -> list[tuple[str, str, str, str]]:
    base, metric = document["baseline"], plain(document["metric"])
    tested = design["accuracy"] is not None
    where = "on test data" if tested else "on the data that choose"
    rows = [
        ("parameters", f"{design['params']:,}", f"{base['params']:,}", _factor(base, design, "params")),
        ("FLOPs", f"{design['flops']:,}", f"{base['flops']:,}", _factor(base, design, "flops")),
        (
            f"latency (µs), {document['latency']['kind']}",
            _bracket(design),
            _bracket(base),
            _factor(base, design, "latency_us"),
        ),
    ]
    if not is_verified(document):
        errors = ((shown_value(each, document)) for each in (design, base))
        texts = ("unknown" if error is None else f"{100 * error:.2f}" for error in errors)
        return [*rows, ("output error (%), on random inputs", *texts, "loss not measured")]  # type: ignore[list-item]
    change = _change(reported_score(design) - reported_score(base), loss_error(design))
    rows.append((f"{metric} (%), {where}", _score(design), _score(base), change))
    if tested:
        change = _change(chosen_score(design) - chosen_score(base), design["loss_standard_error"])
        scores = (f"{100 * chosen_score(each):.2f}" for each in (design, base))
        rows.append((f"{metric} (%), on the data that choose", *scores, change))  # type: ignore[arg-type]
    return rows


def _layer(layer: Any, design: DesignEntry) -> tuple[str, ...]:
    text = design["plan"].get(layer["name"], "dense")
    option = next((option for option in layer["options"] if option["factorization"] == text), None)
    if option is None:
        return (code(layer["name"]), code(text), "", "", "", "", "")
    output = option["output_error"]
    return (
        code(layer["name"]),
        code(text),
        f"{option['params']:,}",
        f"{option['flops']:,}",
        us_text(option[f"{design['cache_regime']}_us"][0]),
        f"{option['weight_error']:.1%}",
        "" if output is None else f"{output:.1%}",
    )


def _factor(base: DesignEntry, design: DesignEntry, key: str) -> str:
    text = times_text(base[key], design[key]).replace("x", "×")
    return f"{text} less" if text else "same"


def _bracket(design: DesignEntry) -> str:
    return (
        f"{us_text(design['latency_us'])} [{us_text(design['latency_low_us'])}..{us_text(design['latency_high_us'])}]"
    )


def _score(design: DesignEntry) -> str:
    bounds = reported_interval(design)
    interval = "" if bounds is None else f" [{100 * bounds[0]:.1f}..{100 * bounds[1]:.1f}]"
    return f"{100 * reported_score(design):.2f}{interval}"


def _change(change: float, error: float | None) -> str:
    return f"{points_text(change)}{'' if error is None else f' ± {100 * error:.2f}'} points"
