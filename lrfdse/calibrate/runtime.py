"""Whole models in the runtime that the user deploys with: on this machine, or on a board that has it and Python."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lrfdse.base.events import Event, Listener, silent
from lrfdse.base.files import read_regular, sole_writer, write_atomically
from lrfdse.base.processes import FAULTS, run_to_end
from lrfdse.base.temporary import temporary_folder
from lrfdse.calibrate.emulation import emulator_sign
from lrfdse.calibrate.session import explored_target
from lrfdse.deploy.folders import DESIGNS
from lrfdse.errors import InputError, ToolError
from lrfdse.ir.form import FORM_FILES, Form
from lrfdse.meters.host_meter import machine_lock
from lrfdse.results.designs import DesignFacts, RuntimeFacts
from lrfdse.results.read import read_document
from lrfdse.results.write import write_document
from lrfdse.runtimes.program import RUNTIME_FORMS, RuntimeOptions, RuntimeTiming, packed, read_timing

if TYPE_CHECKING:
    from lrfdse.board.transport import Transport
    from lrfdse.results.document import Document

_MOST = 2**31 - 1
"""Bytes that a model's file may have, as of any model."""

Original = Callable[["Document", Path, Form], bytes]
"""Gives the original in a format: takes the document and the output folder."""


@dataclass(frozen=True, slots=True)
class RuntimeSession:
    """What a runtime took for whole models."""

    document: Document
    """The exploration's, with what was measured."""
    timed: tuple[str, ...]
    """Ids of the designs, the original first."""


def bench_runtime(
    folder: Path,
    options: RuntimeOptions,
    runner: Transport | None,
    timeout: float,
    original: Original,
    progress: Listener = silent,
) -> RuntimeSession:
    """Time the original and every kept design that has a file of the runtime's format; add to ``front.json``.

    Parameters
    ----------
    folder
        The output folder.
    options
        How to measure; sizes of inputs are those of the exploration.
    runner
        The way to a board that executes a file by its first line; None means this machine, with this Python.
    timeout
        Seconds for one design.
    original
        Gives the original in the runtime's format.
    progress
        Told of every design.

    Raises
    ------
    InputError
        The folder holds no usable ``front.json``, or no design in the runtime's format.
    ToolError
        The runtime is not installed there or cannot run a model, the board cannot be reached, or it is an emulator.
    """
    document, form = read_document(folder), RUNTIME_FORMS[options.runtime]
    target = None if runner is None else explored_target(document, folder)
    options = dataclasses.replace(options, shape=document.settings.shape)
    files = {design.id: folder / DESIGNS / design.id / FORM_FILES[form] for design in document.every_design()}
    chosen = [identity for identity, path in files.items() if path.is_file() and identity != document.original.id]
    if not chosen:
        wanted = "explore again" if form == "onnx" else f"`lrfdse export {folder} ID --format {form}`"
        raise InputError(f"{folder / DESIGNS}: no design but the original is there as {FORM_FILES[form]}: {wanted}")
    timed: dict[str, RuntimeFacts] = {}
    with sole_writer(folder), temporary_folder() as made:
        for done, identity in enumerate([document.original.id, *chosen]):
            progress(Event("runtime", identity, done, 1 + len(chosen)))
            is_first = identity == document.original.id
            content = (
                original(document, folder, form) if is_first else read_regular(files[identity], _MOST, links=False)
            )
            found = _timed(packed(content, options), made / "timing.pyz", runner, timeout, f"design {identity}")
            if target is not None and (sign := emulator_sign({"cpuinfo": found.cpuinfo}, target)):
                raise ToolError(f"on the board: {sign}: not the target; nothing is written")
            timed[identity] = _facts(found, options, runner is not None)
        progress(Event("runtime", "", 1 + len(chosen), 1 + len(chosen)))
        document = _told(document, timed)
        write_document(document, folder)
    return RuntimeSession(document, tuple(timed))


def _timed(program: bytes, path: Path, runner: Transport | None, timeout: float, what: str) -> RuntimeTiming:
    write_atomically(path, program, 0o777)
    if runner is not None:
        ended = runner.run(path, (), timeout)
        return read_timing(ended.code, ended.output, ended.errors, f"{what} on the board")
    try:
        with machine_lock():
            done = run_to_end([sys.executable, "-P", str(path)], what, FAULTS, errors="replace", timeout=timeout)
    except subprocess.TimeoutExpired as error:
        raise ToolError(f"{what}: no answer after {timeout:g} s; give more by --timeout") from error
    return read_timing(done.returncode, done.stdout, done.stderr, what)


def _facts(found: RuntimeTiming, options: RuntimeOptions, is_board: bool) -> RuntimeFacts:
    return RuntimeFacts(
        runtime=options.runtime,
        package=found.package,
        version=found.version,
        where="board" if is_board else "this machine",
        machine=found.machine,
        threads=options.threads,
        repeats=options.repeats,
        latency=found.latency,
        cpu_us=found.cpu_us,
    )


def _told(document: Document, timed: dict[str, RuntimeFacts]) -> Document:
    def measured(design: DesignFacts) -> DesignFacts:
        whole = design.whole_model
        new = timed.get(design.id)
        kept = [
            each for each in whole.runtimes if new is None or (each.runtime, each.where) != (new.runtime, new.where)
        ]
        found = tuple([*kept, *([] if new is None else [new])])
        return dataclasses.replace(design, whole_model=dataclasses.replace(whole, runtimes=found))

    return dataclasses.replace(
        document,
        original=measured(document.original),
        designs=tuple(map(measured, document.designs)),
        dominated=tuple(map(measured, document.dominated)),
    )
