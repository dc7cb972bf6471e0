"""The study as optuna-dashboard shows it: notes, figures, and the files of the kept designs as artifacts of trials.

What was put there is noted in the study, so that a second run adds nothing twice and leaves alone what people wrote.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shlex
import shutil
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lrfdse.base.events import Event, Listener
from lrfdse.base.files import open_regular
from lrfdse.base.temporary import temporary_folder
from lrfdse.base.text import counted
from lrfdse.errors import InputError, LrfdseError
from lrfdse.ir.latency import REGIMES
from lrfdse.report.card import design_card
from lrfdse.report.markdown import code, plain, table
from lrfdse.report.numbers import kib_text, latency_text
from lrfdse.report.page.deciding import deciding_figure
from lrfdse.report.page.figures import funnel_figure, pareto_figure
from lrfdse.report.page.wording import basics, limits_text, sentence_of
from lrfdse.results.layers import nouns_text
from lrfdse.results.roles import role_of, shown_name, shown_value

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from lrfdse.results.designs import DesignFacts
    from lrfdse.results.document import Document
    from lrfdse.search.study.queue import Queue

SHOWN = "dashboard"
"""User attribute of the study: the digests of the notes and figures that were put there."""
INSTALL = "pip install 'lrfdse[dashboard]'"
"""Command that installs optuna-dashboard."""
_TYPES = {"model.onnx": "application/octet-stream", "kernels.txt": "text/plain"}
"""Files of a kept design's folder that become artifacts of its trial."""


def dress_study(
    url: str, name: str, document: Document, designs: Path, store: Path, shared: bool, progress: Listener
) -> None:
    """Put notes, figures and artifacts into the exploration's study, where optuna-dashboard is installed.

    What goes wrong is told as a note: the result of the exploration lies in the output folder already.

    Parameters
    ----------
    url
        The storage that holds the study.
    name
        The study's name.
    document
        The document of the exploration.
    designs
        Folder of the kept designs, each in a folder of its id.
    store
        Folder of the artifact store; made where there is none.
    shared
        Whether the user named the storage or the store: then whoever looks there is told what is missing.
    progress
        Told what is not shown, and why.
    """
    from lrfdse.search.study.opening import join_study
    from lrfdse.search.study.storage import storage_errors

    if importlib.util.find_spec("optuna_dashboard") is None:
        # Whoever keeps the study where others look wants to see it; nobody else asked for anything.
        if shared:
            progress(Event("note", f"for notes, figures and artifacts in optuna-dashboard: {INSTALL}"))
        return
    try:
        with storage_errors(url):
            queue = join_study(url, name)
            if queue is None:
                raise InputError(f"study {name!r} is no longer there")
            try:
                dress(queue, document, designs, store)
            finally:
                queue.close()
    except (LrfdseError, OSError) as error:
        progress(Event("note", f"optuna-dashboard will not show all of the study: {error}"))


def dress(queue: Queue, document: Document, designs: Path, store: Path) -> None:
    """Put notes, figures and artifacts into a study.

    Parameters
    ----------
    queue
        The open study.
    document
        The document of an exploration.
    designs
        Folder of the kept designs, each in a folder of its id.
    store
        Folder of the artifact store; made where there is none.

    Raises
    ------
    OSError
        The store cannot be written.
    """
    trials = _trials(queue)
    entries = [design for design in document.every_design() if design.id in trials]
    for design in entries:
        if design.model:
            _attach(queue.optuna_study, trials[design.id], designs / design.id, store)
    known = queue.facts().get(SHOWN)
    shown: dict[str, str] = dict(known) if isinstance(known, Mapping) else {}
    _write_notes(queue.optuna_study, document, entries, trials, shown)
    _write_figures(queue.optuna_study, document, shown)
    if shown != known:
        queue.note(SHOWN, shown)


def study_card(document: Document, trials: Mapping[str, int]) -> str:
    """Return what a reader must know of the study, in GitHub's Markdown.

    Parameters
    ----------
    document
        The document of an exploration.
    trials
        Design id to the number of its trial.
    """
    best, plans = document.best, len(trials) if document.evaluated is None else document.evaluated
    layers = nouns_text(layer.kind for layer in document.layers)
    kind, metric, shown = document.meter.kind, plain(document.metric), plain(shown_name(document))
    listed = [design for design in (document.original, *document.designs) if design.id in trials]
    data = "the evaluation data" if document.verified else "random inputs, which measure no loss"
    none = f"Nothing satisfies the limits ({limits_text(document)})."
    rows = [_row(design, document, trials) for design in {design.id: design for design in listed}.values()]
    lines = [
        f"## {plain(document.title)} on {plain(document.target.name)}",
        "",
        f"Low-rank factorizations of the {layers} of {code(document.model.path)} "
        f"for {plain(document.target.core)}: {counted(plans, 'plan')} evaluated. "
        "Every trial is a plan: a factorization for each layer. "
        f"**latency_us** is {kind}, in microseconds, and covers the {layers} alone; **params** counts "
        f"their parameters; **score** is {metric} on {data}, a fraction.",
        "",
        *(
            [sentence_of(document) if document.is_refused else none]
            if best is None
            else [f"**Recommended:** {code(best.id)}{_trial(best, trials)}", "", design_card(document, best)]
        ),
        "",
        "### Designs",
        "",
        "Their trials have a card as note; those marked \\* have the compressed model and a summary of the kernels' "
        "machine code as artifacts. The study's first page has score against latency, a Pareto plot and the funnel, "
        "below the history.",
        "",
        *table(["trial:", "design", "", "KiB:", f"warm (µs), {kind}:", "cold (µs):", f"{shown} (%):"], rows),
        "",
        "### Notes",
        "",
        *(f"- {plain(note)}" for note in [*basics(document), *document.notes]),
        "",
        "### Command",
        "",
        "In the output folder:",
        "",
        *(f"    {line}" for line in _broken(document.command or "")),
    ]
    return "\n".join(lines) + "\n"


def trial_card(document: Document, design: DesignFacts) -> str:
    """Return a design's card for its trial, which knows the scores from before a refinement."""
    card = design_card(document, design)
    if design.refined:
        card += "\nIts factors were refined when all plans were evaluated: the scores of the trial are those before.\n"
    return card


def _broken(command: str) -> list[str]:
    """Return a shell's command in lines, an option on each."""
    lines: list[list[str]] = [[]]
    for word in shlex.split(command):
        if word.startswith("--"):
            lines.append([])
        lines[-1].append(word)
    return " \\\n  ".join(map(shlex.join, lines)).split("\n")


def _row(design: DesignFacts, document: Document, trials: Mapping[str, int]) -> tuple[str, ...]:
    value = shown_value(design, document)
    return (
        str(trials[design.id]),
        code(design.id) + (" \\*" if design.model else ""),
        role_of(design, document),
        kib_text(design.weight_bytes),
        *("" if us is None else latency_text(us.us, document.meter.kind) for us in map(design.latency.at, REGIMES)),
        "unknown" if value is None else f"{100 * value:.2f}",
    )


def _trial(design: DesignFacts, trials: Mapping[str, int]) -> str:
    return f", trial {trials[design.id]}" if design.id in trials else ""


def _trials(queue: Queue) -> dict[str, FrozenTrial]:
    """Return the finished trials by their designs' ids."""
    every = queue.optuna_study.get_trials(deepcopy=False)
    return {str(found.attrs["id"]): every[found.number] for found in queue.snapshot().finished.values()}


def _write_notes(
    study: optuna.Study,
    document: Document,
    entries: list[DesignFacts],
    trials: Mapping[str, FrozenTrial],
    shown: dict[str, str],
) -> None:
    """Write the cards of study and trials where they are new or others than before; enter their digests in `shown`."""
    import optuna

    listed = {design.id for design in (document.original, *document.designs)}
    for design in entries:
        trial = trials[design.id]
        key = f"trial {trial.number}"
        # What was listed once has a card, and is to have the card of what it is now.
        if design.id in listed or key in shown:
            text = trial_card(document, design)
            if shown.get(key) != _digest(text):
                _write_note(optuna.Trial(study, trial._trial_id), text, shown.get(key))
                shown[key] = _digest(text)
    text = study_card(document, {identity: trial.number for identity, trial in trials.items()})
    if shown.get("study") != _digest(text):
        _write_note(study, text, shown.get("study"))
        shown["study"] = _digest(text)


def _write_note(place: optuna.Study | optuna.Trial, text: str, ours: str | None) -> None:
    """Write a note, unless there is one that a person wrote or changed: not the one of digest `ours`."""
    from optuna_dashboard import get_note, save_note  # type: ignore[import-untyped,unused-ignore]

    now = get_note(place)
    if now != text and (not now or _digest(now) == ours):
        save_note(place, text)


def _write_figures(study: optuna.Study, document: Document, shown: dict[str, str]) -> None:
    for name, make in (("deciding", deciding_figure), ("pareto", pareto_figure), ("funnel", funnel_figure)):
        figure = make(document)
        # Half as wide as a page of our own, where a legend above would lie over the title.
        figure.update_layout(legend={"y": -0.2, "yanchor": "top"}, margin={"l": 64, "r": 24, "t": 56, "b": 96})
        if shown.get(name) != (digest := _digest(figure.to_json())):
            from optuna_dashboard import save_plotly_graph_object

            save_plotly_graph_object(study, figure, graph_object_id=name)
            shown[name] = digest


def _attach(study: optuna.Study, trial: FrozenTrial, folder: Path, store: Path) -> None:
    """Make the files of a design's folder artifacts of its trial.

    Optuna attaches nothing to a trial that is finished, and which designs are kept is known only at the end. But
    optuna-dashboard also reads artifacts of trials from attributes of the study, as its first versions wrote them.
    """
    storage, of = study._storage, study._study_id
    prefix = f"dashboard:artifacts:{trial._trial_id}:"
    known = {
        key: meta
        for key, value in storage.get_study_system_attrs(of).items()
        if key.startswith(prefix) and (meta := json.loads(value))
    }
    for name, mimetype in _TYPES.items():
        if not (path := folder / name).is_file():
            continue
        sha256 = _hash(path)
        artifact = _artifact(study, trial, name, sha256)
        if _hash(store / artifact) != sha256:
            _place(path, store / artifact)
        for key, meta in known.items():
            if meta["filename"] == name and meta["artifact_id"] != artifact:
                storage.set_study_system_attr(of, key, json.dumps(None))
                _remove_artifact(study, trial, name, store / Path(str(meta["artifact_id"])).name)
        if prefix + artifact not in known:
            meta = {"artifact_id": artifact, "filename": name, "mimetype": mimetype, "encoding": None}
            storage.set_study_system_attr(of, prefix + artifact, json.dumps(meta))


def _place(source: Path, path: Path) -> None:
    """Make `path` a file of the same content by rename: a second name of `source` where that works, else a copy."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(path.parent) as temporary:
        made = temporary / "file"
        try:
            os.link(source, made)
        except OSError:
            shutil.copyfile(source, made)
        os.replace(made, path)


def _artifact(study: optuna.Study, trial: FrozenTrial, name: str, sha256: str) -> str:
    """Return the id of a design's file as an artifact, by its content."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{study.study_name}\n{trial.number}\n{name}\n{sha256}"))


def _remove_artifact(study: optuna.Study, trial: FrozenTrial, name: str, path: Path) -> None:
    """Remove an artifact that an earlier run placed; a study may name any file, but ours have the name of content."""
    if path.name == _artifact(study, trial, name, _hash(path)):
        with suppress(OSError):
            path.unlink()


def _hash(path: Path) -> str:
    """Return the digest of a regular file; "" where there is none."""
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
