"""Tables of layers for people: layers are rows, equal ones share a row, so that 36 are as readable as 3."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lrfdse.base.grid import Column, fitted
from lrfdse.base.text import clean
from lrfdse.report.fold import folded, names_text
from lrfdse.report.numbers import count_text, kib_text
from lrfdse.results.layers import NOUNS, nouns_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.text import Text

    from lrfdse.results.layers import LayerFacts, Spectrum


def layer_table(layers: Sequence[LayerFacts], width: int, detailed: bool = False) -> list[Text]:
    """Return the table of layers: sizes, shares, compressibility; layers of one size share a row.

    In detail, also the working memory, and the effective ranks of what the layers read and give where that is known.
    """
    groups = folded(
        layers,
        lambda layer: (layer.kind, layer.sizes_text, layer.uses, layer.rows, bool(layer.kept_dense), layer.storage),
    )
    params, macs = sum(layer.params for layer in layers) or 1, sum(layer.macs for layer in layers) or 1

    def column(name: str, text: Callable[[list[LayerFacts]], str], drop: int | None = None) -> Column:
        return Column(name, [text(group) for group in groups], drop=drop)

    is_mixed = len({layer.kind for layer in layers}) > 1
    has_int8 = any(layer.storage != "float32" for layer in layers)
    known = detailed and any(layer.spectra.inputs is not None for layer in layers)
    columns = [
        Column("layer", [clean(names_text([layer.name for layer in group])) for group in groups], left=True),
        *([column("layers", lambda group: str(len(group)), 6)] if any(len(group) > 1 for group in groups) else []),
        *([column("kind", lambda group: NOUNS.get(group[0].kind, group[0].kind), 1)] if is_mixed else []),
        column("in x out", lambda group: group[0].sizes_text),
        *([column("stored", lambda group: group[0].storage)] if has_int8 else []),
        column("uses", lambda group: str(group[0].uses), 2),
        column("rows", lambda group: str(group[0].rows), 3),
        column("params", lambda group: count_text(sum(layer.params for layer in group)), 4),
        column("KiB", lambda group: kib_text(sum(layer.weight_bytes for layer in group))),
        column("share", lambda group: f"{sum(layer.params for layer in group) / params:.1%}"),
        column("MACs", lambda group: count_text(sum(layer.macs for layer in group)), 4),
        column("share", lambda group: f"{sum(layer.macs for layer in group) / macs:.1%}", 5),
    ]
    if detailed:
        columns.append(
            column("working KiB", lambda group: kib_text(max(layer.peak_activation_bytes for layer in group)), 6)
        )
    columns.append(column("effective rank", lambda group: _ranks([layer.effective_rank for layer in group], group)))
    if known:
        columns += [
            column("of inputs", lambda group: _ranks([_rank(each.spectra.inputs) for each in group], group), 7),
            column("of outputs", lambda group: _ranks([_rank(each.spectra.whitened) for each in group], group), 7),
        ]
    return fitted(columns, width, nouns_text(layer.kind for layer in layers).capitalize())


def kept_dense_lines(layers: Sequence[LayerFacts]) -> list[str]:
    """Return which layers are kept dense, and why: a line for each reason."""
    kept = folded([layer for layer in layers if layer.kept_dense], lambda layer: layer.kept_dense)
    return [f"Kept dense: {clean(names_text([each.name for each in group]))}: {group[0].kept_dense}" for group in kept]


def _rank(spectrum: Spectrum | None) -> float | None:
    return None if spectrum is None else spectrum.effective_rank


def _ranks(ranks: Sequence[float | None], group: Sequence[LayerFacts]) -> str:
    known = [rank for rank in ranks if rank is not None]
    if not known:
        return ""
    low, high = f"{min(known):.0f}", f"{max(known):.0f}"
    return f"{low if low == high else f'{low}..{high}'} of {min(group[0].inputs, group[0].outputs)}"


def funnel_table(layers: Sequence[LayerFacts], width: int) -> list[Text]:
    """Return how many designs every filter left: a row a size of layers, a column a filter, the least and the most.

    Where the width does not hold all filters, those in the middle are left out: the latest first.
    """
    explored = [layer for layer in layers if layer.funnel.stages]
    groups = folded(explored, lambda layer: (layer.kind, layer.sizes_text, layer.rows))
    stages = list(dict.fromkeys(stage.stage for layer in explored for stage in layer.funnel.stages))
    counts = [
        {(layer.name, each.stage): each.designs for layer in group for each in layer.funnel.stages} for group in groups
    ]

    def span(group: list[LayerFacts], known: dict[tuple[str, str], int], stage: str) -> str:
        found = sorted({known[layer.name, stage] for layer in group if (layer.name, stage) in known})
        ends = [count_text(found[0]), count_text(found[-1])] if found else [""]
        return "..".join(dict.fromkeys(ends))

    columns = [Column("layer", [clean(names_text([each.name for each in group])) for group in groups], left=True)]
    for place, stage in enumerate(stages):
        drop = None if place in (0, len(stages) - 1) else 1 + place
        cells = [span(group, known, stage) for group, known in zip(groups, counts, strict=True)]
        columns.append(Column(stage, cells, drop=drop))
    if not stages:
        return []
    if any(layer.funnel.gap for layer in layers):
        gaps = [max(layer.funnel.gap for layer in group) for group in groups]
        columns.append(Column("gap of the front", [f"{gap:.2%}" if gap else "exact" for gap in gaps], drop=1))
    return fitted(columns, width, "Designs left by each filter")
