"""Surrogate fronts of layers, listed in processes of their own: it is Python's work, which threads would not share."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from lrfdse.base.interrupts import interrupts_held
from lrfdse.base.processes import end_all, end_with_parent
from lrfdse.explore.layers.fronts import Made, front_work

if TYPE_CHECKING:
    from lrfdse.base.store import Store
    from lrfdse.explore.layers.fits import Fits
    from lrfdse.ir.layer import Layer
    from lrfdse.ir.space import SearchSpace
    from lrfdse.targets.target import Target


@contextmanager
def fronts_beside(
    layers: Sequence[Layer], fits: Fits, space: SearchSpace, target: Target, cache: Store, processes: int
) -> Iterator[Mapping[str, Callable[[], Made]]]:
    """Begin the fronts of layers that the cache does not hold, and give what waits for each, by the layer's name.

    With one process or one front to make there is nothing: then whoever asks makes it. Their spectra must be in the
    cache. What was begun and nobody waits for is ended when the block is left.

    Parameters
    ----------
    layers, fits, space, target, cache
        As for `lrfdse.explore.layers.fronts.surrogate_front`.
    processes
        Fronts that are made at once.
    """
    work = {layer.name: made for layer in layers if (made := front_work(layer, fits, space, target, cache)) is not None}
    if min(processes, len(work)) < 2:
        yield {}
        return
    import multiprocessing

    pool = ProcessPoolExecutor(
        min(processes, len(work)), mp_context=multiprocessing.get_context("spawn"), initializer=start_beside
    )
    with interrupts_held():
        begun = {name: pool.submit(make) for name, make in work.items()}
    try:
        yield {name: partial(_waited, future, work[name]) for name, future in begun.items()}
    finally:
        started = list((pool._processes or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        end_all(started)


def _waited(future: Future[Made], make: Callable[[], Made]) -> Made:
    """Return what a process has made, or make it here where that has died."""
    try:
        return future.result()
    except BrokenProcessPool:
        return make()


def start_beside() -> None:
    """Have a process end when it is told to, or its parent is gone."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    end_with_parent()
