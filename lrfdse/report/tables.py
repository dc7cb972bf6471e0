"""Tables for people, on a terminal of any width."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from rich.table import Table

from lrfdse.report.document import WORST_SHOWN, WORTH_SHOWING
from lrfdse.report.numbers import count_text, times_text, us_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lrfdse.board.result import BoardRun
    from lrfdse.ir.plan import Design, Metric
    from lrfdse.ir.space import Funnel
    from lrfdse.results.exploration import Exploration, LayerResult, Spectrum


_ALL = "front.csv has them all"


def layer_table(results: Iterable[LayerResult], detailed: bool = False) -> Table:
    """Return the table of FC layers: sizes, shares, compressibility.

    In detail, also the working memory, and the effective ranks of what the layers read and give where that is known.
    """
    rows = list(results)
    total_flops = sum(row.layer.flops for row in rows) or 1
    known = detailed and any(row.activations is not None for row in rows)
    table = Table(title="Fully-connected layers", title_justify="left", box=None, pad_edge=False, header_style="bold")
    more = ("working memory",) if detailed else ()
    ranks = ("effective rank", *(("of inputs", "of outputs") if known else ()))
    for name in ("layer", "in x out", "uses", "rows", "params", "share", "MACs", "share", *more, *ranks):
        table.add_column(name, justify="left" if name == "layer" else "right")
    table.add_column("")
    for row in rows:
        layer, reason = row.layer, row.kept_dense
        table.add_row(
            layer.name,
            f"{layer.inputs} x {layer.outputs}",
            str(len(layer.uses)),
            str(layer.rows),
            f"{layer.params:,}",
            f"{row.share:.1%}",
            f"{layer.flops // 2:,}",
            f"{layer.flops / total_flops:.1%}",
            *([f"{4 * row.dense.peak(layer.rows) / 1024:,.1f} KiB"] if detailed else []),
            f"{row.effective_rank:.0f} of {min(layer.inputs, layer.outputs)}",
            *([_rank_of(row.activations), _rank_of(row.whitened)] if known else []),
            f"kept dense: {reason}" if reason else "",
        )
    return table


def _rank_of(spectrum: Spectrum | None) -> str:
    return "" if spectrum is None else f"{spectrum.effective_rank:.0f} of {spectrum.size}"


def funnel_table(funnels: Mapping[str, Funnel]) -> Table:
    """Return how many designs every filter left, a column a layer."""
    table = Table(title="Designs left", title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("stage")
    for name in funnels:
        table.add_column(name, justify="right")
    stages = dict.fromkeys(stage for funnel in funnels.values() for stage, _ in funnel.stages)
    for stage in stages:
        counts = [dict(funnel.stages).get(stage) for funnel in funnels.values()]
        table.add_row(stage, *("" if count is None else count_text(count) for count in counts))
    if any(funnel.gap for funnel in funnels.values()):
        table.add_row(
            "gap of the front", *(f"{funnel.gap:.2%}" if funnel.gap else "exact" for funnel in funnels.values())
        )
    return table


def design_table(exploration: Exploration) -> Table:
    """Return the designs worth reading, each against the original: the front and the baselines.

    Where scores are of random inputs they are not shown: output errors are, and that losses are not measured.
    """
    base = exploration.baseline
    kind = exploration.meter_kind
    score = "accuracy" if base.accuracy is not None and exploration.metric == "fidelity" else exploration.metric
    table = Table(
        title=f"Designs for {exploration.settings.target.name}", title_justify="left", box=None, pad_edge=False
    )
    table.header_style = "bold"
    boards = exploration.boards
    measured = ("on the board", "") if boards else ()
    quality = (score, "") if exploration.verified else ("output error", "loss")
    for name in ("design", "params", "", "FLOPs", "", f"latency, {kind}", "", *measured, *quality, "plan"):
        table.add_column(name, justify="left" if name in ("design", "plan") else "right", no_wrap=name != "plan")
    for design in shown(exploration):
        latency = design.latency
        table.add_row(
            f"{'>' if design.id == exploration.recommended else ' '} {design.id}",
            f"{design.params:,}",
            times_text(base.params, design.params),
            f"{design.flops:,}",
            times_text(base.flops, design.flops),
            f"{us_text(latency.us)} us [{us_text(latency.low_us)}..{us_text(latency.high_us)}]",
            times_text(base.latency.us, latency.us),
            *(_on_the_board(boards.get(design.id), boards.get(base.id)) if boards else ()),
            *_quality(design, exploration),
            _remark(design, exploration),
            style="bold" if design.id == exploration.recommended else None,
        )
    return table


def _quality(design: Design, exploration: Exploration) -> tuple[str, str]:
    """Return the score and its change, or where nobody measured losses the output error, and that."""
    base, metric = exploration.baseline, exploration.metric
    if not exploration.verified:
        error = "unknown" if design.output_error is None else f"{design.output_error:.2%}"
        return error, "" if design.id == base.id else "not measured"
    value, reference = _reported(design, metric), _reported(base, metric)
    return f"{value:.2%}", "" if design.id == base.id else f"{100 * (value - reference):+.2f}{_within(design)}"


def _on_the_board(run: BoardRun | None, base: BoardRun | None) -> tuple[str, str]:
    """Return what a board took for a design, with its quartiles, and by what factor it was faster than the original."""
    if run is None or run.whole is None:
        return "", ""
    whole = run.whole
    times = "" if base is None or base.whole is None else times_text(base.whole.us, whole.us)
    return f"{us_text(whole.us)} us [{us_text(whole.low_us)}..{us_text(whole.high_us)}]", times


def shown(exploration: Exploration) -> list[Design]:
    """Return the designs of the table, slowest first.

    These are the original, the front as far as it loses no more than anybody could want, and SVD at no more parameters
    than the recommended design: the best of the knapsack's, and the nearest uniform one.
    """
    base, metric = exploration.baseline, exploration.metric
    least = base.score(metric) - worth_showing(exploration)

    def is_worth_showing(design: Design) -> bool:
        if exploration.verified:
            return design.score(metric) >= least
        return design.output_error is None or design.output_error <= WORST_SHOWN

    listed = {d.id for d in exploration.designs if d.id in exploration.front and is_worth_showing(d)} | {base.id}
    if exploration.recommended is not None:
        most = exploration.design(exploration.recommended).params
        uniform = [d for d in exploration.designs if d.origin == "uniform-svd" and d.params <= most]
        listed |= {exploration.recommended, max(uniform, key=lambda d: d.params, default=base).id}
    if exploration.plain is not None:
        listed.add(exploration.plain)
    every = {design.id: design for design in (*exploration.designs, base)}
    return sorted((every[identity] for identity in listed), key=lambda design: (-design.latency.us, design.id))


def worth_showing(exploration: Exploration) -> float:
    """Return the loss, a fraction, beyond which a design of the front is left to the files."""
    return max(WORTH_SHOWING, exploration.settings.limits.max_drop)


def hidden_text(exploration: Exploration) -> str:
    """Return what is said of the designs that the table leaves out; empty where there are none."""
    if not (count := hidden(exploration)):
        return ""
    if exploration.verified:
        return f"{count} more designs of the front lose over {100 * worth_showing(exploration):g} points; " + _ALL
    return f"{count} more designs of the front have an output error over {WORST_SHOWN:.0%}; {_ALL}"


def hidden(exploration: Exploration) -> int:
    """Return how many designs of the front the table leaves out."""
    return len(set(exploration.front) - {design.id for design in shown(exploration)})


def _reported(design: Design, metric: Metric) -> float:
    """Return the score on the test data, or where there are none on the data that choose."""
    return design.score(metric) if design.accuracy is None else design.accuracy


def _within(design: Design) -> str:
    """Return the half-width of the change's 95 % interval, where it is known."""
    error = design.standard_error if design.accuracy is None else design.accuracy_error
    return f" ±{100 * 1.96 * error:.2f}" if error else ""


def recommendation(exploration: Exploration) -> str:
    """Return the sentences that end a run: which design, why, where it lies; or why there is none."""
    if is_refused(exploration):
        return (
            "No design is recommended, because nothing says what one loses: give --eval DATA.npz (inputs with labels, "
            "or real inputs alone), or --accept-unverified to have one chosen on random inputs."
        )
    if exploration.recommended is None:
        return "No design satisfies the limits."
    design, base = exploration.design(exploration.recommended), exploration.baseline
    limit = f"{100 * exploration.settings.limits.max_drop:g} point(s)"
    data = "the data that choose" if exploration.verified else "random inputs, which nothing verifies"
    if design.id == base.id:
        where = "" if exploration.verified else f" on {data}"
        return f"No compressed design loses at most {limit} of {exploration.metric}{where}: keep the original model."
    path = exploration.settings.output / "designs" / design.id / "model.onnx"
    return (
        f"Recommended: {design.id}, {base.params / design.params:.1f}x fewer parameters and "
        f"{base.latency.us / design.latency.us:.1f}x lower "
        f"{exploration.meter_kind} latency of the fully-connected layers, "
        f"chosen for a loss of at most {limit} of {exploration.metric} on {data}.\n{path}"
    )


def is_refused(exploration: Exploration) -> bool:
    """Return whether no design is recommended because nobody measured what designs lose."""
    return not (exploration.verified or exploration.settings.accept_unverified)


def way_on(exploration: Exploration) -> str:
    """Return what can be done with an exploration that recommends nothing for want of evaluation data."""
    folder = exploration.settings.output
    export = f"`lrfdse export {shlex.quote(str(folder))} ID` makes any design of front.json"
    if not exploration.kept:
        return f"No files of designs were kept (--keep 0): {export}."
    return (
        f"To go on: try the {len(exploration.kept)} designs of the trade-off in {folder}/designs "
        f"({', '.join(exploration.kept)}), or run the same command with --eval: what was compiled is used again; "
        f"{export}."
    )


def _remark(design: Design, exploration: Exploration) -> str:
    texts = design.plan.texts()
    if design.id == exploration.baseline.id:
        return "original"
    plan = "  ".join(f"{name}={text}" for name, text in texts.items() if text != "dense")
    if design.origin == "uniform-svd":
        return f"uniform SVD: {plan}"
    return f"SVD at equal size: {plan}" if design.id == exploration.plain != exploration.recommended else plan
