"""The original as a whole model, compiled and timed in a process of its own while its layers are looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lrfdse.base.events import Event, Listener
from lrfdse.base.processes import end_all, interrupts_held
from lrfdse.explore.layers.beside import start_beside
from lrfdse.explore.whole import OriginalWhole, WholeRequest, original_whole

if TYPE_CHECKING:
    from lrfdse.base.store import Store
    from lrfdse.ir.layer import Layer


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
    import multiprocessing

    progress(Event("original", request.model.name))
    pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"), initializer=start_beside)
    with interrupts_held():
        begun = pool.submit(_original, request, layers, may_recommend, cache)

    def waited() -> OriginalWhole:
        try:
            found, notes = begun.result()
        except BrokenProcessPool:
            # Whatever ended it may spare this one.
            return original_whole(request, layers, may_recommend, cache, progress)
        for note in notes:
            progress(note)
        return found

    try:
        yield waited
    finally:
        started = list((pool._processes or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        end_all(started)


def _original(
    request: WholeRequest, layers: Sequence[Layer], may_recommend: bool, cache: Store
) -> tuple[OriginalWhole, list[Event]]:
    """Return the original as a whole model, and what was noted on the way."""
    events: list[Event] = []
    found = original_whole(request, layers, may_recommend, cache, events.append)
    return found, [event for event in events if event.stage == "note"]
