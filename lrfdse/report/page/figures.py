"""Plotly figures of an exploration, each from the document of an exploration alone.

Shapes, not colours alone, tell what a design is. Names come from users and Plotly reads texts as a kind of HTML, so
every name is escaped here.
"""

from __future__ import annotations

import html
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lrfdse.report.bracket import bracket_ends
from lrfdse.report.fold import folded
from lrfdse.report.numbers import count_text
from lrfdse.report.page.hover import hover_text, short
from lrfdse.results.roles import ROLES, drawn_range, role_of, shown_name, shown_value

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from lrfdse.results.designs import DesignFacts
    from lrfdse.results.document import Document
    from lrfdse.results.layers import LayerFacts, Spectrum

SYMBOLS = {
    "recommended": "star",
    "original": "square",
    "SVD at equal size": "diamond",
    "dense int8": "hexagon",
    "dense qdq": "hexagon2",
    "dense fp16": "pentagon",
    "uniform SVD": "triangle-up",
    "front": "circle",
    "dominated": "circle-open",
}
"""Marker of each role."""

COLOURS = {
    "recommended": "#d55e00",
    "original": "#7a828c",
    "SVD at equal size": "#cc79a7",
    "dense int8": "#e69f00",
    "dense qdq": "#56b4e9",
    "dense fp16": "#f0e442",
    "uniform SVD": "#009e73",
    "front": "#0072b2",
    "dominated": "#8d959f",
}
"""Okabe and Ito's palette, which people with any colour vision can tell apart."""
MARKER_SIZES = {
    "recommended": 17,
    "original": 11,
    "SVD at equal size": 11,
    "dense int8": 11,
    "dense qdq": 11,
    "dense fp16": 11,
    "uniform SVD": 10,
    "front": 9,
    "dominated": 7,
}
"""Diameters of markers in pixels, by what a design is to the reader: the larger, the more it matters. Chosen by eye."""

_SCALE = ((0.0, "#ffe58a"), (0.35, "#7fcdbb"), (0.7, "#2a8cbe"), (1.0, "#1f4e9a"))
"""Colour scale of scores, from pale yellow to dark blue: its lightness alone tells the order."""

_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_GRID = "rgba(128,136,146,0.22)"
LINE = "rgba(128,136,146,0.8)"
"""Colour of axes, limits and bars: it shows on light and dark pages."""
MOST_LAYERS = 8
"""Layers that one figure can tell apart: as many as it has colours and markers."""
_LEGEND = 46
"""Characters of a layer's name in legends. Chosen, not measured."""
_LINES = ("solid", "dot")
MARKS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x", "hexagon")
"""Markers of layers, by their place among those that a figure shows."""


def pareto_figure(document: Document) -> go.Figure:
    """Return parameters against latency, coloured by score: every evaluated design."""
    figure = _scatter(document, "latency_us", "params", "Parameters against latency", coloured=True)
    bar = {"thickness": 10, "outlinewidth": 0, "len": 0.9, "title": {"text": f"{_score_name(document)} (%)"}}
    # Of errors the small ones are good.
    figure.update_layout(coloraxis={"colorscale": _SCALE, "colorbar": bar, "reversescale": not document.verified})
    if (ends := drawn_range(document)) is not None:
        figure.update_layout(coloraxis={"cmin": percent(ends[0]), "cmax": percent(ends[1])})
    return figure


def score_figure(document: Document) -> go.Figure:
    """Return the reported score against parameters."""
    title = f"{_score_name(document).capitalize()} against parameters"
    figure = _scatter(document, "params", "score", title, coloured=False)
    if (ends := drawn_range(document)) is not None:
        edge = 0.04 * (ends[1] - ends[0])
        figure.update_yaxes(range=[percent(ends[0] - edge), percent(ends[1] + edge)])
    return figure


def funnel_figure(document: Document) -> go.Figure:
    """Return how many designs each filter left, a line for every layer.

    Layers that begin with as many designs share a line: that of the most.
    """
    import plotly.graph_objects as go

    explored = [layer for layer in document.layers if layer.funnel.stages]
    groups = folded(explored, lambda layer: layer.funnel.stages[0].designs)
    figure = go.Figure()
    shown = [
        (_most_left(group), [layer.name for layer in group])
        for group in sorted(groups, key=lambda group: -group[0].funnel.stages[0].designs)[:MOST_LAYERS]
    ]
    for index, (stages, names) in enumerate(shown):
        name = short(names[0], _LEGEND) + (f" and {len(names) - 1} more" if len(names) > 1 else "")
        figure.add_scatter(
            x=[count or None for _, count in stages],
            y=[_wrapped(stage) for stage, _ in stages],
            mode="lines+markers",
            name=name,
            line={"color": cycled(index), "width": 1.5},
            marker={"symbol": MARKS[index], "size": 8},
            hoverinfo="text",
            hovertext=[f"{name}<br>{html.escape(stage)}: {count_text(count)}" for stage, count in stages],
        )
    order = list(dict.fromkeys(_wrapped(stage) for found, _ in shown for stage, _ in found))
    styled(figure, "Designs that each filter left", x="designs", y="")
    figure.update_xaxes(type="log", exponentformat="power", dtick=2)
    figure.update_yaxes(categoryorder="array", categoryarray=order[::-1], showgrid=False)
    return figure


def _most_left(layers: Sequence[LayerFacts]) -> list[tuple[str, int]]:
    """Return the most designs that each filter left of any of the layers, in the order of the filters."""
    found: dict[str, int] = {}
    for layer in layers:
        for stage in layer.funnel.stages:
            found[stage.stage] = max(stage.designs, found.get(stage.stage, 0))
    return list(found.items())


def spectra_figure(document: Document) -> go.Figure:
    """Return the singular values of the largest layers, and (dotted) of their weights whitened by the covariance.

    A cross marks the effective rank of each.
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    known = [layer for layer in document.layers if layer.spectra.weight is not None]
    for index, layer in enumerate(sorted(known, key=lambda layer: -layer.params)[:MOST_LAYERS]):
        name = short(layer.name, _LEGEND)
        for dash, kind, found in zip(_LINES, ("weight", "whitened"), _spectra(layer), strict=True):
            if found is None:
                continue
            label = name if kind == "weight" else f"{name}, whitened"
            points = [p for p in zip(found.ranks, found.values, found.errors, strict=True) if p[1] > 0]
            figure.add_scatter(
                x=[rank for rank, _, _ in points],
                y=[value for _, value, _ in points],
                mode="lines",
                name=label,
                legendgroup=str(index),
                showlegend=kind == "weight",
                line={"color": cycled(index), "width": 1.6, "dash": dash},
                hoverinfo="text",
                hovertext=[
                    f"{label}<br>singular value {rank} of {found.size}: {value:.3g} of the largest"
                    f"<br>error of the best matrix of rank {rank}: {error:.1%}"
                    for rank, value, error in points
                ],
            )
            figure.add_scatter(
                x=[found.effective_rank],
                y=[_at(points, found.effective_rank)],
                mode="markers",
                showlegend=False,
                legendgroup=str(index),
                marker={"symbol": "x-thin", "size": 9, "line": {"width": 2, "color": cycled(index)}},
                hoverinfo="text",
                hovertext=[f"{label}<br>effective rank {found.effective_rank:.1f} of {found.size}"],
            )
    styled(figure, "Singular values (dotted: whitened)", x="rank", y="singular value / largest")
    figure.update_yaxes(type="log", exponentformat="power", dtick=1)
    figure.update_xaxes(rangemode="tozero")
    return figure


def _spectra(layer: LayerFacts) -> tuple[Spectrum | None, Spectrum | None]:
    return layer.spectra.weight, layer.spectra.whitened


def _at(points: Sequence[tuple[int, float, float]], rank: float) -> float | None:
    """Return the singular value nearest to a rank that need not be whole."""
    return min(points, key=lambda point: abs(point[0] - rank))[1] if points else None


def _scatter(document: Document, x: str, y: str, title: str, coloured: bool) -> go.Figure:
    import plotly.graph_objects as go

    figure = go.Figure()
    designs = document.every_design()
    # What matters most is drawn last, so nothing lies over it.
    for role in reversed(ROLES):
        listed = [design for design in designs if role_of(design, document) == role]
        if not listed:
            continue
        marker: dict[str, Any] = {"symbol": SYMBOLS[role], "size": MARKER_SIZES[role], "color": COLOURS[role]}
        marker["line"] = {"width": 0.8, "color": "rgba(255,255,255,0.8)"}
        if role == "dominated":
            marker["line"] = {"width": 1.2, "color": COLOURS[role]}
        elif coloured and None not in (values := [_value(design, "score", document) for design in listed]):
            marker |= {"color": values, "coloraxis": "coloraxis"}
            marker["line"] = {"width": 1.0, "color": LINE}
        if role == "recommended":
            marker["line"] = {"width": 1.4, "color": COLOURS[role] if coloured else "rgba(255,255,255,0.9)"}
        figure.add_scatter(
            x=[_value(design, x, document) for design in listed],
            y=[_value(design, y, document) for design in listed],
            error_x=None if role == "dominated" else _error(listed, x, document),
            error_y=None if role == "dominated" else _error(listed, y, document),
            mode="markers",
            name=role,
            marker=marker,
            hoverinfo="text",
            hovertext=[hover_text(design, document) for design in listed],
            legendgroup=role,
            legendrank=ROLES.index(role),
            showlegend=not coloured,
        )
        if coloured:
            # A legend entry of its own: in one colour, as the designs of a role have many.
            plain = {"symbol": SYMBOLS[role], "size": MARKER_SIZES[role], "color": COLOURS["dominated"]}
            figure.add_scatter(
                x=[None],
                y=[None],
                mode="markers",
                name=role,
                marker=plain,
                hoverinfo="skip",
                legendgroup=role,
                legendrank=ROLES.index(role),
            )
    titles = {
        "latency_us": f"latency, {document.meter.kind} (µs)",
        "params": "parameters",
        "score": f"{_score_name(document)} (%)",
    }
    styled(figure, title, x=titles[x], y=titles[y])
    for axis, key in ((figure.layout.xaxis, x), (figure.layout.yaxis, y)):
        if key != "score":
            axis.update(type="log", dtick="D2", tickformat="~s" if key == "params" else ",~r")
    return figure


def _value(design: DesignFacts, key: str, document: Document) -> float | None:
    if key == "score":
        value = shown_value(design, document)
        return None if value is None else percent(value)
    return {"latency_us": design.charged.us, "params": float(design.params)}[key]


def _error(designs: Sequence[DesignFacts], key: str, document: Document) -> dict[str, Any] | None:
    """Return the bracket of a latency, or half the 95 % interval of a score's loss against the original."""
    look = {"thickness": 1, "width": 0, "color": LINE}
    if key == "latency_us":
        ends = [bracket_ends(design.charged, document) for design in designs]
        above = [high - design.charged.us for design, (_, high) in zip(designs, ends, strict=True)]
        below = [design.charged.us - low for design, (low, _) in zip(designs, ends, strict=True)]
        return {"type": "data", "symmetric": False, "array": above, "arrayminus": below, **look}
    if key == "score" and document.verified and any(design.reported_margin is not None for design in designs):
        return {"type": "data", "array": [percent(design.reported_margin or 0.0) for design in designs], **look}
    return None


def styled(figure: go.Figure, title: str, x: str, y: str) -> None:
    """Give a figure its title, the titles of its axes, and the look that all figures have."""
    axis = {
        "gridcolor": _GRID,
        "linecolor": LINE,
        "tickcolor": LINE,
        "showline": True,
        "ticks": "outside",
        "ticklen": 4,
        "zeroline": False,
        "automargin": True,
    }
    figure.update_layout(
        template="none",
        title={"text": html.escape(title), "x": 0, "xref": "paper", "font": {"size": 15}},
        font={"family": _FONT, "size": 12, "color": "#4a525c"},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 56, "r": 12, "t": 48, "b": 48},
        legend={"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"},
        hoverlabel={"align": "left", "font": {"family": _FONT, "size": 12}},
        hovermode="closest",
    )
    figure.update_xaxes(**axis, title={"text": x, "standoff": 8})
    figure.update_yaxes(**axis, title={"text": y, "standoff": 8})


def _score_name(document: Document) -> str:
    return html.escape(shown_name(document))


def percent(fraction: float) -> float:
    """Return a fraction in percent, without the noise of the multiplication."""
    return round(100 * fraction, 6)


def _wrapped(text: str) -> str:
    return "<br>".join(html.escape(line, quote=False) for line in textwrap.wrap(text, 24))


def cycled(index: int) -> str:
    """Return the colour of the layer of that place among those that a figure shows."""
    colours = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7a828c", "#e69f00", "#56b4e9", "#b0a000")
    return colours[index % len(colours)]
