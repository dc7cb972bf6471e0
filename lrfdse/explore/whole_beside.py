"""Whole models that are compiled and timed in a process of their own, while this one does something else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lrfdse.base.events import Event, Listener
from lrfdse.base.pools import process_pool
from lrfdse.base.temporary import temporary_folder
from lrfdse.explore.whole import OriginalWhole, WholeRequest, library_at, original_whole

if TYPE_CHECKING:
    from lrfdse.base.store import Store
    from lrfdse.ir.layer import Layer
    from lrfdse.ir.plan import Design
    from lrfdse.library.make import Library
    from lrfdse.repair.builder import Builder


@contextmanager
def original_beside(
    request: WholeRequest,
    layers: Sequence[Layer],
    may_recommend: bool,
    cache: Store,
    progress: Listener,
    processes: int,
) -> Iterator[Callable[[], OriginalWhole]]:
    """Begin with the original as a whole model, and give what waits for it; see `original_whole`.

    Where a limit may show that there is nothing to search, where it is measured on a clock that others would slow down,
    and with one process, it is done before anything else.

    Parameters
    ----------
    request, layers, may_recommend, cache, progress
        As for `original_whole`; notes are passed on once somebody waits.
    processes
        Processes that may run at once.
    """
    if processes < 2 or request.most_us is not None or request.exclusive or not (request.wanted and may_recommend):
        found = original_whole(request, layers, may_recommend, cache, progress)
        yield lambda: found
        return
    progress(Event("original", request.model.name))
    with process_pool(1) as pool:
        begun: Callable[[], tuple[OriginalWhole, list[Event]]] = pool.submit(
            _original, request, layers, may_recommend, cache
        ).result

        def waited() -> OriginalWhole:
            try:
                found, notes = begun()
            except BrokenProcessPool:
                # Whatever ended it may spare this one.
                return original_whole(request, layers, may_recommend, cache, progress)
            for note in notes:
                progress(note)
            return found

        yield waited


@contextmanager
def designs_beside(
    request: WholeRequest,
    measured: OriginalWhole,
    original: Design,
    designs: Sequence[Design],
    builder: Builder,
    cache: Store,
    processes: int,
) -> Iterator[Mapping[str, Callable[[], Library]]]:
    """Begin with designs as whole models, and give what waits for each, by its id; see `whole_models`.

    There is nothing where the original is none, where the meter must have the machine for itself, or with one process.

    Parameters
    ----------
    request, measured, original, builder, cache
        As for `whole_models`.
    designs
        The recommended design, then others; none where none is recommended.
    processes
        Processes that may run at once.
    """
    # The original is only wanted where it is recommended: then its library is written.
    wanted = [design for place, design in enumerate(designs) if place == 0 or design.id != original.id]
    if processes < 2 or request.exclusive or measured.cost is None or not wanted:
        yield {}
        return
    from lrfdse.formats.onnx import file_content

    with temporary_folder() as here, process_pool(1) as pool:
        found: dict[str, Callable[[], Library]] = {}
        for design in wanted:
            path = request.model
            if design.id != original.id:
                path = here / design.id / "model.onnx"
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(file_content(builder.model_of(design.plan, design.refined)))
            begun = pool.submit(library_at, path, request, cache)
            found[design.id] = partial(_waited, begun, path, request, cache)
        yield found


def _waited(begun: Future[Library], path: Path, request: WholeRequest, cache: Store) -> Library:
    """Return what a process has made, or make it here where that has died."""
    try:
        return begun.result()
    except BrokenProcessPool:
        return library_at(path, request, cache)


def _original(
    request: WholeRequest, layers: Sequence[Layer], may_recommend: bool, cache: Store
) -> tuple[OriginalWhole, list[Event]]:
    """Return the original as a whole model, and what was noted on the way."""
    events: list[Event] = []
    found = original_whole(request, layers, may_recommend, cache, events.append)
    return found, [event for event in events if event.stage == "note"]
