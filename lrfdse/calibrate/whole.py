"""Whole models on a board, operator by operator, beside what the meter says of them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lrfdse.base.events import Event, Listener, silent
from lrfdse.base.files import sole_writer
from lrfdse.base.temporary import temporary_folder
from lrfdse.board.result import WholeRun, read_whole
from lrfdse.calibrate.emulation import first_sign
from lrfdse.calibrate.programs import BenchOptions, describe_board
from lrfdse.calibrate.session import explored_target, refuse_emulator
from lrfdse.errors import InputError, ToolError
from lrfdse.results.designs import DesignFacts, WholeBoard
from lrfdse.results.layers import Latencies
from lrfdse.results.read import FRONT, read_document
from lrfdse.results.write import write_document
from lrfdse.targets.target import Target

if TYPE_CHECKING:
    from lrfdse.board.transport import Transport
    from lrfdse.results.document import Document

_PROGRAM = "bench-whole"
"""Name of the program as it is sent to a board."""

Builder = Callable[[Path, str, Target, Path], None]
"""Writes the program of a design's whole model: takes the output folder, the design's id, the target, and the file."""


@dataclass(frozen=True, slots=True)
class WholeSession:
    """What became of whole models on a board, or under an emulator."""

    document: Document
    """The exploration's, with the board's numbers; as it was where they are an emulator's."""
    runs: tuple[WholeRun, ...]
    emulator: str
    """What shows that the times are an emulator's; empty where they are a board's."""


def bench_whole(
    folder: Path, runner: Transport, options: BenchOptions, build: Builder, progress: Listener = silent
) -> WholeSession:
    """Run the original and every design that has a library as whole models on a board; add to ``front.json``.

    Where the programs ran under an emulator, nothing is written.

    Parameters
    ----------
    folder
        The output folder.
    runner
        The way to the board.
    options
        How to measure.
    build
        Makes the program of a design.
    progress
        Told of every design.

    Raises
    ------
    InputError
        The folder holds no usable ``front.json`` or no library of a whole model, its target has changed, or the runner
        leads to an emulator and `options` do not allow it.
    ToolError
        The board cannot be reached, a library crashed or computed wrong numbers there, or the board is an emulator.
    """
    document = read_document(folder)
    target = explored_target(document, folder)
    chosen = _with_libraries(document, folder)
    if not options.allow_emulator:
        refuse_emulator(describe_board(runner, target), target)
    runs: list[WholeRun] = []
    with sole_writer(folder), temporary_folder() as made:
        for done, design in enumerate(chosen):
            progress(Event("board", design.id, done, len(chosen)))
            program = made / design.id / _PROGRAM
            program.parent.mkdir()
            build(folder, design.id, target, program)
            ended = runner.run(program, options.arguments, options.timeout)
            runs.append(_fitting(read_whole(ended, runner.name, design.id, target.name), design, runner.name))
        progress(Event("board", "", len(chosen), len(chosen)))
        emulator = first_sign((run.board for run in runs), target)
        if emulator and options.allow_emulator:
            return WholeSession(document, tuple(runs), emulator)
        if emulator:
            raise ToolError(f"on the board: {emulator}: an emulator; nothing is written")
        document = _told(document, runs)
        write_document(document, folder)
    return WholeSession(document, tuple(runs), "")


def _with_libraries(document: Document, folder: Path) -> list[DesignFacts]:
    """Return the original, where it was compiled as a whole, and the designs whose libraries are there."""
    kept = [
        design
        for design in document.every_design()
        if design.whole_model.library is not None and (folder / design.whole_model.library).is_dir()
    ]
    first = [document.original] if document.original.whole_model.operators else []
    found = list({design.id: design for design in (*first, *kept)}.values())
    if strange := [design.id for design in found if not re.fullmatch("[0-9a-f]{8}", design.id)]:
        raise InputError(f"{folder / FRONT}: a design cannot be called {strange[0]!r}; explore again")
    if not kept:
        raise InputError(
            f"{folder}: holds no library of a whole model; its notes may say why, "
            "else explore again without --no-library"
        )
    return found


def _fitting(run: WholeRun, design: DesignFacts, command: str) -> WholeRun:
    """Return the run; refuse one of a program with other operators, such as an earlier one that lay on the board."""
    operators = len(design.whole_model.operators)
    if len(run.parts) != 1 + operators:
        raise ToolError(
            f"--runner: `{command}` ran another program than design {design.id}'s of now: "
            f"{len(run.parts) - 1} operators instead of {operators}"
        )
    return run


def _told(document: Document, runs: Sequence[WholeRun]) -> Document:
    boards = {
        run.design: WholeBoard(
            latency=Latencies(warm=run.warm, cold=run.cold),
            operators=tuple(Latencies(warm=warm, cold=cold) for warm, cold in run.parts[1:]),
            repeats=run.repeats,
            max_error=run.max_error,
            description=dict(run.board),
        )
        for run in runs
    }

    def measured(design: DesignFacts) -> DesignFacts:
        found = boards.get(design.id)
        if found is None:
            return design
        return dataclasses.replace(design, whole_model=dataclasses.replace(design.whole_model, board=found))

    return dataclasses.replace(
        document,
        original=measured(document.original),
        designs=tuple(map(measured, document.designs)),
        dominated=tuple(map(measured, document.dominated)),
    )
