"""What the page shows, as plain values that its template only lays out."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from lrfdse.report.document import (
    ROLES,
    WORST_SHOWN,
    WORTH_SHOWING,
    board_us,
    chosen_score,
    every_design,
    factorized,
    is_verified,
    is_worth_showing,
    least_drawn,
    loss_error,
    recommended_of,
    reported_interval,
    reported_score,
    role_of,
    shown_name,
    shown_value,
    title_of,
)
from lrfdse.report.numbers import count_text, points_text, times_text, us_text
from lrfdse.report.page.figures import COLOURS, MOST_LAYERS
from lrfdse.report.page.usage import usage_of
from lrfdse.report.page.wording import board_text, latency_text, loss_text, regime_text, sentence_of

if TYPE_CHECKING:
    from lrfdse.report.document import DesignEntry, Document

_MARKS = dict(zip(ROLES, "★■◆▲●○", strict=True))
_OPTIONS_SHOWN = 120
"""Rows up to which the tables of options stand open."""


def content_of(document: Document) -> dict[str, Any]:
    """Return every value that the template names."""
    rows = [_row(design, document) for design in every_design(document)]
    layers = [_layer(layer, document) for layer in document["layers"]]
    funnels, stages = _funnels(document)
    made = document["settings"]
    content = {
        "title": title_of(document),
        "target": document["target"],
        "version": document["versions"].get("lrfdse", "?"),
        "core": made["core"],
        "clock": f"{made['clock_mhz']:g}",
        "kind": document["latency"]["kind"],
        "metric": shown_name(document),
        "change": "points" if is_verified(document) else "loss",
        "judged_on": "the data that choose" if is_verified(document) else "random inputs",
        "has_test": document["baseline"]["accuracy"] is not None,
        "sentence": sentence_of(document),
        "loss": loss_text(document),
        "facts": _facts(document),
        "notes": document["notes"],
        "use": usage_of(document),
        "listed": [row for row in rows if row["shown"]],
        "weak": [row for row in rows if not row["shown"] and row["role"] != "dominated"],
        "dominated": [row for row in rows if row["role"] == "dominated"],
        "has_board": any(row["board"] is not None for row in rows),
        "weakness": _weakness(document),
        "legend": [(role, _MARKS[role], COLOURS[role]) for role in ROLES if role in {row["role"] for row in rows}],
        "counts": _counts(document),
        "score_source": _score_source(document),
        "score_bars": _score_bars(document),
        "layers": layers,
        "has_spectra": any((layer.get("spectra") or {}).get("weight") for layer in document["layers"]),
        "has_whitened": any(layer["whitened"] is not None for layer in layers),
        "spectra_left": _left_out(len(layers), "layers with the most parameters"),
        "funnels": funnels,
        "funnels_left": _left_out(len({tuple(f["counts"]) for f in funnels}), "largest"),
        "stages": stages,
        "options_open": sum(len(layer["options"]) for layer in layers) <= _OPTIONS_SHOWN,
        "untouched": document["untouched"],
        "failures": [(x["name"], text, why) for x in document["layers"] for text, why in x["failures"].items()],
        "latency_text": latency_text(document),
        "latency_facts": _latency_facts(document),
        "provenance": list(made["provenance"].items()),
        "command": document.get("command"),
        "facts_again": _facts_again(document),
    }
    return {**content, "sections": _sections(content)}


def _sections(content: dict[str, Any]) -> list[tuple[str, str]]:
    use = [("use", "Use it")] if content["use"] else []
    found = [("tradeoff", "Trade-off"), ("designs", "Designs"), *use, ("layers", "Layers"), ("funnel", "Funnel")]
    return [*found, ("latency", "Latency"), ("again", "Make it again")]


def _facts(document: Document) -> list[dict[str, Any]]:
    """Return the four numbers that a reader wants first."""
    design, base = recommended_of(document), document["baseline"]
    if design is None:
        return []
    bracket = f"{us_text(design['latency_low_us'])} to {us_text(design['latency_high_us'])} µs"
    score, before = reported_score(design), reported_score(base)
    kind = document["latency"]["kind"]
    facts = [
        ("Parameters", f"{design['params']:,}", "", [_of(base, design, "params", "fewer", f"{base['params']:,}")]),
        (
            f"Latency, {kind}",
            us_text(design["latency_us"]),
            "µs",
            [_of(base, design, "latency_us", "lower", f"{us_text(base['latency_us'])} µs"), f"bracket {bracket}"],
        ),
        ("FLOPs", f"{design['flops']:,}", "", [_of(base, design, "flops", "fewer", f"{base['flops']:,}")]),
    ]
    if is_verified(document):
        lines = [f"{_with_error(score - before, loss_error(design))} points from {before:.2%}", *_source_of(design)]
        facts.append((document["metric"].capitalize(), f"{100 * score:.2f}", "%", lines))
    else:
        error = shown_value(design, document)
        text, unit = ("unknown", "") if error is None else (f"{100 * error:.2f}", "%")
        facts.append(("Output error", text, unit, ["on random inputs", "the loss was not measured"]))
    return [{"name": name, "value": value, "unit": unit, "lines": lines} for name, value, unit, lines in facts]


def _of(base: DesignEntry, design: DesignEntry, key: str, less: str, text: str) -> str:
    if base[key] == design[key]:
        return "as the original"
    ratio = times_text(base[key], design[key]).replace("x", "×")
    return f"{ratio} {less} than {text}" if design[key] < base[key] else f"{ratio} of what was {text}"


def _source_of(design: DesignEntry) -> list[str]:
    lines = ["on the data that chose" if design["accuracy"] is None else "on test data, which chose nothing"]
    if (bounds := reported_interval(design)) is not None:
        lines.append(f"95 % interval {100 * bounds[0]:.1f} to {100 * bounds[1]:.1f} %")
    return lines


def _row(design: DesignEntry, document: Document) -> dict[str, Any]:
    base, role = document["baseline"], role_of(design, document)
    original = design["id"] == base["id"]
    error, change = loss_error(design), chosen_score(design) - chosen_score(base)
    points = "" if original else _with_error(reported_score(design) - reported_score(base), error)
    if not (verified := is_verified(document)):
        points = "" if original else "not measured"
    shown = shown_value(design, document)
    return {
        "id": design["id"],
        "role": role,
        "shown": role in ROLES[:3] or (role != "dominated" and is_worth_showing(design, document)),
        "mark": _MARKS[role],
        "params": design["params"],
        "params_ratio": base["params"] / design["params"],
        "params_times": times_text(base["params"], design["params"]).replace("x", "×"),
        "flops": design["flops"],
        "latency": design["latency_us"],
        "us": us_text(design["latency_us"]),
        "low": us_text(design["latency_low_us"]),
        "high": us_text(design["latency_high_us"]),
        "latency_ratio": base["latency_us"] / design["latency_us"],
        "latency_times": times_text(base["latency_us"], design["latency_us"]).replace("x", "×"),
        "board": _board(design, base),
        "score": -1 if shown is None else shown,
        "score_text": "unknown" if shown is None else f"{100 * shown:.2f}",
        "change": reported_score(design) - reported_score(base) if verified else 0,
        "points": points,
        "chosen_change": change,
        "chosen_points": "" if original else _with_error(change, design["loss_standard_error"]),
        "plan": list(factorized(design).items()),
    }


def _board(design: DesignEntry, base: DesignEntry) -> dict[str, Any] | None:
    """Return what a board took for all layers, or None where it was not asked."""
    if (found := board_us(design)) is None:
        return None
    us, low, high = found
    original = board_us(base)
    ratio = None if original is None else original[0] / us
    times = "" if original is None else times_text(original[0], us).replace("x", "×")
    return {"us": us, "text": us_text(us), "spread": f"{us_text(low)}..{us_text(high)}", "ratio": ratio, "times": times}


def _with_error(change: float, error: float | None) -> str:
    return points_text(change) + ("" if error is None else f" ± {100 * error:.2f}")


def _weakness(document: Document) -> str:
    """Return what the designs have in common that are folded away."""
    if is_verified(document):
        return f"lose over {100 * max(WORTH_SHOWING, document['settings']['max_drop']):g} points"
    return f"have an output error over {WORST_SHOWN:.0%}"


def _tested(document: Document) -> bool:
    return document["baseline"]["accuracy"] is not None


def _counts(document: Document) -> str:
    every = every_design(document)
    front = sum(bool(design["on_front"]) for design in every)
    evaluated = document.get("evaluated", len(every))
    data, third = ("the data", "score") if is_verified(document) else ("random inputs", "output error")
    return f"{evaluated} designs were run on {data}; {front} are on the front of parameters, latency and {third}."


def _score_source(document: Document) -> str:
    if not is_verified(document):
        return "Losses are not measured. The output error is relative to what the original gives for the same inputs."
    metric = document["metric"]
    errors = "Differences from the original are in points, ± one standard error."
    if _tested(document):
        return f"The {metric} is of the test data, which chose nothing. {errors}"
    return f"The {metric} is of the data that choose. {errors}"


def _score_bars(document: Document) -> str:
    if not is_verified(document):
        return "On random inputs."
    text = "On test data." if _tested(document) else "On the data that choose."
    if any(loss_error(design) is not None for design in every_design(document)):
        text += " Vertical bars are one standard error of the loss."
    if (least := least_drawn(document)) is not None:
        below = sum(reported_score(design) < least for design in every_design(document))
        text += f" {below} designs below {least:.0%} are out of view: double-click, or see the tables."
    return text


def _layer(layer: Any, document: Document) -> dict[str, Any]:
    design = recommended_of(document)
    macs = [
        x["options"][0]["flops"] // 2 if x["options"] else x["in"] * x["out"] * x["rows"] for x in document["layers"]
    ]
    mine = layer["in"] * layer["out"] * layer["rows"]
    whitened = (layer.get("spectra") or {}).get("whitened")
    chosen = "" if design is None else design["plan"].get(layer["name"], "dense")
    used = Counter(d["plan"].get(layer["name"], "dense") for d in every_design(document) if d["on_front"])
    return {
        "name": layer["name"],
        "inputs": layer["in"],
        "outputs": layer["out"],
        "uses": layer["uses"],
        "rows": layer["rows"],
        "params": layer["params"],
        "share": layer["share"],
        "macs": mine,
        "mac_share": mine / max(sum(macs), 1),
        "rank": layer["effective_rank"],
        "whitened": None if whitened is None else whitened["effective_rank"],
        "side": min(layer["in"], layer["out"]),
        "chosen": chosen,
        "kept_dense": layer["kept_dense"],
        "options": [] if layer["kept_dense"] else [_option(x, chosen, used) for x in layer["options"]],
    }


def _option(option: Any, chosen: str, used: Counter[str]) -> dict[str, Any]:
    return {
        "text": option["factorization"],
        "recommended": option["factorization"] == chosen,
        "params": option["params"],
        "flops": option["flops"],
        "warm": _latency(option["warm_us"]),
        "cold": _latency(option["cold_us"]),
        "weight_error": option["weight_error"],
        "output_error": option["output_error"],
        "peak": option["peak_activation_bytes"],
        "deviation": option["kernel_error"],
        "used": used[option["factorization"]],
    }


def _latency(values: list[float]) -> tuple[float, str, str]:
    middle, low, high = values
    return middle, us_text(middle), f"{us_text(low)}..{us_text(high)}"


def _funnels(document: Document) -> tuple[list[dict[str, Any]], list[str]]:
    found = [(layer["name"], layer["funnel"]) for layer in document["layers"] if layer["funnel"]["stages"]]
    stages = list(dict.fromkeys(stage["stage"] for _, funnel in found for stage in funnel["stages"]))
    rows = []
    for name, funnel in found:
        counts = {stage["stage"]: count_text(stage["designs"]) for stage in funnel["stages"]}
        gap = f"{funnel['gap']:.2%}" if funnel["gap"] else "exact"
        rows.append({"name": name, "counts": [counts.get(stage, "") for stage in stages], "gap": gap})
    return rows, stages


def _left_out(count: int, which: str) -> str:
    return f" The {MOST_LAYERS} {which} of {count} are drawn." if count > MOST_LAYERS else ""


def _latency_facts(document: Document) -> list[tuple[str, str]]:
    made, latency = document["settings"], document["latency"]
    facts = [
        ("kind", latency["kind"]),
        ("meter", document["meter"]),
        ("core", made["core"]),
        ("clock", f"{made['clock_mhz']:g} MHz"),
        ("covers", latency["covers"]),
        ("bracket", latency.get("bracket", "")),
        ("cache regime", regime_text(document)),
        ("on the board", board_text(document)),
        ("check", "every kernel's output was compared with a float64 reference before its latency counted"),
    ]
    return [(name, text) for name, text in facts if text]


def _facts_again(document: Document) -> list[tuple[str, str]]:
    made = document["settings"]
    digests = [("model", document["model"]["sha256"]), *document.get("data_sha256", {}).items()]
    versions = ", ".join(f"{name} {version}" for name, version in document["versions"].items())
    facts = [("seed", made["seed"]), ("plans evaluated at most", made["budget"]), ("method", made["method"])]
    facts += [("search space", made["space"]), ("versions", versions)]
    return [*facts, *((f"SHA-256 of {name}", digest) for name, digest in digests if digest)]
