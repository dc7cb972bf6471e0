"""Designs on a board: the programs of an output folder run there, beside what the model meter says of them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrfdse.base.events import Event, Listener, silent
from lrfdse.base.files import sole_writer, write_atomically
from lrfdse.base.store import Store
from lrfdse.base.temporary import temporary_folder
from lrfdse.board.result import BoardRun, board_line
from lrfdse.calibrate.emulation import emulator_sign, first_sign, slowness
from lrfdse.calibrate.programs import BenchOptions, describe_board, run_programs
from lrfdse.calibrate.terms import counted_terms
from lrfdse.deploy.designs import BENCH
from lrfdse.deploy.folders import DESIGNS
from lrfdse.errors import InputError, RoomError, ToolError, WriteError
from lrfdse.ir.kernel import KernelSpec
from lrfdse.results.read import read_document
from lrfdse.results.write import board_of, write_document
from lrfdse.targets.catalog import noun_digest
from lrfdse.targets.eviction import eviction_note
from lrfdse.targets.target import Target

if TYPE_CHECKING:
    from lrfdse.board.transport import Transport
    from lrfdse.calibrate.prediction import Terms
    from lrfdse.results.designs import DesignFacts
    from lrfdse.results.document import Document

RECORD = "board.json"
"""Name of the record in the output folder."""

_NOTE = "on the board: "
_TRIAL = "`lrfdse bench DIR --allow-emulator` tries kernels and runner there, without latencies"


@dataclass(frozen=True, slots=True)
class Session:
    """What became of designs on a board, or under an emulator."""

    document: Document
    """The exploration's, with the board's numbers; as it was where they are an emulator's."""
    runs: tuple[BoardRun, ...]
    record: Mapping[str, Any]
    """Content of ``board.json``; empty where the times are an emulator's."""
    emulator: str
    """What shows that the times are an emulator's; empty where they are a board's."""


Builder = Callable[[Path, str, Path], None]
"""Writes the program of a design: takes the output folder, the design's id, and the file to write."""


def open_board(template: str | None, target: Target) -> Transport | None:
    """Return the way to a board after it was gone once, or None without a template: a search is long.

    Raises
    ------
    InputError
        The template is no command, and names no runner; or it leads to an emulator.
    ToolError
        The board cannot be reached, or does not run programs for `target`.
    """
    if template is None:
        return None
    from lrfdse.board.transport import open_transport

    runner = open_transport(template)
    refuse_emulator(describe_board(runner, target), target)
    return runner


def measured_on(
    runner: Transport | None, folder: Path, ids: Sequence[str], target: Target, cache: Store, progress: Listener
) -> tuple[dict[str, BoardRun], ToolError | None]:
    """Return what a board took for designs, ``board.json`` written; or what failed, and nothing written."""
    if runner is None:
        return {}, None
    try:
        runs = run_programs(_programs(folder, ids), runner, target, BenchOptions(), progress)
        if runs:
            document, emulator = record_of(runs, target, cache, progress)
            _write_record(folder, document, emulator)
    except ToolError as error:
        return {}, error
    return {run.design: run for run in runs}, None


def board_notes(runs: Iterable[BoardRun]) -> list[str]:
    """Return what a reader of a board's numbers must know; nothing without any."""
    first = next(iter(runs), None)
    if first is None:
        return []
    note = eviction_note(first.board.get("largest_cache_bytes"), first.board.get("evicted_bytes"))
    return [
        f"{_NOTE}wall clock over the fully-connected layers, called one after another, median and quartiles of "
        f"{first.repeats} samples; {board_line(first.board)}" + (f"; {note}" if note else "")
    ]


def record_of(runs: Sequence[BoardRun], target: Target, cache: Store, progress: Listener) -> tuple[dict[str, Any], str]:
    """Return the content of ``board.json`` of at least one run, and what shows that it was an emulator's.

    The second is empty where nothing does; where the descriptions do, nothing is modelled and the content is empty.

    Raises
    ------
    ToolError
        A tool of the model meter is missing or failed.
    """
    from lrfdse.calibrate.prediction import predicted
    from lrfdse.calibrate.record import record_document

    if sign := first_sign((run.board for run in runs), target):
        return {}, sign
    terms: dict[tuple[KernelSpec, str], Terms] = {}
    versions: dict[str, str] = {}
    if not target.is_native:
        from lrfdse.meters.meter import open_meter

        meter = open_meter("model", target)
        kernels = [(kernel.spec, kernel.schedule) for run in runs for kernel in run.kernels]
        terms = counted_terms(kernels, target, meter.key(), cache, progress)
        versions = meter.versions()
    took, said = [], []
    for kernel in (kernel for run in runs for kernel in run.kernels if (kernel.spec, kernel.schedule) in terms):
        known = terms[kernel.spec, kernel.schedule]
        took += [kernel.warm.us, kernel.cold.us]
        said += [predicted(known, target, "warm").us, predicted(known, target, "cold").us]
    return record_document(runs, target, terms, versions), slowness(took, said)


def bench(
    folder: Path,
    runner: Transport,
    options: BenchOptions,
    cache: Path,
    progress: Listener = silent,
    build: Builder | None = None,
) -> Session:
    """Run the kept designs of a finished exploration on a board; write ``board.json`` and add to ``front.json``.

    With them run the original and the SVD design of equal size, whether they were kept or not. Where the programs ran
    under an emulator, nothing is written.

    Parameters
    ----------
    folder
        The output folder.
    runner
        The way to the board.
    options
        How to measure.
    cache
        Folder of results that are kept for later runs.
    progress
        Told of every event.
    build
        Makes the program of a design that the folder holds none of; None leaves such designs out.

    Raises
    ------
    InputError
        The folder holds no usable ``front.json`` or no programs, its target has changed, or the runner leads to an
        emulator and `options` do not allow it.
    ToolError
        The board cannot be reached, a kernel crashed or computed wrong numbers there, or all took so long that it was
        an emulator that does not show in the description.
    """
    document = read_document(folder)
    target = explored_target(document, folder)
    known = {design.id for design in document.every_design()}
    ids = sorted(path.parent.name for path in (folder / "designs").glob(f"*/{BENCH}") if path.parent.name in known)
    if not ids:
        raise InputError(
            f"{folder / 'designs'}: holds no program for a board; explore again, or `lrfdse export {folder} ID` of a "
            "design without layers in whole numbers (@qdq) or with a repair (dense+r)"
        )
    if not options.allow_emulator:
        refuse_emulator(describe_board(runner, target), target)
    with sole_writer(folder), temporary_folder() as made:
        programs = _baseline_programs(document, folder, ids, made, build, progress) | _programs(folder, ids)
        runs = run_programs(programs, runner, target, options, progress)
        record, emulator = record_of(runs, target, Store(cache), progress)
        if emulator and options.allow_emulator:
            return Session(document, tuple(runs), {}, emulator)
        _write_record(folder, record, emulator)
        told = {run.design: board_of(run) for run in runs}

        def measured(design: DesignFacts) -> DesignFacts:
            return dataclasses.replace(design, board=told.get(design.id))

        document = dataclasses.replace(
            document,
            notes=(*(note for note in document.notes if not note.startswith(_NOTE)), *board_notes(runs)),
            original=measured(document.original),
            designs=tuple(map(measured, document.designs)),
            dominated=tuple(map(measured, document.dominated)),
        )
        write_document(document, folder)
    return Session(document, tuple(runs), record, "")


def explored_target(document: Document, folder: Path) -> Target:
    """Return the target that was explored, from its file.

    Raises
    ------
    InputError
        It is another one now.
    """
    from lrfdse.targets.catalog import load_target

    source = document.target.source or document.target.name
    target = load_target(str(folder / source) if source.endswith(".toml") else source)
    if noun_digest(target) != document.target.digest:
        raise InputError(f"target {source}: not the target that was explored (its digest differs); explore again")
    return target


def _programs(folder: Path, ids: Iterable[str]) -> dict[str, Path]:
    """Return where an output folder holds the programs of designs."""
    return {identity: folder / DESIGNS / identity / BENCH for identity in ids}


def _baseline_programs(
    document: Document, folder: Path, ids: Sequence[str], made: Path, build: Builder | None, progress: Listener
) -> dict[str, Path]:
    """Make the programs of what designs are compared with, in the folder `made`, where the output folder has none."""
    wanted = {document.original.id: "the original"}
    if document.svd_at_equal_size is not None:
        wanted.setdefault(document.svd_at_equal_size, "SVD of equal size")
    found = {}
    for identity, what in wanted.items():
        if identity in ids or build is None:
            continue
        progress(Event("note", f"{what} was not kept: its program is made for this run"))
        path = made / identity / BENCH
        path.parent.mkdir()
        try:
            build(folder, identity, path)
        except (RoomError, WriteError):
            raise
        except (InputError, ToolError) as error:
            progress(Event("note", f"{what} is not timed: {error}"))
            continue
        found[identity] = path
    return found


def refuse_emulator(board: Mapping[str, Any], target: Target) -> None:
    """Do nothing where a board's description of itself shows no emulator.

    Raises
    ------
    InputError
        It does.
    """
    if sign := emulator_sign(board, target):
        raise InputError(f"--runner: leads to an emulator, not to a board: {sign}; {_TRIAL}")


def _write_record(folder: Path, document: Mapping[str, Any], emulator: str) -> None:
    if emulator:
        raise ToolError(
            f"on the board: {emulator}: an emulator, or no machine that the target describes; nothing is written; "
            + _TRIAL
        )
    write_atomically(folder / RECORD, json.dumps(document, indent=1) + "\n")
