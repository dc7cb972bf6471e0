"""The files of a design that was healed, made beside those that are there and put into their places at once."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lrfdse.base.events import Listener
from lrfdse.base.files import folder_below
from lrfdse.base.folders import cache_folder
from lrfdse.base.store import Store
from lrfdse.base.temporary import temporary_folder
from lrfdse.deploy.designs import write_design
from lrfdse.deploy.folders import DESIGNS, LIBRARY, design_folder, manifest, mark
from lrfdse.errors import InputError
from lrfdse.library.build import LibraryOptions, library_of
from lrfdse.library.folder import MANIFEST, check_folder, write_library
from lrfdse.library.make import NO_METER
from lrfdse.results.again import with_design
from lrfdse.results.write import write_document

if TYPE_CHECKING:
    from lrfdse.explore.export import Rebuilt
    from lrfdse.explore.int8 import Int8Forms
    from lrfdse.ir.factors import Factors
    from lrfdse.library.make import Library
    from lrfdse.results.designs import DesignFacts, Int8Facts
    from lrfdse.results.document import Document


def write_healed(
    folder: Path,
    document: Document,
    facts: DesignFacts,
    rebuilt: Rebuilt,
    factors: Mapping[str, Factors],
    content: bytes,
    forms: Int8Forms,
    progress: Listener,
) -> Document:
    """Write a healed design in the place of what it was, and return the folder's document with it, written too.

    Parameters
    ----------
    folder
        The output folder, which the caller holds.
    document
        Its document.
    facts
        What is now known of the design.
    rebuilt
        What the design is made of.
    factors
        The trained factors of its compressed layers.
    content
        The file that keeps them.
    forms
        Makes the int8 form, where the exploration made one.
    progress
        Told of every event.

    Raises
    ------
    InputError
        A file cannot be written.
    """
    int8 = forms.made(facts.id, factors) if rebuilt.int8 else None
    made: Int8Facts | None = forms.facts.get(facts.id)
    if made is not None:
        made = dataclasses.replace(made, model=f"{DESIGNS}/{facts.id}/model.int8.onnx")
    document = with_design(document, dataclasses.replace(facts, int8=made))
    place = design_folder(folder / DESIGNS, facts.id)
    with temporary_folder(folder / DESIGNS) as beside:
        staged = beside / facts.id
        staged.mkdir()
        write_design(
            staged,
            rebuilt.model,
            rebuilt.plan,
            factors,
            rebuilt.schedules,
            rebuilt.target,
            progress,
            exported=True,
            int8=int8,
            healed=content,
            forms=rebuilt.forms,
        )
        library = _library(document, facts, staged / "model.onnx", rebuilt, progress)
        written = manifest(staged)
        assert written is not None
        if library is not None:
            check_folder(place / LIBRARY)
        more = [] if library is None else [f"{LIBRARY}/{name}" for name in (*library.files, MANIFEST)]
        with _undisturbed():
            mark(place, [*written.files, *more], exported=True)
            folder_below(place, "kernels")
            for name in sorted(written.files, key=lambda name: name == "model.onnx"):
                _put(staged / name, place / name)
            if library is not None:
                write_library(place / LIBRARY, library.files, library.last)
            write_document(document, folder)
    return document


def _library(
    document: Document, facts: DesignFacts, model: Path, rebuilt: Rebuilt, progress: Listener
) -> Library | None:
    """Return the C library of the healed model where the folder has one of the design, else None."""
    if facts.whole_model.library is None:
        return None
    options = LibraryOptions(shape=document.settings.shape, meter=facts.whole_model.meter or NO_METER)
    return library_of(model, rebuilt.target, options, Store(cache_folder()), progress)


def _put(made: Path, place: Path) -> None:
    """Move a file into its place; where none was made, there is none then."""
    try:
        if made.exists():
            os.replace(made, place)
        else:
            place.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{place}: cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Have Ctrl-C and SIGTERM wait while files of one design take the place of others: it takes milliseconds."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    # Blocking them in this thread would not do: another one of TensorFlow's takes them then.
    before = {number: signal.signal(number, lambda got, _: waiting.append(got)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if waiting:
            signal.raise_signal(waiting[0])
