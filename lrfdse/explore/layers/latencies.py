"""Kernels compiled and measured in parallel processes, each once for all layers, models and runs."""

from __future__ import annotations

import dataclasses
import signal
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lrfdse.base.codec import from_plain
from lrfdse.base.events import Event, Listener
from lrfdse.base.keys import code_key, result_key
from lrfdse.base.processes import end_all, end_with_parent, interrupts_held
from lrfdse.errors import KernelError
from lrfdse.ir.kernel import KernelSpec, Schedule
from lrfdse.ir.latency import Latency, Measurement
from lrfdse.meters.meter import METERS, open_meter
from lrfdse.targets import isa
from lrfdse.targets.catalog import noun_digest
from lrfdse.targets.target import Target

if TYPE_CHECKING:
    from lrfdse.base.store import Store
    from lrfdse.meters.meter import Meter


@dataclass(frozen=True, slots=True)
class MeasuredKernel:
    """A kernel's best schedule with its measurement, or the reason why there is none."""

    schedule: str = ""
    measurement: Measurement | None = None
    failure: str = ""


def measure_kernels(
    specs: Iterable[KernelSpec], target: Target, meter: Meter, cache: Store, workers: int, tell: Listener
) -> dict[KernelSpec, MeasuredKernel]:
    """Return every spec's measurement; what the cache knows costs nothing, what fails is marked and passed over.

    An exclusive meter, such as one that reads a wall clock, gets one process and the machine to itself.
    """
    wanted = list(dict.fromkeys(specs))
    keys, name = _keys(wanted, target, meter), meter.name
    found = {spec: known for spec in wanted if (known := cache.get("kernels", keys[spec], _stored)) is not None}
    tell(Event("kernels", "", len(found), len(wanted)))
    processes = 1 if meter.exclusive else workers
    while rest := [spec for spec in wanted if spec not in found]:
        try:
            for spec, kernel in _measured(rest, min(processes, len(rest)), target, name):
                found[spec] = kernel
                # A failure may be the machine's (load, memory), so it is not remembered for other runs.
                if kernel.measurement is not None:
                    cache.put("kernels", keys[spec], dataclasses.asdict(kernel))
                text = f"{spec}: {kernel.failure}" if kernel.failure else str(spec)
                tell(Event("kernels", text, len(found), len(wanted)))
        except BrokenProcessPool:
            unfinished = [spec for spec in rest if spec not in found]
            if processes == 1 and unfinished:
                found[unfinished[0]] = MeasuredKernel(failure="its process died while compiling it (out of memory?)")
            processes = 1
    return found


def _measured(
    specs: list[KernelSpec], processes: int, target: Target, meter: str
) -> Iterator[tuple[KernelSpec, MeasuredKernel]]:
    """Yield every kernel as it is done; with one process, in order.

    Raises
    ------
    BrokenProcessPool
        A process died. What was done before has been yielded; with one process, the next spec was the culprit.
    """
    with _pool(processes, target, meter) as pool:
        with interrupts_held():
            futures = {pool.submit(_measure, spec): spec for spec in specs}
        left = set(futures)
        try:
            for future in as_completed(futures):
                if not isinstance(future.exception(), BrokenProcessPool):
                    left.discard(future)
                    yield futures[future], future.result()
        except BaseException:
            _stop(pool)
            raise
        if left:
            raise BrokenProcessPool(f"{len(left)} kernels were not measured")


_worker: dict[str, Any] = {}
"""What a worker process opens once: its target and its meter."""


def _pool(workers: int, target: Target, meter: str) -> ProcessPoolExecutor:
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(target, meter))


def _start_worker(target: Target, meter: str) -> None:
    # SystemExit lets them clean up behind themselves.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    end_with_parent()
    _worker.update(target=target, name=meter)


def _stop(pool: ProcessPoolExecutor) -> None:
    """End the workers now: a kernel under way is lost, all finished ones are in the cache."""
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    end_all(processes)


def _measure(spec: KernelSpec) -> MeasuredKernel:
    from lrfdse.tune import best_kernel

    # Opened here, not at the process's start: an error there would reach the parent as a process that died.
    if "meter" not in _worker:
        _worker["meter"] = open_meter(_worker["name"], _worker["target"])
    try:
        artifact, measurement = best_kernel(spec, _worker["target"], _worker["meter"])
    except KernelError as error:
        return MeasuredKernel(failure=str(error))
    return MeasuredKernel(str(artifact.schedule), measurement)


def _keys(specs: Iterable[KernelSpec], target: Target, meter: Meter) -> dict[KernelSpec, str]:
    from lrfdse.tune import best_kernel

    common = {
        "code": code_key(best_kernel),
        "target": noun_digest(target),
        "isa": isa.REGISTRY.identity(target.isa),
        "meter": (METERS.identity(meter.name), meter.key()),
    }
    return {spec: result_key("kernels", spec=str(spec), **common) for spec in specs}


def _stored(known: Any) -> MeasuredKernel:
    """Return a kernel as the cache keeps it."""
    stored, schedule = known["measurement"], known["schedule"]
    warm, cold = (from_plain(Latency, stored[regime]) for regime in ("warm", "cold"))
    # Raises where it is none.
    Schedule.parse(schedule)
    measurement = Measurement(
        str(stored["meter"]), warm, cold, float(stored["max_error"]), dict(stored["details"].items())
    )
    return MeasuredKernel(schedule, measurement, "")
