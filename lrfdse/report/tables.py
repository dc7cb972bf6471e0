"""Tables for people, on a terminal of any width."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from lrfdse.report.numbers import count_text, times_text, us_text
from lrfdse.results.roles import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lrfdse.ir.latency import Latency
    from lrfdse.results.designs import DesignFacts
    from lrfdse.results.document import Document
    from lrfdse.results.layers import LayerFacts, Spectrum


def layer_table(layers: Sequence[LayerFacts], detailed: bool = False) -> Table:
    """Return the table of FC layers: sizes, shares, compressibility.

    In detail, also the working memory, and the effective ranks of what the layers read and give where that is known.
    """
    total_macs = sum(_macs(layer) for layer in layers) or 1
    known = detailed and any(layer.spectra.inputs is not None for layer in layers)
    table = Table(title="Fully-connected layers", title_justify="left", box=None, pad_edge=False, header_style="bold")
    more = ("working memory",) if detailed else ()
    ranks = ("effective rank", *(("of inputs", "of outputs") if known else ()))
    for name in ("layer", "in x out", "uses", "rows", "params", "share", "MACs", "share", *more, *ranks):
        table.add_column(name, justify="left" if name == "layer" else "right")
    table.add_column("")
    for layer in layers:
        table.add_row(
            layer.name,
            f"{layer.inputs} x {layer.outputs}",
            str(layer.uses),
            str(layer.rows),
            f"{layer.params:,}",
            f"{layer.share:.1%}",
            f"{_macs(layer):,}",
            f"{_macs(layer) / total_macs:.1%}",
            *([f"{layer.peak_activation_bytes / 1024:,.1f} KiB"] if detailed else []),
            f"{layer.effective_rank:.0f} of {min(layer.inputs, layer.outputs)}",
            *([_rank_of(layer.spectra.inputs), _rank_of(layer.spectra.whitened)] if known else []),
            f"kept dense: {layer.kept_dense}" if layer.kept_dense else "",
        )
    return table


def _macs(layer: LayerFacts) -> int:
    return layer.outputs * layer.inputs * layer.rows


def _rank_of(spectrum: Spectrum | None) -> str:
    return "" if spectrum is None else f"{spectrum.effective_rank:.0f} of {spectrum.size}"


def funnel_table(layers: Sequence[LayerFacts]) -> Table:
    """Return how many designs every filter left, a column a layer."""
    table = Table(title="Designs left", title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("stage")
    for layer in layers:
        table.add_column(layer.name, justify="right")
    counts = [{stage.stage: stage.designs for stage in layer.funnel.stages} for layer in layers]
    for stage in dict.fromkeys(stage for each in counts for stage in each):
        table.add_row(stage, *(count_text(each[stage]) if stage in each else "" for each in counts))
    if any(layer.funnel.gap for layer in layers):
        gaps = (f"{layer.funnel.gap:.2%}" if layer.funnel.gap else "exact" for layer in layers)
        table.add_row("gap of the front", *gaps)
    return table


def design_table(document: Document) -> Table:
    """Return the designs worth reading, each against the original: the front, and SVD to compare with.

    Where scores are of random inputs they are not shown: output errors are, and that losses are not measured.
    """
    original, designs = document.original, shown(document)
    score = "accuracy" if original.test_score is not None and document.metric == "fidelity" else document.metric
    table = Table(title=f"Designs for {document.target.name}", title_justify="left", box=None, pad_edge=False)
    table.header_style = "bold"
    on_board = any(design.board is not None for design in document.every_design())
    measured = ("on the board", "") if on_board else ()
    latency = f"latency, {document.meter.kind}"
    # The one place of the table that says what ± is.
    quality = (score, "± 95 %") if document.verified else ("output error", "loss")
    for name in ("design", "params", "", "FLOPs", "", latency, "", *measured, *quality, "plan"):
        table.add_column(name, justify="left" if name in ("design", "plan") else "right", no_wrap=name != "plan")
    for design in designs:
        best = design.id == document.recommended
        table.add_row(
            f"{'>' if best else ' '} {design.id}",
            f"{design.params:,}",
            times_text(original.params, design.params),
            f"{design.flops:,}",
            times_text(original.flops, design.flops),
            _bracket(design.charged),
            times_text(original.charged.us, design.charged.us),
            *(_on_the_board(design, original) if on_board else ()),
            *_quality(design, document),
            _remark(design, document),
            style="bold" if best else None,
        )
    return table


def _bracket(latency: Latency) -> str:
    return f"{us_text(latency.us)} us [{us_text(latency.low_us)}..{us_text(latency.high_us)}]"


def _on_the_board(design: DesignFacts, original: DesignFacts) -> tuple[str, str]:
    """Return what a board took for a design, with its quartiles, and by what factor it was faster than the original."""
    took, before = design.board_latency, original.board_latency
    if took is None:
        return "", ""
    return _bracket(took), "" if before is None else times_text(before.us, took.us)


def _quality(design: DesignFacts, document: Document) -> tuple[str, str]:
    """Return the score and its change, or where nobody measured losses the output error, and that."""
    original = document.original
    if not document.verified:
        error = "unknown" if design.output_error is None else f"{design.output_error:.2%}"
        return error, "" if design.id == original.id else "not measured"
    change = "" if design.id == original.id else f"{100 * (design.reported_score - original.reported_score):+.2f}"
    return f"{design.reported_score:.2%}", change + (_within(design) if change else "")


def _within(design: DesignFacts) -> str:
    """Return half the change's 95 % interval, where it is known."""
    return f" ±{100 * design.reported_margin:.2f}" if design.reported_margin else ""


def _remark(design: DesignFacts, document: Document) -> str:
    if design.id == document.original.id:
        return "original"
    plan = "  ".join(f"{name}={choice}" for name, choice in design.changed().items())
    if design.origin == "uniform-svd":
        return f"uniform SVD: {plan}"
    return f"SVD at equal size: {plan}" if design.id == document.svd_at_equal_size != document.recommended else plan
