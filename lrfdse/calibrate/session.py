"""Designs on a board: the programs of an output folder run there, beside what the model meter says of them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrfdse.base.events import Event, Listener, silent
from lrfdse.base.files import sole_writer, write_atomically
from lrfdse.base.store import Store
from lrfdse.base.temporary import temporary_folder
from lrfdse.board.result import BoardRun, board_line, read_run
from lrfdse.calibrate.terms import counted_terms
from lrfdse.deploy.designs import BENCH
from lrfdse.errors import InputError, ToolError
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

_NO_DESIGN = ""
"""The design's id in a program that has no kernels and only describes the board."""
_NOTE = "on the board: "
_PROBE_TIMEOUT = 120.0
"""Most seconds that a board may take to answer for the first time, waking up included; chosen, not measured."""


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """How a board measures; None leaves the choice to the program."""

    repeats: int | None = None
    """Samples of each kernel in each cache regime."""
    min_time_ms: int | None = None
    """Least duration of one warm sample."""
    core: int | None = None
    """Number of the processor to stay on."""
    timeout: float = 600.0
    """Seconds for one design, the way to the board and back included."""

    @property
    def arguments(self) -> list[str]:
        """The program's command line."""
        given = {"--repeats": self.repeats, "--min-time": self.min_time_ms, "--core": self.core}
        return [word for name, value in given.items() if value is not None for word in (name, str(value))]


def open_board(template: str | None, target: Target) -> Transport | None:
    """Return the way to a board after it was gone once, or None without a template: a search is long.

    Raises
    ------
    InputError
        The template is no command, and names no runner.
    ToolError
        The board cannot be reached, or does not run programs for `target`.
    """
    if template is None:
        return None
    from lrfdse.board.transport import open_transport

    runner = open_transport(template)
    describe_board(runner, target)
    return runner


def measured_on(
    runner: Transport | None, folder: Path, ids: Sequence[str], target: Target, cache: Store, progress: Listener
) -> tuple[dict[str, BoardRun], ToolError | None]:
    """Return what a board took for designs, ``board.json`` written; or what failed, and nothing written."""
    if runner is None:
        return {}, None
    try:
        runs = run_designs(folder, ids, runner, target, BenchOptions(), progress)
        if runs:
            write_record(folder, runs, target, cache, progress)
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


def describe_board(runner: Transport, target: Target) -> Mapping[str, Any]:
    """Run a program without kernels on the board and return the board's description.

    Raises
    ------
    ToolError
        The board cannot be reached, or does not run programs for `target`.
    """
    from lrfdse.deploy.bench_program import build_program

    with temporary_folder() as folder:
        program = folder / BENCH
        program.write_bytes(build_program((), target, _NO_DESIGN))
        program.chmod(0o755)
        ended = runner.run(program, timeout=_PROBE_TIMEOUT)
    return read_run(ended, runner.name, _NO_DESIGN, target.name).board


def run_designs(
    folder: Path, ids: Sequence[str], runner: Transport, target: Target, options: BenchOptions, progress: Listener
) -> list[BoardRun]:
    """Run the programs of designs of an output folder, one after another.

    Raises
    ------
    ToolError
        The board cannot be reached, or a kernel crashed or computed wrong numbers there.
    """
    found = []
    for done, identity in enumerate(ids):
        progress(Event("board", identity, done, len(ids)))
        program = folder / "designs" / identity / BENCH
        if not program.is_file():
            progress(Event("note", f"design {identity} has no program for a board: left out"))
            continue
        ended = runner.run(program, options.arguments, options.timeout)
        run = read_run(ended, runner.name, identity, target.name)
        _check_kernels(run, program.read_bytes(), runner.name)
        found.append(run)
    progress(Event("board", "", len(ids), len(ids)))
    return found


def write_record(
    folder: Path, runs: Sequence[BoardRun], target: Target, cache: Store, progress: Listener
) -> dict[str, Any]:
    """Write ``board.json`` of at least one run and return its content.

    Raises
    ------
    ToolError
        A tool of the model meter is missing or failed.
    """
    from lrfdse.calibrate.record import record_document

    terms: dict[tuple[KernelSpec, str], Terms] = {}
    versions: dict[str, str] = {}
    if not target.is_native:
        from lrfdse.meters.meter import open_meter

        meter = open_meter("model", target)
        kernels = [(kernel.spec, kernel.schedule) for run in runs for kernel in run.kernels]
        terms = counted_terms(kernels, target, meter.key(), cache, progress)
        versions = meter.versions()
    document = record_document(runs, target, terms, versions)
    write_atomically(folder / RECORD, json.dumps(document, indent=1) + "\n")
    return document


def bench(
    folder: Path, runner: Transport, options: BenchOptions, cache: Path, progress: Listener = silent
) -> tuple[Document, list[BoardRun]]:
    """Run the kept designs of a finished exploration on a board; write ``board.json`` and add to ``front.json``.

    Returns
    -------
    The document with the board's numbers, and the runs.

    Raises
    ------
    InputError
        The folder holds no usable ``front.json`` or no programs, or its target has changed.
    ToolError
        The board cannot be reached, or a kernel crashed or computed wrong numbers there.
    """
    from lrfdse.targets.catalog import load_target

    document = read_document(folder)
    source = document.target.source or document.target.name
    target = load_target(str(folder / source) if source.endswith(".toml") else source)
    known = {design.id for design in document.every_design()}
    if noun_digest(target) != document.target.digest:
        raise InputError(f"target {source}: not the target that was explored (its digest differs); explore again")
    ids = sorted(path.parent.name for path in (folder / "designs").glob(f"*/{BENCH}") if path.parent.name in known)
    if not ids:
        raise InputError(
            f"{folder / 'designs'}: holds no program for a board; explore again, or `lrfdse export {folder} ID`"
        )
    with sole_writer(folder):
        runs = run_designs(folder, ids, runner, target, options, progress)
        write_record(folder, runs, target, Store(cache), progress)
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
    return document, runs


def _check_kernels(run: BoardRun, program: bytes, command: str) -> None:
    """Refuse numbers of kernels that the program does not hold: a copy of an earlier one lay on the board."""
    from lrfdse.deploy.bench_data import kernel_members

    for kernel in run.kernels:
        if kernel_members(kernel.layer, kernel.use, kernel.spec, kernel.schedule) not in program:
            raise ToolError(
                f"--runner: `{command}` ran another program than design {run.design}'s of now: it has no "
                f"{kernel.spec} as {kernel.schedule}"
            )
