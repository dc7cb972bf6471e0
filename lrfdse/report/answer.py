"""The answer of an exploration in a few lines: what is gained, what is lost, where everything lies, what to do next."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lrfdse.base.text import clean
from lrfdse.ir.latency import REGIMES
from lrfdse.ir.storage import QDQ
from lrfdse.report.fold import names_text
from lrfdse.report.numbers import change_text, kib_text, latency_text, times_text
from lrfdse.report.others import others_text
from lrfdse.report.page.wording import (
    beyond_limit,
    hardware_text,
    limits_text,
    sentence_of,
    speed_text,
    way_on,
    why_text,
)
from lrfdse.report.runtimes import runtime_lines
from lrfdse.report.shares import bound_text
from lrfdse.report.whole import whole_text
from lrfdse.results.again import candidate_of
from lrfdse.results.choice import excess
from lrfdse.results.layers import counts_text
from lrfdse.results.roles import shown_value

if TYPE_CHECKING:
    from pathlib import Path

    from lrfdse.results.designs import DesignFacts
    from lrfdse.results.document import Document

REPORT = "report.html"
"""Name of the page in an output folder."""


UNBROKEN = ("Report", "Model", "Kernels", "Next")
"""Labels of lines with a path or a command: these are to be copied, and stay whole."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What ends a run: a title, and lines with a label each."""

    title: str
    lines: tuple[tuple[str, str], ...]
    """Label and text."""
    found: bool
    """Whether a compressed design is recommended."""


def answer_of(document: Document, folder: Path) -> Answer:
    """Return the answer of a document whose output folder is `folder`."""
    best = document.best
    report = ("Report", str(folder / REPORT))
    lines: tuple[tuple[str, str], ...]
    if document.is_refused:
        lines = (("Why", sentence_of(document)), ("Go on", way_on(document, folder)), report)
        return Answer("Nothing is recommended", lines, False)
    if best is None or best.id == document.original.id:
        title = "No design satisfies the limits" if best is None else "Keep the original model"
        again = f"lrfdse show {_quoted(folder)} --max-drop 2%"
        lines = (("Limits", limits_text(document)), *_nearest(document), report, ("Next", again))
        return Answer(title, lines, False)
    lines = (
        ("Weights", _weights(document, best)),
        *_latency(document, best),
        *_whole(document, best),
        (document.metric.capitalize() if document.verified else "Output error", _quality(document, best)),
        *_others(document, best),
        (
            "Chosen for",
            limits_text(document) + ("" if document.verified else ". Nobody verified it: random inputs chose it"),
        ),
        *([("Why", why)] if (why := why_text(document)) else []),
        *_sensitivity(document),
        report,
        *_files(document, best, folder),
        ("Next", _next(document, folder)),
    )
    return Answer(f"Recommended: {best.id}", lines, True)


def _weights(document: Document, best: DesignFacts) -> str:
    before, now = document.original.weight_bytes, best.weight_bytes
    return f"{kib_text(now)} KiB instead of {kib_text(before)} KiB ({times_text(before, now) or 'the same'})"


def _latency(document: Document, best: DesignFacts) -> list[tuple[str, str]]:
    kind, found = document.meter.kind, list[tuple[str, str]]()
    for regime in REGIMES:
        now, before = best.latency.at(regime), document.original.latency.at(regime)
        if now is not None and before is not None:
            text = f"{regime}: {latency_text(now.us, kind)} us instead of {latency_text(before.us, kind)} us"
            found.append(("" if found else "Latency", f"{text} ({times_text(before.us, now.us) or 'the same'})"))
    if (board := best.board_latency) is not None:
        before = document.original.board_latency
        text = f"{latency_text(board.us, 'measured')} us"
        if before is not None:
            text += f" instead of {latency_text(before.us, 'measured')} us ({times_text(before.us, board.us)})"
        found.append(("On the board", text))
    found += runtime_lines(document, best)
    layers = counts_text([layer.kind for layer in document.layers])
    checked = hardware_text(document, with_source=False)
    found.append(("", f"{kind} latency of the C kernels of the {layers}, not of model.onnx; {checked}"))
    return found


def _whole(document: Document, best: DesignFacts) -> list[tuple[str, str]]:
    text, most = whole_text(document, best), bound_text(document)
    found = [("Whole model", text)] if text else []
    return [*found, *([("Bound", f"{most}, however the layers are compressed")] if most else [])]


def _quality(document: Document, best: DesignFacts) -> str:
    original = document.original
    if not document.verified:
        error = shown_value(best, document)
        return "the loss was not measured" if error is None else f"{error:.2%} on random inputs; no loss was measured"
    change = change_text(best.reported_score - original.reported_score, best.reported_margin)
    sure = "" if best.reported_margin is None else " (95 %)"
    where = "evaluation data, which chose it" if best.test_score is None else "test data, which chose nothing"
    beyond = beyond_limit(document)
    where += f"; {beyond}" if beyond else ""
    return f"{best.reported_score:.2%} instead of {original.reported_score:.2%}: {change} points{sure}, on {where}"


def _others(document: Document, best: DesignFacts) -> list[tuple[str, str]]:
    if not best.others:
        return []
    data = "the evaluation data" if document.verified else "random inputs"
    return [("Others keep", f"{clean(others_text(best, document))} of the original's outputs, on {data}")]


def _sensitivity(document: Document) -> list[tuple[str, str]]:
    """Return the assumption about the target that would take most of the speed-up, and what would be left."""
    best, cases = document.best, document.sensitivity
    if best is None:
        return []
    found = [(case.assumption, each) for case in cases[1:] if (each := case.of(best.id)) is not None]
    if not found:
        return []
    words, least = min(found, key=lambda pair: pair[1].speed_up_warm * pair[1].speed_up_cold)
    warm, cold = (times_text(speed_up, 1) or "1.0x" for speed_up in (least.speed_up_warm, least.speed_up_cold))
    return [("Rests on", f"the memory: with {words} {warm} warm, {cold} cold")]


def _files(document: Document, best: DesignFacts, folder: Path) -> list[tuple[str, str]]:
    if not best.model:
        return [("Model", f"lrfdse export {_quoted(folder)} {best.id}")]
    model, alone = folder / best.model, _without_kernel(best)
    where = f"; {clean(names_text(alone, 24))}: in the C library of model.onnx alone" if alone else ""
    kernels = f"{model.parent / 'kernels'}/ (C, for {document.target.name}{where})"
    return [("Model", str(model)), ("Kernels", kernels)]


def _without_kernel(design: DesignFacts) -> list[str]:
    """Return the layers of a design that have no kernel of their own, but operators one after the other."""
    return [name for name, choice in design.plan.items() if choice.is_repaired or choice.storage == str(QDQ)]


def _next(document: Document, folder: Path) -> str:
    # A board times kernels, and neither embeddings, larger convolutions nor such layers have one.
    without_kernel = any(layer.kind in ("conv", "embedding") for layer in document.layers)
    best = document.best
    if (
        document.meter.kind == "modelled"
        and not without_kernel
        and best is not None
        and best.board is None
        and not _without_kernel(best)
    ):
        return f"lrfdse bench {_quoted(folder)} --runner 'ssh user@board'"
    return f"lrfdse check {_quoted(folder)}"


def _nearest(document: Document) -> list[tuple[str, str]]:
    """Return the compressed design that misses the limits by least, and by how much it misses each."""
    designs = [design for design in document.every_design() if design.id != document.original.id]
    if not designs or not document.verified:
        return []
    limits, kind = document.settings.limits, document.meter.kind
    found = {design.id: candidate_of(design, document) for design in designs}
    near = min(designs, key=lambda design: (excess(found[design.id], limits), design.params, design.id))
    parts = list[str]()
    if limits.max_drop is not None and found[near.id].loss > limits.max_drop:
        parts.append(f"loses {100 * found[near.id].loss:.2f} points on the evaluation data")
    too_many = limits.max_params is not None and near.params > limits.max_params
    if too_many or (limits.max_size is not None and near.weight_bytes > limits.max_size):
        parts.append(f"has {kib_text(near.weight_bytes)} KiB of weights, {near.params:,} parameters")
    if limits.max_latency_us is not None and near.charged.us > limits.max_latency_us:
        parts.append(f"takes {latency_text(near.charged.us, kind)} us")
    whole = near.whole_model.best_known
    if limits.max_model_latency_us is not None and whole is not None and whole.us > limits.max_model_latency_us:
        parts.append(f"takes {latency_text(whole.us, kind)} us as a whole")
    return [("Nearest", f"{near.id} {' and '.join(parts)}; {speed_text(document, near)}")] if parts else []


def _quoted(folder: Path) -> str:
    return shlex.quote(str(folder))
