"""Running the benchmark: rows from the cache or from worker processes, case by case."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Container, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TypeVar

from benchmarks.kernels import host
from benchmarks.kernels.arrays import Arrays, arrays
from benchmarks.kernels.foreign import Built, Runtime
from benchmarks.kernels.layers import Case
from benchmarks.kernels.peaks import Peaks, bound, place
from benchmarks.kernels.peers import (
    DIRECT,
    IREE_DEFAULT,
    OURS,
    OURS_NARROW,
    ROW_SECONDS,
    Peer,
    build,
    build_ours,
    measure_emulated,
    meter_of,
    peer_key,
    peers,
)
from benchmarks.kernels.rows import Row, RowCache, failed, key_of
from benchmarks.kernels.table import IREE_BEST, Result, geometric_mean
from benchmarks.keys import code
from lrfdse.base.processes import end_with_parent
from lrfdse.targets.catalog import load_target
from lrfdse.targets.target import Target

T = TypeVar("T")
BEST = 2
"""Variants of IREE beside its default that go on from the quick run."""


@functools.lru_cache(maxsize=1)
def numbers_of(case: Case) -> Arrays:
    """Return a case's arrays; the latest are kept, because all peers of a case come in a row."""
    return arrays(case)


def emulated_row(peer: Peer, case: Case, target: str) -> Row:
    """Return one row of an emulated target; runs in a worker process."""
    return measure_emulated(peer, case, numbers_of(case), load_target(target))


def built(peer: Peer, case: Case, target: str) -> Built | Runtime | Row:
    """Return one peer of a case of the host; runs in a worker process."""
    return build(peer, case, numbers_of(case), load_target(target))


class Bench:
    """The rows that are there, and the processes that make others.

    Parameters
    ----------
    cache
        Finished rows.
    jobs
        Processes.
    groups
        Peers that take part beside ours; None for all.
    kept
        Whether modelled rows that are not there are left out instead of made.
    """

    def __init__(self, cache: RowCache, jobs: int, groups: Container[str] | None = None, kept: bool = False) -> None:
        self._cache = cache
        self._jobs = jobs
        self._groups = groups
        self._kept = kept
        self._pool: ProcessPoolExecutor | None = None
        self._begun = time.monotonic()

    def close(self) -> None:
        """End the worker processes."""
        if self._pool:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def emulated(self, target: Target, listed: Sequence[Case], direct: tuple[Peer, ...]) -> list[Result]:
        """Return every case's rows on an emulated target, each peer for itself."""
        meter = meter_of(target).key()
        results = []
        for i, case in enumerate(listed):
            rows: dict[str, Row] = {}
            taking_part = peers(target, direct, self._groups)
            keys = {peer: key_of(case, target, peer_key(peer, target), meter) for peer in taking_part}
            tasks: dict[Peer, functools.partial[Row]] = {}
            for peer, key in keys.items():
                if (known := self._cache.get(key)) is not None:
                    rows |= known
                elif not self._kept:
                    tasks[peer] = functools.partial(emulated_row, peer, case, target.name)
            for peer, row in self._done(tasks):
                rows[peer.name] = row
                self._cache.put(keys[peer], {peer.name: row})
            ordered = {peer.name: rows[peer.name] for peer in keys if peer.name in rows}
            if not ordered:
                continue
            results.append(Result(case, target.name, bound(case, target, None), place(case, target, None), ordered))
            self._tell(target, i, len(listed), case, results[-1])
        return results

    def host(self, target: Target, listed: Sequence[Case], direct: tuple[Peer, ...], peaks: Peaks) -> list[Result]:
        """Return every case's rows on the machine at hand, the peers of a case in turns."""
        meter = key_of(meter_of(target).key(), code(host.measure))
        taking_part = peers(target, direct, self._groups)
        results = []
        for i, case in enumerate(listed):
            key = key_of(case, *(peer_key(peer, target) for peer in taking_part), meter)
            if (rows := self._cache.get(key)) is None:
                rows = self._timed(target, case, taking_part)
                self._cache.put(key, rows)
            where = place(case, target, peaks)
            results.append(Result(case, target.name, bound(case, target, peaks), where, rows))
            self._tell(target, i, len(listed), case, results[-1])
        return results

    def _timed(self, target: Target, case: Case, taking_part: Sequence[Peer]) -> dict[str, Row]:
        rows: dict[str, Row] = {}
        made: dict[str, Built | Runtime] = {}
        notes: dict[str, str] = {}
        ours = {OURS: target, OURS_NARROW: load_target("host")}
        tasks = {peer: functools.partial(built, peer, case, target.name) for peer in taking_part if peer not in ours}
        for peer, one in self._done(tasks):
            if isinstance(one, Row):
                rows[peer.name] = one
            else:
                made[peer.name] = one
        # Our kernels are tuned by the clock, so nothing else may run.
        for peer in taking_part:
            if peer in ours:
                tuned = build_ours(case, numbers_of(case), ours[peer])
                if isinstance(tuned, Row):
                    rows[peer.name] = tuned
                else:
                    made[peer.name], notes[peer.name] = tuned[0], tuned[1].note
        rows |= host.measure(made, numbers_of(case), ROW_SECONDS)
        rows |= {name: _noted(rows[name], note) for name, note in notes.items()}
        return {peer.name: rows[peer.name] for peer in taking_part}

    def _done(self, tasks: Mapping[Peer, functools.partial[T]]) -> list[tuple[Peer, T | Row]]:
        """Run tasks in the worker processes; one whose process dies, even alone, fails."""
        done: list[tuple[Peer, T | Row]] = []
        left = dict(tasks)
        try:
            futures = {self._submit(task): peer for peer, task in left.items()}
            for future in as_completed(futures):
                done.append((futures[future], future.result()))
                del left[futures[future]]
        except BrokenProcessPool:
            self._pool = None
        for peer, task in left.items():
            try:
                done.append((peer, self._submit(task).result()))
            except BrokenProcessPool:
                self._pool = None
                done.append((peer, failed("its compiler crashed")))
        return done

    def _submit(self, task: functools.partial[T]) -> Future[T]:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(self._jobs, mp_context=get_context("spawn"), initializer=end_with_parent)
        return self._pool.submit(task)

    def _tell(self, target: Target, index: int, count: int, case: Case, result: Result) -> None:
        best = result.best(IREE_BEST)
        ours = f"{result.ours:.2f} us" if result.ours else "none"
        against = f", IREE's best {best[1].us:.2f} us" if best and best[1].us else ""
        minutes = (time.monotonic() - self._begun) / 60
        print(f"[{minutes:5.1f} min] {target.name} {index + 1}/{count} {case}: ours {ours}{against}", flush=True)


def best_variants(results: Sequence[Result]) -> tuple[Peer, ...]:
    """Return IREE's default and its `BEST` variants of the least geometric mean over factorized cases.

    A variant that has no number where others have one counts as slow as the slowest there.
    """
    factorized = [r for r in results if r.case.is_factorized]

    def cost(peer: Peer) -> float:
        times = []
        for r in factorized:
            known = [us for other in DIRECT if (us := r.rows[other.name].us)]
            if known:
                times.append(r.rows[peer.name].us or max(known))
        return geometric_mean(times) if times else 0.0

    ranked = sorted((peer for peer in DIRECT if peer != IREE_DEFAULT), key=cost)
    return (IREE_DEFAULT, *ranked[:BEST])


def _noted(row: Row, note: str) -> Row:
    return row if row.note else dataclasses.replace(row, note=note)
