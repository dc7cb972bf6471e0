"""``explore --runtime``: the files of the kept designs, timed at the end in the runtime that deploys them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lrfdse.base.events import Event, Listener
from lrfdse.base.files import sole_writer
from lrfdse.calibrate.runtime import bench_runtime
from lrfdse.deploy.forms import forms_of
from lrfdse.errors import InputError, ToolError
from lrfdse.explore.original import original_model
from lrfdse.results.write import write_document
from lrfdse.runtimes.program import RUNTIME_FORMS, RuntimeOptions, check_installed, runtime_name

if TYPE_CHECKING:
    from lrfdse.ir.form import Form
    from lrfdse.results.document import Document
    from lrfdse.results.settings import Settings

_SECONDS = 600.0
"""Seconds that a runtime may take for one design, as of `lrfdse bench`."""


def check_runtime(name: str | None, model: Path, formats: tuple[Form, ...]) -> None:
    """Refuse a runtime that could time nothing at the end of an exploration, before it begins.

    Raises
    ------
    InputError
        There is no such runtime, or no design will be written in its format.
    ToolError
        It is not installed.
    """
    if name is None:
        return
    runtime = runtime_name(name)
    form = RUNTIME_FORMS[runtime]
    if form not in forms_of(model, formats):
        asked = ",".join((*formats, form))
        raise InputError(f"--runtime {runtime} runs model.{form}, which no design would have: add --format {asked}")
    check_installed(runtime)


def time_kept(
    settings: Settings, document: Document, progress: Listener, write_again: Callable[[Document, Path], None]
) -> Document:
    """Time the original and the designs that an exploration wrote out, and return the document with what they took.

    Parameters
    ----------
    settings
        What was asked of the exploration, whose output folder is finished.
    document
        Its document.
    progress
        Told of every design.
    write_again
        Writes the folder's reports from a document.

    Raises
    ------
    ToolError
        The runtime cannot run a model; all else has been written.
    """
    if settings.runtime is None:
        return document
    folder, runtime = settings.output, runtime_name(settings.runtime)
    try:
        document = bench_runtime(folder, RuntimeOptions(runtime), None, _SECONDS, original_model, progress).document
    except InputError as error:
        note = f"nothing was timed in {runtime}: {error}"
        progress(Event("note", note))
        document = dataclasses.replace(document, notes=(*document.notes, note))
        with sole_writer(folder):
            write_document(document, folder)
    except ToolError as error:
        raise ToolError(
            f"{error}; all else was written: go on with `lrfdse bench {folder} --runtime {runtime}`"
        ) from error
    write_again(document, folder)
    return document
