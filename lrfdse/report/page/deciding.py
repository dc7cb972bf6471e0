"""The figures by which a design is chosen: score against latency near the limit, and where time and bytes lie."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from lrfdse.ir.latency import REGIMES
from lrfdse.report.fold import folded, names_text
from lrfdse.report.page.figures import (
    COLOURS,
    LINE,
    MARKER_SIZES,
    MARKS,
    MOST_LAYERS,
    SYMBOLS,
    cycled,
    percent,
    styled,
)
from lrfdse.report.page.hover import hover_text, short
from lrfdse.results.roles import ROLES, WORST_SHOWN, is_worth_showing, role_of

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from lrfdse.results.designs import DesignFacts
    from lrfdse.results.document import Document
    from lrfdse.results.layers import LayerFacts

_DEEP = 3.0
"""How many times the allowed loss the figure reaches below the original. Chosen by eye: what is near it fills it."""

_LEAST_DEEP = 0.01
"""Loss (fraction) that the figure shows at least. Chosen, not measured: with a limit of 0, neighbours are seen."""

_BARS = 16
"""Bars of a figure of layers. Chosen, not measured: more have no room for their names."""


def deciding_figure(document: Document) -> go.Figure:
    """Return the score on the data that chose against latency, near the limit.

    Each design stands at the latency that counts; a thin line leads to the one in the other cache regime. Vertical bars
    are 95 % intervals of the loss, the dashed line is the limit, and the steps lead along the designs that no faster
    one matches. Where losses are not measured, output errors take the place of scores, and there is no limit.
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    _add_limit(figure, document)
    _add_steps(figure, document)
    for role in reversed(ROLES):
        listed = [
            d for d in document.every_design() if role_of(d, document) == role and _height(d, document) is not None
        ]
        if not listed:
            continue
        _add_spans(figure, listed, document, role)
        marker: dict[str, Any] = {"symbol": SYMBOLS[role], "size": MARKER_SIZES[role] + 2, "color": COLOURS[role]}
        marker["line"] = {"width": 1.2, "color": COLOURS[role] if role == "dominated" else "rgba(255,255,255,0.85)"}
        figure.add_scatter(
            x=[design.charged.us for design in listed],
            y=[_height(design, document) for design in listed],
            error_y=None if role == "dominated" else _intervals(listed, document),
            mode="markers",
            name=role,
            marker=marker,
            hoverinfo="text",
            hovertext=[hover_text(design, document) for design in listed],
            legendrank=ROLES.index(role),
        )
    name = html.escape(document.metric if document.verified else "output error")
    styled(
        figure,
        f"{name.capitalize()} against latency",
        x=f"latency, {document.meter.kind} (µs)",
        y=f"{name} (%)",
    )
    figure.update_xaxes(type="log", dtick="D2", tickformat=",~r")
    if (ends := _ends(document)) is not None:
        figure.update_yaxes(range=list(ends))
    return figure


def layers_figure(document: Document, what: str) -> go.Figure:
    """Return what each layer takes in the original and in the recommended design: `what` is "bytes" or "latency"."""
    import plotly.graph_objects as go

    best = document.best
    regime = document.original.cache_regime if best is None else best.cache_regime
    figure = go.Figure()
    groups = folded(document.layers, lambda x: (x.sizes_text, x.rows, None if best is None else best.plan[x.name]))
    groups = sorted(groups, key=lambda group: -sum(layer.params for layer in group))[:_BARS][::-1]
    names = [html.escape(names_text([layer.name for layer in group], 28), quote=False) for group in groups]
    plans = [("original", document.original), *([] if best is None else [("recommended", best)])]
    for role, design in reversed(plans):
        values = [_taken(group, design, what, regime) for group in groups]
        figure.add_bar(
            x=values,
            y=names,
            orientation="h",
            name=role,
            marker={"color": COLOURS[role]},
            legendrank=ROLES.index(role),
            hoverinfo="text",
            hovertext=[
                f"{name}<br>{role}: {'unknown' if value is None else f'{value:,.3g}'}"
                for name, value in zip(names, values, strict=True)
            ],
        )
    title = "KiB of weights" if what == "bytes" else f"{regime} latency, {document.meter.kind} (µs)"
    styled(figure, f"By layer: {title}", x=title, y="")
    figure.update_layout(barmode="group", bargap=0.3)
    figure.update_yaxes(showgrid=False)
    return figure


def options_figure(document: Document) -> go.Figure:
    """Return error against warm latency of every choice that was measured, for the largest layers."""
    import plotly.graph_objects as go

    figure, best = go.Figure(), document.best
    explored = [layer for layer in document.layers if layer.options and not layer.kept_dense]
    for index, layer in enumerate(sorted(explored, key=lambda layer: -layer.params)[:MOST_LAYERS]):
        known = [
            option for option in layer.options if option.latency.warm is not None and not option.choice.is_original
        ]
        errors = [option.weight_error if option.output_error is None else option.output_error for option in known]
        chosen = None if best is None else best.plan[layer.name]
        name = short(layer.name)
        figure.add_scatter(
            x=[option.latency.warm.us for option in known if option.latency.warm is not None],
            y=[percent(error) for error in errors],
            mode="markers",
            name=name,
            marker={
                "symbol": ["star" if option.choice == chosen else MARKS[index] for option in known],
                "size": [15 if option.choice == chosen else 8 for option in known],
                "color": cycled(index),
            },
            hoverinfo="text",
            hovertext=[
                f"{name} = {html.escape(str(option.choice))}<br>error {error:.1%}, {option.params:,} parameters"
                for option, error in zip(known, errors, strict=True)
            ],
        )
    what = (
        "output" if any(option.output_error is not None for layer in explored for option in layer.options) else "weight"
    )
    styled(
        figure, "Choices by layer", x=f"warm latency, {document.meter.kind} (µs)", y=f"error of the layer's {what} (%)"
    )
    figure.update_xaxes(type="log", dtick="D2", tickformat=",~r")
    return figure


def _height(design: DesignFacts, document: Document) -> float | None:
    if document.verified:
        return percent(design.eval_value)
    return None if design.output_error is None else percent(design.output_error)


def _ends(document: Document) -> tuple[float, float] | None:
    """Return the ends of the vertical axis: what is near the limit; of errors, those that somebody could want."""
    if not document.verified:
        known = [d.output_error for d in document.every_design() if d.output_error is not None]
        return (0.0, percent(WORST_SHOWN)) if any(error > WORST_SHOWN for error in known) else None
    base, drop = document.original.eval_value, document.settings.limits.max_drop or 0.0
    values = [design.eval_value + (design.eval_margin or 0.0) for design in document.every_design()]
    low = base - max(_DEEP * drop, _LEAST_DEEP)
    edge = 0.05 * (max(values) - low)
    return percent(low - edge), percent(max(values) + edge)


def _add_limit(figure: go.Figure, document: Document) -> None:
    drop = document.settings.limits.max_drop
    if document.verified and drop is not None:
        figure.add_hline(
            y=percent(document.original.eval_value - drop), line={"dash": "dash", "width": 1.5, "color": LINE}
        )


def _add_steps(figure: go.Figure, document: Document) -> None:
    """Add the steps along the designs that no faster one matches in score, as far as they are worth showing."""
    found: list[tuple[float, float]] = []
    listed = [d for d in document.every_design() if is_worth_showing(d, document) and _height(d, document) is not None]
    sign = 1 if document.verified else -1
    for design in sorted(listed, key=lambda d: (d.charged.us, -sign * (_height(d, document) or 0.0))):
        height = _height(design, document) or 0.0
        if not found or sign * height > sign * found[-1][1]:
            found.append((design.charged.us, height))
    if len(found) > 1:
        figure.add_scatter(
            x=[us for us, _ in found],
            y=[height for _, height in found],
            mode="lines",
            line={"shape": "hv", "width": 3, "color": LINE},
            opacity=0.4,
            hoverinfo="skip",
            showlegend=False,
        )


def _add_spans(figure: go.Figure, designs: list[DesignFacts], document: Document, role: str) -> None:
    """Add for each design a line from its warm to its cold latency, with a tick where it does not count."""
    if role == "dominated":
        return
    xs: list[float | None] = []
    ys: list[float | None] = []
    for design in designs:
        ends = [found.us for regime in REGIMES if (found := design.latency.at(regime)) is not None]
        if len(ends) == len(REGIMES):
            xs += [*ends, None]
            ys += [_height(design, document)] * 2 + [None]
    figure.add_scatter(
        x=xs,
        y=ys,
        mode="lines+markers",
        line={"width": 1.2, "color": COLOURS[role]},
        marker={"symbol": "line-ns-open", "size": 8, "color": COLOURS[role]},
        opacity=0.6,
        hoverinfo="skip",
        showlegend=False,
    )


def _intervals(designs: list[DesignFacts], document: Document) -> dict[str, Any] | None:
    if not document.verified or all(design.eval_margin is None for design in designs):
        return None
    margins = [percent(design.eval_margin or 0.0) for design in designs]
    return {"type": "data", "array": margins, "thickness": 1, "width": 0, "color": LINE}


def _taken(group: list[LayerFacts], design: DesignFacts, what: str, regime: Any) -> float | None:
    """Return the KiB or microseconds that layers take in a design; None where they are not known of all."""
    total = 0.0
    for layer in group:
        option = layer.option(design.plan[layer.name])
        if what == "bytes":
            total += (layer.weight_bytes if option is None else option.weight_bytes) / 1024
            continue
        found = None if option is None else option.latency.at(regime)
        if found is None:
            return None
        total += found.us
    return total
