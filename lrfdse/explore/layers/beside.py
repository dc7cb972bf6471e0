"""Surrogate fronts of layers, listed in processes of their own: it is Python's work, which threads would not share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from lrfdse.base.pools import process_pool
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
    with process_pool(min(processes, len(work))) as pool:
        begun = {name: pool.submit(make) for name, make in work.items()}
        yield {name: partial(_waited, future, work[name]) for name, future in begun.items()}


def _waited(future: Future[Made], make: Callable[[], Made]) -> Made:
    """Return what a process has made, or make it here where that has died."""
    try:
        return future.result()
    except BrokenProcessPool:
        return make()
